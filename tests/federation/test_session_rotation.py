"""Certificates, keys and roots are renewed under load: nothing asked is lost, nothing shown grows stale."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from session_parts import EXCHANGE, OPERATORS, Domain, Host, Pki, agent, broker, same_view, until

from domain_twin.agent.session import Asked, Retry
from domain_twin.config import IdentityConfig
from domain_twin.errors import CredentialError
from domain_twin.model import Level, Severity
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import Identity, RenewingIdentity, identity_files, load_identity
from domain_twin.trust.identity import Role
from domain_twin.trust.roots import TrustBundle
from federation.v1 import fedtwin_pb2 as pb

SHORT = timedelta(seconds=5)
PATIENT = Retry(first_s=0.05, most_s=0.2, slow_s=60)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


async def write_badly(new: IdentityConfig, into: IdentityConfig, rng: random.Random) -> None:
    """Replace files as a careless script does: in place, in halves, in any order, with pauses."""
    pairs = list(zip(identity_files(new), identity_files(into), strict=True))
    rng.shuffle(pairs)
    for source, target in pairs:
        content = source.read_bytes()
        with target.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            await asyncio.sleep(0.02)
            file.write(content[len(content) // 2 :])
        await asyncio.sleep(0.05)


class Counting(Domain):
    """Counts how often each question was worked on."""

    def __init__(self) -> None:
        super().__init__(ring=256)
        self.worked: Counter[str] = Counter()

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        self.worked[body.segments[0].source] += 1
        await asyncio.sleep(0.005)  # so that some are always under way
        return await super().evaluate(ask, body)


@dataclass
class Load:
    """Asks without end, each different, and changes of the view."""

    host: Host
    domain: Counting
    answered: Counter[str] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, worker: int) -> None:
        number = 0
        while not self.stop.is_set():
            name = f"{worker}-{number}"
            body = pb.EvaluateAsk(segments=[pb.SegmentAsk(source=name)])
            answer = await self.host.sessions["ran"].ask(body, timeout_s=20)
            assert answer.segments[0].source == name
            self.answered[name] += 1
            number += 1

    async def change(self) -> None:
        while not self.stop.is_set():
            self.domain.change()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def load(host: Host, domain: Counting):
    load = Load(host, domain)
    async with asyncio.TaskGroup() as tasks:
        for worker in range(8):
            tasks.create_task(load.ask(worker))
        tasks.create_task(load.change())
        try:
            yield load
        finally:
            load.stop.set()


async def test_no_ask_is_lost_while_both_sides_renew_their_certificates(pki: Pki, tmp_path: Path) -> None:
    rng = random.Random(3)
    host, domain = Host(watch=Level.MESH), Counting()
    brokers, agents = pki.broker(life=SHORT), pki.agent("ran", folder="a", life=SHORT)
    async with broker(pki, tmp_path, host=host, identity=brokers, heartbeat_s=1, dead_after_s=4) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=agents)
        async with agent(pki, b.address, tmp_path / "s", domain=domain, config=config):
            await until(lambda: "ran" in host.views)
            started = datetime.now(UTC)
            async with load(host, domain) as work:
                for turn in range(5):
                    fresh = Pki.__new__(Pki)
                    fresh.folder, fresh.cas = tmp_path / f"new{turn}", pki.cas
                    await asyncio.gather(
                        write_badly(fresh.agent("ran", life=SHORT), agents, rng),
                        write_badly(fresh.broker(life=SHORT), brokers, rng),
                    )
                    await asyncio.sleep(1.2)
            outlived = datetime.now(UTC) - started > SHORT
            asked = dict(work.answered)
            sessions = {s.session_id for s in host.attachments}
            await until(lambda: same_view(host.views["ran"], domain.view_now))
            assert host.lost_because == []

    assert outlived, "the first certificates ended meanwhile"
    assert len(sessions) >= 4
    assert len(asked) > 500
    assert set(asked.values()) == {1}
    assert domain.worked == asked
    assert domain.snapshots == 1


async def test_a_session_opened_by_its_own_agent_lets_the_older_one_answer(pki: Pki, tmp_path: Path) -> None:
    host, domain = Host(watch=Level.MESH), Counting()
    files = pki.agent("ran", folder="a")
    async with broker(pki, tmp_path, host=host) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=files)
        async with agent(pki, b.address, tmp_path / "s", domain=domain, config=config):
            old = await b.session("ran")
            domain.gate = asyncio.Event()
            slow = asyncio.create_task(old.ask(pb.EvaluateAsk(segments=[pb.SegmentAsk()]), timeout_s=30))
            await until(lambda: domain.worked)

            pki.agent("ran", folder="a")
            new = await until(lambda: host.sessions["ran"] is not old and host.sessions["ran"])
            await asyncio.sleep(0.2)
            assert old.open, "its ask is not answered yet"
            domain.gate.set()
            await slow
            await until(lambda: not old.open)

            assert new.open
            assert host.lost_because == []


async def test_an_ask_on_a_dead_connection_fails_when_its_agent_attached_anew(
    pki: Pki, tmp_path: Path
) -> None:
    async with broker(pki, tmp_path, heartbeat_s=0.3, dead_after_s=60) as b:
        domain = Domain()
        async with agent(pki, b.address, tmp_path / "s", domain=domain) as a:
            old = await b.session("ran")
            domain.gate = asyncio.Event()
            ask = asyncio.create_task(old.ask(pb.EvaluateAsk(), timeout_s=50))
            await until(lambda: domain.asked)
            attachment = a.session._current
            attachment._dispatch = lambda message: None  # says nothing any more, as in a black hole

            attachment.give_way("it seems dead")

            with pytest.raises(ConnectionError, match="a newer session took over"):
                await ask


def spoil(kind: str, pki: Pki, files: IdentityConfig, folder: Path) -> None:
    """Put something into the files that must not be used."""
    if kind == "expired":
        other = pki.agent("ran", folder=folder.name, life=timedelta(seconds=-1))
    elif kind == "of another domain":
        ca = pki.cas[OPERATORS["ran"]].issue(Role.AGENT, "other", folder)
        other = IdentityConfig(
            certificate=ca.certificate,
            key=ca.key,
            signing_certificate=ca.signing_certificate,
            signing_key=ca.signing_key,
        )
    else:
        other = pki.agent("ran", folder=folder.name)
    for source, target in zip(identity_files(other), identity_files(files), strict=True):
        if kind == "key of another certificate" and target == files.certificate:
            continue
        target.write_bytes(source.read_bytes())
    if kind == "rubbish":
        files.certificate.write_text("no certificate")
    elif kind == "missing":
        files.signing_key.unlink()
    elif kind == "readable by all":
        files.key.chmod(0o644)


SPOILED = {
    "expired": "expired at",
    "of another domain": "is the certificate of",
    "key of another certificate": "is not the key of",
    "rubbish": "not a PEM certificate",
    "missing": "cannot be read",
    "readable by all": "others may read this private key",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_cannot_be_used_leaves_the_identity_before_and_is_told(
    kind: str, pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pki.agent("ran", folder="a")
    renewing = RenewingIdentity(
        files, load_identity(files, operator=OPERATORS["ran"], role=Role.AGENT, name="ran")
    )
    before = renewing.current()
    assert renewing.findings("ran") == []

    spoil(kind, pki, files, tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert renewing.current() is before
    finding = renewing.findings("ran")[0]

    assert (finding.code, finding.severity) == ("identity.not-renewed", Severity.WARNING)
    assert "which is in 23 h" in finding.message
    assert SPOILED[kind] in finding.message
    assert [r.message for r in caplog.records] == ["renewed identity not used"], "once, not at every look"
    late = before.not_after + timedelta(seconds=1)
    assert renewing.findings("ran", now=late)[0].severity is Severity.ERROR

    for path in identity_files(files):
        path.unlink(missing_ok=True)
    pki.agent("ran", folder="a")
    assert renewing.current() is not before
    assert renewing.findings("ran") == []


def leaves(identity: Identity) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem) for pem in (identity.tls.chain, identity.signing_chain)]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 1200), st.binary(max_size=8)), min_size=1, max_size=6
    )
)
def test_whatever_lies_in_the_files_the_identity_before_stays(
    steps: list[tuple[int, int, bytes]], shared: tuple[IdentityConfig, list[bytes]]
) -> None:
    files, contents = shared
    for path, content in zip(identity_files(files), contents, strict=True):
        path.write_bytes(content)
    first = load_identity(files, operator=OPERATORS["ran"], role=Role.AGENT, name="ran")
    renewing = RenewingIdentity(files, first)

    for index, cut, rubbish in steps:
        identity_files(files)[index].write_bytes(contents[index][:cut] + rubbish)
        assert leaves(renewing.current()) == leaves(first)
    for path, content in zip(identity_files(files), contents, strict=True):
        path.write_bytes(content)
    assert renewing.current().same_as(first)
    assert renewing.problem == ""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[IdentityConfig, list[bytes]]:
    files = Pki(tmp_path_factory.mktemp("shared")).agent("ran")
    return files, [path.read_bytes() for path in identity_files(files)]


def test_an_end_that_comes_near_is_a_finding(pki: Pki) -> None:
    files = pki.agent("ran", folder="a")
    first = load_identity(files, operator=OPERATORS["ran"], role=Role.AGENT, name="ran")

    finding = RenewingIdentity(files, first).findings("ran", now=first.not_after - timedelta(minutes=90))[0]

    assert finding.code == "identity.ends-soon"
    assert f"expire at {first.not_after:%Y-%m-%d %H:%M:%S} UTC, which is in 90 min" in finding.message


async def test_an_agent_goes_on_with_the_old_certificate_until_its_end_and_then_says_why(
    pki: Pki, tmp_path: Path
) -> None:
    files = pki.agent("ran", folder="a", life=timedelta(seconds=3))
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=files)
        async with agent(pki, b.address, tmp_path / "s", config=config, retry=PATIENT) as a:
            await b.session("ran")
            files.key.write_text("no key")
            await until(lambda: a.session.findings() and a.session._renewing.problem)
            assert a.session.connected
            await until(lambda: b.host.lost_because)

            await until(lambda: isinstance(a.session.error, CredentialError))
            assert "not a PEM certificate with an unencrypted PEM key" in str(a.session.error)
            assert a.session.findings()[0].severity is Severity.ERROR

            pki.agent("ran", folder="a")  # taken up at once, although the next try is a minute away
            await until(lambda: a.session.connected)
            assert a.session.findings() == []


async def test_a_certificate_that_the_broker_does_not_take_is_not_used_while_the_old_one_holds(
    pki: Pki, tmp_path: Path
) -> None:
    files = pki.agent("ran", folder="a")
    stranger = OperatorCA.create(OPERATORS["ran"], tmp_path / "stranger")
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=files)
        async with agent(pki, b.address, tmp_path / "s", config=config, retry=PATIENT) as a:
            await b.session("ran")

            stranger.issue(Role.AGENT, "ran", files.certificate.parent)
            await until(lambda: len(b.host.attachments) == 2)
            await until(lambda: a.session.connected)

            assert "does not know that CA" in a.session.findings()[0].message
            assert b.host.lost_because == []
            assert await b.host.sessions["ran"].ask(pb.DescribeAsk(), timeout_s=5)


async def test_a_reattach_without_a_renewal_is_not_repeated_without_end(pki: Pki, tmp_path: Path) -> None:
    files = pki.agent("ran", folder="a", life=timedelta(seconds=6))
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=files)
        async with agent(pki, b.address, tmp_path / "s", config=config):
            await until(lambda: b.host.lost_because)

    assert 2 <= len(b.host.attachments) <= 4


def both(*roots: Path) -> bytes:
    return b"".join(root.read_bytes() for root in roots)


async def test_a_root_is_rolled_over_without_a_lost_ask(pki: Pki, tmp_path: Path) -> None:
    """Old root, both, new certificates, the new root alone; the broker's operator and the agent's alike."""
    host, domain = Host(watch=Level.MESH), Counting()
    files, brokers = pki.agent("ran", folder="a"), pki.broker()
    old = {name: pki.roots[name].read_bytes() for name in (OPERATORS["ran"], EXCHANGE)}
    new = {name: OperatorCA.create(name, tmp_path / f"new-{name}") for name in old}

    async with broker(pki, tmp_path, host=host, identity=brokers) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "s", identity=files)
        async with agent(pki, b.address, tmp_path / "s", domain=domain, config=config) as a:
            first = await b.session("ran")
            async with load(host, domain) as work:
                for name, ca in new.items():
                    pki.roots[name].write_bytes(old[name] + ca.root.read_bytes())
                new[EXCHANGE].issue(
                    Role.BROKER, "main", brokers.certificate.parent, dns=["localhost", "127.0.0.1"]
                )
                new[OPERATORS["ran"]].issue(Role.AGENT, "ran", files.certificate.parent)
                await until(lambda: host.sessions["ran"] is not first)
                for name, ca in new.items():
                    pki.roots[name].write_bytes(ca.root.read_bytes())
                second = host.sessions["ran"]
                second.reattach("the roots changed")
                await until(lambda: host.sessions["ran"] is not second)
                await asyncio.sleep(0.3)
            asked = dict(work.answered)
            assert host.lost_because == []
            assert a.session.connected

            pki.agent("ran", folder="a")  # of the old root, which nobody trusts any more
            host.sessions["ran"].reattach("have a look")
            await until(lambda: a.session._renewing.problem)
            assert "does not know that CA" in a.session._renewing.problem

    assert set(asked.values()) == {1}
    assert domain.worked == asked


def test_damaged_roots_leave_those_before(pki: Pki) -> None:
    trust = TrustBundle.load(pki.roots)
    issued = pki.agent("ran", folder="a")
    generation = trust.generation

    pki.roots[OPERATORS["core"]].write_text("-----BEGIN CERTIFICATE-----\nrubbish")
    assert not trust.renew()

    assert "trust: the roots of" in trust.problem
    assert trust.verify(issued.certificate.read_bytes())
    assert trust.generation == generation
