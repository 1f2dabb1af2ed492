"""What systemd is told, over a real datagram socket; and that an asked end comes within its bound."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_federation import ROOT, Federation

from domain_twin.operations.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(60)
        yield listening, path


def test_ready_alive_and_stopping_are_told(manager: tuple[socket.socket, str]) -> None:
    listening, path = manager
    environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000", "OTHER": "x"}

    notifier = Notifier.take(environment)
    notifier.ready("agent\nserves")
    notifier.alive()
    notifier.stopping()

    told = [listening.recv(500).decode() for _ in range(3)]
    assert told == ["READY=1\nSTATUS=agent serves", "WATCHDOG=1", "STOPPING=1"]
    assert environment == {"OTHER": "x"}
    assert notifier.watchdog_s == 3.0


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0fedtwin-test-notify")
        listening.settimeout(10)

        Notifier("@fedtwin-test-notify").ready()

        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "5"},
        {"NOTIFY_SOCKET": "/nowhere/x", "WATCHDOG_USEC": "soon", "WATCHDOG_PID": "1"},
    ],
)
async def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier.take(environment)

    async with notifier.beating():
        notifier.ready()
        notifier.stopping()


def test_another_process_watchdog_is_not_ours() -> None:
    assert (
        Notifier.take({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s
        == 0
    )


async def test_the_beat_comes_from_the_event_loop(manager: tuple[socket.socket, str]) -> None:
    listening, path = manager
    async with Notifier(path, watchdog_s=0.2).beating():
        told = [await asyncio.to_thread(listening.recv, 100) for _ in range(3)]

    assert told == [b"WATCHDOG=1"] * 3


@pytest.mark.e2e
def test_a_process_tells_its_manager_and_ends_in_order(
    tmp_path: Path, manager: tuple[socket.socket, str]
) -> None:
    listening, path = manager
    federation = Federation(tmp_path)
    federation.write()
    running = federation.start(
        "broker", environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000", "JOURNAL_STREAM": ""}
    )
    try:
        told = listening.recv(100)
        while told == b"WATCHDOG=1":
            told = listening.recv(100)
        assert told == b"READY=1\nSTATUS=broker serves"
        assert listening.recv(100) == b"WATCHDOG=1"
    finally:
        status = running.end()
    said = [listening.recv(100)]
    while said[-1] == b"WATCHDOG=1":
        said.append(listening.recv(100))
    assert (status, said[-1]) == (0, b"STOPPING=1")


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    code = (
        "import federation.cli.processes as p, asyncio, os, signal, sys, pathlib\n"
        "p.END_WITHIN_S = 0.5\n"
        "async def run(config, *, ready, stopping):\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping)\n"
        "    ready(); os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await asyncio.sleep(600)\n"
        "p.run_process('agent', lambda: run, pathlib.Path('x'), 'info', 'text')\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == 3
    assert "not ended in time" in ended.stderr
