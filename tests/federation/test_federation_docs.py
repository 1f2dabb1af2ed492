"""The contract is documented, and its examples run."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from federation_parts import EXCHANGE, Federation, all_connected, local

from domain_twin.model import EventKind, Outcome
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.v1 import fedtwin_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", ["Federation", "Twin"])
def test_every_rpc_has_a_section(service: str) -> None:
    methods = set(pb.DESCRIPTOR.services_by_name[service].methods_by_name)
    assert methods - set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == set()


def test_every_section_is_about_an_rpc() -> None:
    services = pb.DESCRIPTOR.services_by_name.values()
    methods = {name for service in services for name in service.methods_by_name}
    assert set(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) - methods == set()


def test_every_kind_of_event_is_documented() -> None:
    assert [kind for kind in EventKind if f"`{kind}`" not in PAGE] == []


def test_every_finding_of_the_broker_is_documented() -> None:
    sources = ("registry", "assurance", "broker")
    text = "".join((ROOT / "federation" / f"{name}.py").read_text(encoding="utf-8") for name in sources)
    codes = set(re.findall(r'Finding\(\s*"([a-z.-]+)"', text))
    assert len(codes) > 5
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []


def test_the_outcomes_named_are_words_of_the_model() -> None:
    assert {"ok", "stale", "no data"} <= set(Outcome)


async def run_example(name: str, *arguments: str, profile: Path, lines: int) -> str:
    environment = {**os.environ, "FEDTWIN_AT": str(profile), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / name),
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert child.stdout
    async with asyncio.timeout(60):
        text = b"".join([await child.stdout.readline() for _ in range(lines)])
    if child.returncode is None:
        child.terminate()
    await child.communicate()
    return text.decode()


def write_profile(federation: Federation, broker: Broker) -> Path:
    issued = federation.pki.identity(EXCHANGE, Role.USER, "ann")
    path = federation.folder / "client.toml"
    path.write_text(
        f'address = "{local(broker)}"\nidentity = "spiffe://{EXCHANGE}/broker/main"\n'
        f'root = "{federation.pki.roots[EXCHANGE]}"\n'
        f'certificate = "{issued.certificate}"\nkey = "{issued.key}"\n'
    )
    return path


async def test_the_examples_run(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        profile = write_profile(federation, broker)
        listed = await run_example("find_path.py", profile=profile, lines=1)
        path = await run_example("find_path.py", "ran/cell-1", "edge/app", profile=profile, lines=6)
        wrong = await run_example("find_path.py", "ran/cell-1", "edge/apx", profile=profile, lines=1)
        watched = await run_example("watch_services.py", profile=profile, lines=4)
    assert listed == "Name two of: edge/app ran/cell-1\n"
    assert path.startswith("current: 6.200 ms, 500 Mbit/s free\n  ran ")
    assert wrong.startswith("error: no published end point 'edge/apx': did you mean edge/app?")
    assert watched.startswith("uplink: 6.200 ms, objective met\n")
