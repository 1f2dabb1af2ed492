"""Compiled kernels are never older than their source, wherever it stands, and may be left uncompiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import network, uniform

import domain_twin
from domain_twin.simulation import capacity, jit, passes
from domain_twin.simulation.graph import Demand
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.warm import warm

OUTER = """
from domain_twin.simulation.inner import value
from domain_twin.simulation.jit import kernel

@kernel
def answer():
    return value()

print(answer())
"""
INNER = """
from domain_twin.simulation.jit import kernel

@kernel
def value():
    return {value}
"""


def run(folder: Path, *code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_in_one_file_compiles_the_kernels_of_others_again(tmp_path: Path) -> None:
    package = tmp_path / "domain_twin" / "simulation"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    source = Path(domain_twin.__file__).parent / "simulation" / "jit.py"
    shutil.copy(source, package / "jit.py")
    (package / "outer.py").write_text(OUTER, encoding="utf-8")
    code = ("-c", "import domain_twin.simulation.outer")
    (package / "inner.py").write_text(INNER.format(value=1), encoding="utf-8")
    assert run(tmp_path, *code, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == "1"
    assert list((tmp_path / "cache").rglob("*.nbc"))

    (package / "inner.py").write_text(INNER.format(value=22), encoding="utf-8")

    assert run(tmp_path, *code, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == "22"


UNCOMPILED = """
import numpy as np
from domain_twin.simulation import jit, routing
assert not jit.COMPILED
ends = ([0], [1], [0, 1, 1], [0], [0, 0, 1], [0])
topo = routing.Topology(*(np.array(x, np.int32) for x in ends), np.ones(2, bool))
trees = routing.all_trees(topo, np.ones(1), np.ones(1, bool), ecmp=False)
print(routing.path(topo, trees, 0, 1, ecmp=False))
"""


def test_kernels_run_without_a_compiler(tmp_path: Path) -> None:
    root = Path(domain_twin.__file__).parent.parent
    assert run(root, "-c", UNCOMPILED, NUMBA_DISABLE_JIT="1") == "(0,)"
    hidden = f"import sys\nsys.modules['numba'] = None\n{UNCOMPILED}"
    assert run(root, "-c", hidden) == "(0,)"


@pytest.mark.skipif(not jit.COMPILED, reason="nothing is compiled here")
def test_no_question_waits_for_a_compiler_after_the_warm_up() -> None:
    kernels = (passes.answer, passes.compose, passes.digest, passes.load_edges, passes.settle)
    warm()
    known = [set(kernel.signatures) for kernel in kernels]
    graph = network(2, [(0, 1, 1.0), (1, 0, 1.0)])
    rate = np.array(uniform(graph, 10.0).rate)
    rate.flags.writeable = False  # as arrays are that were received

    Engine(graph, Demand(rate)).solve()
    capacity.assess(graph, Demand(rate), best=False)

    assert all(known)
    assert [set(kernel.signatures) for kernel in kernels] == known
