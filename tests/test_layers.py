"""The import layers of docs/architecture.md, read off the source: lower never imports higher."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# domain_twin's parts, lowest first; parts in one set may not import each other unless ALSO says so.
LAYERS: list[set[str]] = [
    {"errors", "resources"},
    {"operations"},
    {"model"},
    {"config", "alarms"},
    {"trust"},
    {"yang"},
    {"southbound", "datastore"},
    {"mapping"},
    {"semantic", "simulation"},
    {"learning"},
    {"disclosure"},
    {"agent"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
EMULATOR_MAY = {"emulator", "trust", "yang", "errors", "resources", "operations"}
FEDERATION_MAY = {
    "model",
    "operations",
    "alarms",
    "errors",
    "config",
    "resources",
    "trust",
    "simulation",
    "semantic",
    "learning",
}
LEAVES = ("federation.v1", "federation.wire")


def modules(package: str) -> Iterator[Path]:
    return (p for p in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in p.name)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def part_of(name: str) -> str | None:
    """The part of domain_twin that a dotted name belongs to; None for other packages."""
    package, _, rest = name.partition(".")
    return rest.split(".")[0] if package == "domain_twin" and rest else None


def violations() -> Iterator[str]:
    for path in modules("domain_twin"):
        own = path.relative_to(ROOT / "domain_twin").with_suffix("").parts[0]
        for line, name in imports(path):
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            target = part_of(name)
            if own == "emulator":
                if target and target not in EMULATOR_MAY:
                    yield f"{where}: the emulator stands for the physical network"
            elif target == "emulator":
                yield f"{where}: a twin never looks behind its devices' protocols"
            elif target in RANK and own in RANK and target != own and RANK[target] >= RANK[own]:
                yield f"{where}: {own} is not above {target}"
            if name.startswith("federation") and not (own == "agent" and name.startswith(LEAVES)):
                yield f"{where}: only agent may import the contract, and nothing else of federation"
    for path in modules("federation"):
        relative = path.relative_to(ROOT / "federation").with_suffix("").parts
        for line, name in imports(path):
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            target = part_of(name)
            if relative[0] == "cli":
                continue  # the composition root
            if target and target not in FEDERATION_MAY and target != "__version__":
                yield f"{where}: federation knows views, not the inside of a domain"
            if (
                relative[0] in ("v1", "wire")
                and name.startswith("federation.")
                and not name.startswith(LEAVES)
            ):
                yield f"{where}: the contract is a leaf"
            if f"{name}.".startswith("federation.cli."):  # not federation.client
                yield f"{where}: nothing imports the composition root"


def test_lower_layers_never_import_higher_ones() -> None:
    assert list(violations()) == []


@pytest.mark.parametrize("package", ["domain_twin", "federation", "api/twin_api"])
def test_every_module_says_what_it_owns(package: str) -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in modules(package) if not ast.get_docstring(ast.parse(p.read_text()))
    ]

    assert silent == []


def test_every_part_of_domain_twin_has_a_layer() -> None:
    parts = {p.name for p in (ROOT / "domain_twin").iterdir() if p.is_dir() and not p.name.startswith("_")}

    assert parts - RANK.keys() - {"emulator"} == set()
