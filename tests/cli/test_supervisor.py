"""No process of a demo outlives it unless it was kept: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from domain_twin.errors import ConfigError, NotFound, Unreachable
from federation.cli.demo.folder import DemoFolder, Running, alive
from federation.cli.demo.supervisor import Supervisor

SERVES = "from federation.cli import lifeline; import time; lifeline.take().ready(); time.sleep(120)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVES}"
DEMO = """
import asyncio, sys
from pathlib import Path
from federation.cli.demo.folder import DemoFolder
from federation.cli.demo.supervisor import Supervisor

async def main():
    folder = DemoFolder(Path(sys.argv[1])); folder.claim()
    supervisor = Supervisor(folder.path / "logs", inherited=(folder.lock_descriptor,))
    for name, code in (("one", sys.argv[2]), ("two", sys.argv[2])):
        process = await supervisor.start_command(name, [sys.executable, "-c", code])
        await supervisor.ready(process, 30)
    folder.note([p.running for p in supervisor.processes], kept=sys.argv[3] == "keep")
    print(*(p.child.pid for p in supervisor.processes), flush=True)
    if sys.argv[3] == "keep":
        supervisor.keep()
        return
    await asyncio.sleep(120)

asyncio.run(main())
"""


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Pids to be gone at the end, whatever the test did."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def gone(pids: list[int], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_demo(folder: Path, code: str, mode: str, children: list[int]) -> subprocess.Popen[str]:
    demo = subprocess.Popen(
        [sys.executable, "-c", DEMO, str(folder), code, mode], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    children += [int(word) for word in demo.stdout.readline().split()]
    assert len(children) == 2
    return demo


def end(demo: subprocess.Popen[str]) -> None:
    demo.wait(timeout=30)
    assert demo.stdout is not None
    demo.stdout.close()


async def test_a_process_says_when_it_serves_and_ends_when_asked(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    process = await supervisor.start_command("child", [sys.executable, "-c", SERVES])

    await supervisor.ready(process, 30)
    await supervisor.stop()

    assert process.ready_s is not None
    assert process.child.returncode == -signal.SIGTERM


async def test_a_process_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.cli.demo.supervisor.GRACE_S", 0.3)
    supervisor = Supervisor(tmp_path)
    process = await supervisor.start_command("child", [sys.executable, "-c", STUBBORN])
    await supervisor.ready(process, 30)

    await supervisor.stop()

    assert process.child.returncode == -signal.SIGKILL


async def test_a_process_that_fails_to_start_is_quoted(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    process = await supervisor.start_command(
        "broker", [sys.executable, "-c", "raise SystemExit('port in use')"]
    )

    with pytest.raises(Unreachable, match=r"(?s)broker ended by itself \(exit status 1\).*port in use"):
        await supervisor.ready(process, 30)

    await supervisor.stop()


async def test_a_process_that_never_serves_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    process = await supervisor.start_command("agent", [sys.executable, "-c", "import time; time.sleep(60)"])

    with pytest.raises(Unreachable, match="agent was not ready within 0 s"):
        await supervisor.ready(process, 0.3)

    await supervisor.stop()


async def test_a_process_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    process = await supervisor.start_command("agent", [sys.executable, "-c", SERVES])
    await supervisor.ready(process, 30)
    watching = asyncio.create_task(supervisor.watch())
    await asyncio.sleep(0)

    os.kill(process.child.pid, signal.SIGKILL)

    with pytest.raises(Unreachable, match=r"agent ended by itself \(SIGKILL\)"):
        await watching

    await supervisor.stop()


@pytest.mark.parametrize("code", [SERVES, STUBBORN], ids=["gentle", "stubborn"])
def test_killing_the_demo_leaves_no_process(tmp_path: Path, children: list[int], code: str) -> None:
    demo = start_demo(tmp_path / "demo", code, "stay", children)

    demo.kill()

    end(demo)
    assert gone(children)


def test_a_kept_process_outlives_the_demo_and_stop_ends_it(tmp_path: Path, children: list[int]) -> None:
    folder = tmp_path / "demo"
    end(start_demo(folder, SERVES, "keep", children))
    time.sleep(0.5)
    assert all(running(pid) for pid in children)

    with pytest.raises(ConfigError, match="kept running here"):
        DemoFolder(folder).claim()
    count = DemoFolder(folder).stop()

    assert count == 2
    assert gone(children)
    DemoFolder(folder).claim()


def test_a_second_demo_in_the_same_folder_is_refused(tmp_path: Path, children: list[int]) -> None:
    folder = tmp_path / "demo"
    demo = start_demo(folder, SERVES, "stay", children)

    with pytest.raises(ConfigError, match=rf"a demo runs here \(process {demo.pid}\)"):
        DemoFolder(folder).claim(patience_s=0.1)

    demo.kill()
    end(demo)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(ConfigError, match="files that are not a demo's"):
        DemoFolder(tmp_path).claim()

    assert (tmp_path / "thesis.tex").exists()


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long a path for Unix sockets"):
        DemoFolder(tmp_path / ("x" * 120)).claim()


def test_stopping_where_nothing_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no demo runs here"):
        DemoFolder(tmp_path).stop()


def test_another_process_with_the_same_number_is_not_ours() -> None:
    assert not alive(Running("agent", os.getpid(), started=1.0))
