"""One emulated domain, its agent and a broker, as processes: what the tests of operations look at."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role

ROOT = Path(__file__).resolve().parents[2]
BROKER = "spiffe://exchange.example/broker/main"
METRICS = '[metrics]\nlisten = "127.0.0.1:0"\n'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """A process of the product; its output goes to `log`."""

    log: Path
    popen: subprocess.Popen[bytes]

    @classmethod
    def start(cls, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start `fedtwin ARGUMENTS`."""
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "federation.cli", *arguments],
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        return cls(log, popen)

    def end(self, number: int = signal.SIGTERM, within_s: float = 40) -> int:
        """Signal it, wait for its end, return the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(within_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError(f"it did not end:\n{self.text()}") from None
        return self.popen.returncode

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Federation:
    """A folder with everything, and what runs of it."""

    folder: Path
    broker_port: int = field(default_factory=free_port)
    running: dict[str, Process] = field(default_factory=dict)

    @property
    def agent(self) -> Path:
        return self.folder / "core" / "agent.toml"

    @property
    def broker(self) -> Path:
        return self.folder / "exchange" / "broker.toml"

    @property
    def client(self) -> Path:
        return self.folder / "client.toml"

    @property
    def network(self) -> Path:
        return self.folder / "network.toml"

    @property
    def inventory(self) -> Path:
        return self.folder / "devices" / "devices.core.toml"

    @property
    def states(self) -> dict[str, Path]:
        return {
            "agent": self.folder / "core" / "state",
            "broker": self.folder / "exchange" / "state",
            "emulate": self.folder / "devices",
        }

    def write(self) -> None:
        """Make certificates and configuration."""
        core, exchange = self.folder / "core", self.folder / "exchange"
        authority = OperatorCA.create("exchange.example", exchange / "ca")
        authority.issue(Role.BROKER, "main", exchange / "pki", dns=["broker.exchange.example"])
        authority.issue(Role.USER, "ada", self.folder / "client")
        OperatorCA.create("corenova.example", core / "ca").issue(Role.AGENT, "core", core / "pki")
        self.network.write_text(
            'seed = 1\nstate = "devices"\ngnbs = 2\ncells_per_gnb = 1\nhosts = 2\ninterval_ms = 500\n'
            f'domains = ["core"]\n{METRICS}'
        )
        self.agent.write_text(
            f'domain = "core"\noperator = "corenova.example"\nstate = "state"\n'
            f'inventory = ["../devices/devices.core.toml"]\n{METRICS}'
            f'[broker]\naddress = "127.0.0.1:{self.broker_port}"\nserver_name = "broker.exchange.example"\n'
            f'root = "../exchange/ca/root.pem"\nidentity = "{BROKER}"\n'
            '[identity]\ncertificate = "pki/agent-core.pem"\nkey = "pki/agent-core.key"\n'
            'signing_certificate = "pki/agent-core-signing.pem"\nsigning_key = "pki/agent-core-signing.key"\n'
            f'[[agreement]]\nid = "a"\npeer = "{BROKER}"\nactions = ["view", "evaluate", "describe"]\n'
        )
        self.broker.write_text(
            f'operator = "exchange.example"\nlisten = "127.0.0.1:{self.broker_port}"\n'
            f'state = "state"\n{METRICS}'
            '[identity]\ncertificate = "pki/broker-main.pem"\nkey = "pki/broker-main.key"\n'
            'signing_certificate = "pki/broker-main-signing.pem"\n'
            'signing_key = "pki/broker-main-signing.key"\n'
            '[trust]\n"exchange.example" = "ca/root.pem"\n"corenova.example" = "../core/ca/root.pem"\n'
            '[[member]]\ndomain = "core"\noperator = "corenova.example"\n'
            '[[access]]\nsubject = "spiffe://exchange.example/user/*"\n'
        )
        self.client.write_text(
            f'address = "127.0.0.1:{self.broker_port}"\nserver_name = "broker.exchange.example"\n'
            f'identity = "{BROKER}"\nroot = "exchange/ca/root.pem"\n'
            'certificate = "client/user-ada.pem"\nkey = "client/user-ada.key"\n'
        )

    def start(self, kind: str, *options: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start agent, broker or emulate."""
        file = {"agent": self.agent, "broker": self.broker, "emulate": self.network}[kind]
        log = self.folder / f"{kind}.log"
        process = Process.start(log, kind, str(file), *options, environment=environment)
        self.running[kind] = process
        return process

    def address(self, kind: str) -> str:
        """Where a process shows its metrics."""
        return (self.states[kind] / "metrics.address").read_text().strip()

    def get(self, kind: str, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a request to a process."""
        return get(f"http://{self.address(kind)}{path}", **headers)

    def ready(self, kind: str, within_s: float = 60) -> dict[str, Any]:
        """Wait until a process says that it is ready; what it says."""

        def question() -> dict[str, Any] | None:
            if self.running[kind].popen.poll() is not None:
                raise AssertionError(f"{kind} ended:\n{self.running[kind].text()}")
            try:
                status, body = self.get(kind, "/readyz")
            except (OSError, ValueError):
                return None
            return json.loads(body) if status == 200 else None

        return eventually(question, what=f"{kind} ready", within_s=within_s)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.running.values():
            process.end(signal.SIGKILL)


def get(url: str, **headers: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def eventually(question: Any, *, what: str, within_s: float = 60) -> Any:
    """The first answer that is not None. Fails when none comes in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if (answer := question()) is not None:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"within {within_s:g} s there was no {what}")
