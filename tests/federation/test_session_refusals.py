"""Whoever should not attach is told so in one sentence, and a broken peer costs its own session only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from session_parts import (
    EXCHANGE,
    OPERATORS,
    Broker,
    Domain,
    Host,
    Pki,
    agent,
    broker,
    config_of,
    until,
    view_delta,
)

from domain_twin.config import AgentConfig, BrokerAddress, IdentityConfig
from domain_twin.errors import (
    ContractError,
    CredentialError,
    IdentityMismatch,
    NotShared,
    OverCapacity,
    TwinError,
    Unreachable,
)
from domain_twin.model import Level
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import Identity, load_identity, load_tls
from domain_twin.trust.identity import Role
from domain_twin.trust.refusal import error_of
from domain_twin.trust.tls import channel_credentials, server_credentials
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire import statements
from federation.wire.convert import encode_view_delta
from federation.wire.framing import STREAM_OPTIONS, VIEW_TRANSFER

RAN, TRANSPORT = OPERATORS["ran"], OPERATORS["transport"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


async def refusal_of(pki: Pki, config: AgentConfig) -> TwinError:
    """Why an agent with this configuration does not get in."""
    domain = Domain(config.domain)
    async with agent(pki, "", config.state, domain=domain, config=config) as a:
        await until(lambda: a.session.error)
        assert a.session.error
        assert "next try in" in a.statuses[0]
        return a.session.error


class Raw:
    """A peer that writes what it likes, with a valid certificate."""

    def __init__(self, call: Any, identity: Identity) -> None:
        self.call = call
        self.identity = identity
        self.watched = 1
        """Id of the ask for a view."""

    def hello(self, **more: Any) -> pb.AgentMessage:
        fields = {
            "domain": "ran",
            "instance": "i",
            "incarnation": 1,
            "contract_versions": [1],
            "signing_certificate": self.identity.signing_chain,
            "nonce": b"n" * 32,
            **more,
        }
        return pb.AgentMessage(hello=pb.Hello(**fields))

    async def end(self) -> TwinError:
        """The error that the broker ends the call with, after whatever it says before."""
        async with asyncio.timeout(20):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as failure:
                return error_of(failure, "broker")
            failure = grpc.aio.AioRpcError(
                await self.call.code(),
                grpc.aio.Metadata(),
                await self.call.trailing_metadata(),
                details=await self.call.details(),
            )
            return error_of(failure, "broker")


@asynccontextmanager
async def raw(
    pki: Pki,
    address: str,
    config: IdentityConfig,
    *,
    role: Role = Role.AGENT,
    name: str = "ran",
    operator: str = RAN,
) -> AsyncIterator[Raw]:
    identity = load_identity(config, operator=operator, role=role, name=name)
    credentials = channel_credentials(pki.roots[EXCHANGE], identity.tls)
    async with grpc.aio.secure_channel(
        address, credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield Raw(rpc.FederationStub(channel).Attach(), identity)


async def attached(pki: Pki, b: Broker, peer: Raw) -> None:
    await peer.call.write(peer.hello())
    assert (await peer.call.read()).HasField("welcome")
    session = await b.session("ran")
    if session._watch:
        peer.watched = session._watch.ask_id


async def test_unknown_ca_is_named_at_the_agent(pki: Pki, tmp_path: Path) -> None:
    stranger = OperatorCA.create(RAN, tmp_path / "fake").issue(Role.AGENT, "ran", tmp_path)
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "a", identity=config_of(stranger))

        error = await refusal_of(pki, config)

    assert isinstance(error, CredentialError)
    assert "does not know that CA" in str(error)
    assert str(stranger.certificate) in str(error)


async def test_a_broker_under_another_root_is_named(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "a")
        address = BrokerAddress(
            address=b.address, root=pki.roots[TRANSPORT], identity=f"spiffe://{EXCHANGE}/broker/main"
        )

        error = await refusal_of(pki, config.model_copy(update={"broker": address}))

    assert isinstance(error, CredentialError)
    assert f"was not issued under {pki.roots[TRANSPORT]}" in str(error)


async def test_an_expired_certificate_is_named_before_dialling(pki: Pki, tmp_path: Path) -> None:
    expired = pki.agent("ran", folder="expired", life=timedelta(seconds=-1))
    config = pki.agent_config("ran", "localhost:1", tmp_path / "a", identity=expired)

    error = await refusal_of(pki, config)

    assert isinstance(error, CredentialError)
    assert f"{expired.certificate}: expired at" in str(error)


async def test_an_expired_broker_is_named(pki: Pki, tmp_path: Path) -> None:
    life = timedelta(seconds=1.5)
    async with broker(pki, tmp_path, identity=pki.broker(life=life)) as b:
        await asyncio.sleep(2.5)

        error = await refusal_of(pki, pki.agent_config("ran", b.address, tmp_path / "a"))

    pki.broker()
    assert isinstance(error, CredentialError)
    assert "the broker's certificate has expired" in str(error)


async def test_another_broker_of_the_same_operator_is_refused(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b:
        config = pki.agent_config("ran", b.address, tmp_path / "a")
        assert config.broker
        address = config.broker.model_copy(update={"identity": f"spiffe://{EXCHANGE}/broker/other"})

        error = await refusal_of(pki, config.model_copy(update={"broker": address}))

    assert isinstance(error, IdentityMismatch)
    assert "/broker/other presented a signing certificate of" in str(error)


async def test_one_operators_ca_cannot_attach_in_anothers_name(pki: Pki, tmp_path: Path) -> None:
    malicious = OperatorCA.load(pki.cas[RAN].folder)
    malicious.operator = TRANSPORT
    forged = config_of(malicious.issue(Role.AGENT, "transport", tmp_path))
    async with broker(pki, tmp_path) as b:
        error = await refusal_of(
            pki, pki.agent_config("transport", b.address, tmp_path / "a", identity=forged)
        )

        assert isinstance(error, IdentityMismatch)
        assert f"issued by the CA of {RAN}, which may not vouch for {TRANSPORT}" in str(error)
        assert b.guard.refused["IdentityMismatch"] >= 1
        assert b.host.attachments == []


async def test_two_identities_in_one_certificate_are_refused(pki: Pki, tmp_path: Path) -> None:
    ca = OperatorCA.load(pki.cas[RAN].folder)
    issued = ca.issue(Role.AGENT, "ran", tmp_path)
    names = [f"spiffe://{RAN}/agent/ran", f"spiffe://{TRANSPORT}/agent/transport"]
    leaf = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    builder = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, leaf.public_key(), 7, leaf.not_valid_before_utc, leaf.not_valid_after_utc
    )
    for extension in leaf.extensions:
        value: Any = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            value = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(n) for n in names])
        builder = builder.add_extension(value, extension.critical)
    from cryptography.hazmat.primitives import hashes, serialization

    root_key: Any = serialization.load_pem_private_key(ca.root.with_suffix(".key").read_bytes(), None)
    pem = builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    async with broker(pki, tmp_path) as b:
        credentials = grpc.ssl_channel_credentials(
            pki.roots[EXCHANGE].read_bytes(), issued.key.read_bytes(), pem
        )
        async with grpc.aio.secure_channel(b.address, credentials) as channel:
            error = await Raw(rpc.FederationStub(channel).Attach(), None).end()  # type: ignore[arg-type]

    assert isinstance(error, CredentialError)
    assert "has 2 URIs" in str(error)


async def test_an_agents_certificate_cannot_pose_as_the_broker(pki: Pki, tmp_path: Path) -> None:
    insider = config_of(pki.cas[EXCHANGE].issue(Role.AGENT, "insider", tmp_path))
    server = grpc.aio.server()
    rpc.add_FederationServicer_to_server(rpc.FederationServicer(), server)
    port = server.add_secure_port(
        "127.0.0.1:0", server_credentials(insider.certificate, insider.key, pki.trust)
    )
    await server.start()
    try:
        error = await refusal_of(pki, pki.agent_config("ran", f"localhost:{port}", tmp_path / "a"))
    finally:
        await server.stop(0)

    assert isinstance(error, IdentityMismatch)
    assert "is not one for" in str(error)


async def test_nobody_there_is_transient(pki: Pki, tmp_path: Path) -> None:
    error = await refusal_of(pki, pki.agent_config("ran", "localhost:1", tmp_path / "a"))

    assert type(error) is Unreachable
    assert "is the broker running?" in str(error)


async def test_a_user_cannot_open_a_session(pki: Pki, tmp_path: Path) -> None:
    user = config_of(pki.cas[RAN].issue(Role.USER, "ran", tmp_path))
    async with broker(pki, tmp_path) as b, raw(pki, b.address, user, role=Role.USER) as peer:
        await peer.call.write(peer.hello())

        error = await peer.end()

    assert isinstance(error, IdentityMismatch)
    assert "only an agent's certificate opens a session" in str(error)


HELLOS = [
    (
        {"domain": "core"},
        IdentityMismatch,
        "its Hello is for domain 'core', and its certificate for domain 'ran'",
    ),
    ({"contract_versions": [99]}, ContractError, "speaks contract version 99, and this broker 1"),
    ({"contract_versions": []}, ContractError, "speaks contract version none"),
    ({"nonce": b"short"}, ContractError, "nonce of 16 to 64 bytes"),
    ({"instance": ""}, ContractError, "lacks an instance"),
    ({"signing_certificate": b"rubbish"}, CredentialError, "not PEM"),
]


@pytest.mark.parametrize(("changes", "kind", "sentence"), HELLOS, ids=[next(iter(h[0])) for h in HELLOS])
async def test_a_wrong_hello_is_refused(
    changes: dict[str, Any], kind: type[TwinError], sentence: str, pki: Pki, tmp_path: Path
) -> None:
    async with broker(pki, tmp_path) as b, raw(pki, b.address, pki.agent("ran")) as peer:
        await peer.call.write(peer.hello(**changes))

        error = await peer.end()

        assert type(error) is kind
        assert sentence in str(error)
        assert b.host.attachments == []


async def test_a_foreign_signing_certificate_is_refused(pki: Pki, tmp_path: Path) -> None:
    foreign = pki.agent("transport", folder="foreign")
    async with broker(pki, tmp_path) as b, raw(pki, b.address, pki.agent("ran")) as peer:
        await peer.call.write(peer.hello(signing_certificate=foreign.signing_certificate.read_bytes()))

        error = await peer.end()

    assert isinstance(error, IdentityMismatch)
    assert "both certificates of a process must carry one identity" in str(error)


async def test_the_registry_may_refuse(pki: Pki, tmp_path: Path) -> None:
    host = Host(refuse_admission=NotShared("ran: is no member here; add a [[member]] table for it"))
    async with broker(pki, tmp_path, host=host) as b:
        error = await refusal_of(pki, pki.agent_config("ran", b.address, tmp_path / "a"))

    assert isinstance(error, NotShared)
    assert "add a [[member]] table" in str(error)


def signed_view(peer: Raw, **more: Any) -> pb.AgentMessage:
    payload = encode_view_delta(view_delta(1, source=None)).SerializeToString()
    signed = {
        "payload": pb.Body(inline=payload),
        "jws": peer.identity.signer.sign(payload, kind=statements.VIEW_DELTA),
        **more,
    }
    return pb.AgentMessage(view_update=pb.ViewUpdate(ask_id=peer.watched, delta=pb.Signed(**signed)))


async def breaks_the_session(pki: Pki, tmp_path: Path, make: Any) -> tuple[TwinError, str]:
    """What the broker says to a peer that sends `make(peer)`; another domain's session must not notice."""
    host = Host(watch=Level.MESH)
    async with (
        broker(pki, tmp_path, host=host) as b,
        agent(pki, b.address, tmp_path / "t", domain=Domain("transport")),
        raw(pki, b.address, pki.agent("ran")) as peer,
    ):
        other = await b.session("transport")
        await attached(pki, b, peer)

        with contextlib.suppress(grpc.aio.AioRpcError):  # the session may end before all is written
            for message in make(peer):
                await peer.call.write(message)
        error = await peer.end()

        await until(lambda: host.lost_because)
        assert [domain for domain, _ in host.lost_because] == ["ran"]
        assert await other.ask(pb.DescribeAsk(), timeout_s=5)
        return error, host.lost_because[0][1]


BROKEN: dict[str, tuple[Any, str]] = {
    "second hello": (lambda peer: [peer.hello()], "a second Hello"),
    "signature of other bytes": (
        lambda peer: [signed_view(peer, payload=pb.Body(inline=b"other"))],
        "does not hold",
    ),
    "no signature": (lambda peer: [signed_view(peer, jws="")], "does not hold"),
    "statement of another kind": (
        lambda peer: [
            signed_view(
                peer,
                payload=pb.Body(inline=b"x"),
                jws=peer.identity.signer.sign(b"x", kind=statements.ANSWER),
            )
        ],
        "came in the place of",
    ),
    "no payload": (lambda peer: [signed_view(peer, payload=pb.Body())], "without a payload"),
    "oversize chunk": (
        lambda peer: [pb.AgentMessage(chunk=pb.Chunk(transfer_id=VIEW_TRANSFER | 1, data=b"x" * 300_000))],
        "a chunk of 300000 bytes came",
    ),
    "empty chunk": (lambda peer: [pb.AgentMessage(chunk=pb.Chunk(transfer_id=1))], "a chunk of 0 bytes"),
    "transfer that never came": (
        lambda peer: [signed_view(peer, payload=pb.Body(transfer=pb.Transfer(transfer_id=5, bytes=9)))],
        "9 bytes were announced and 0 came",
    ),
    "transfer with another hash": (
        lambda peer: [
            pb.AgentMessage(chunk=pb.Chunk(transfer_id=VIEW_TRANSFER | 1, data=b"x")),
            signed_view(
                peer,
                payload=pb.Body(transfer=pb.Transfer(transfer_id=VIEW_TRANSFER | 1, bytes=1, sha256=b"y")),
            ),
        ],
        "do not have the announced SHA-256",
    ),
    "credit out of nothing": (lambda peer: [pb.AgentMessage(credit=pb.Credit(bytes=1 << 40))], "credit for"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_peer_costs_its_own_session_only(name: str, pki: Pki, tmp_path: Path) -> None:
    make, sentence = BROKEN[name]

    error, reason = await breaks_the_session(pki, tmp_path, make)

    assert sentence in reason
    assert isinstance(error, ContractError)
    assert sentence in str(error)


async def test_a_message_over_the_cap_costs_its_own_session_only(pki: Pki, tmp_path: Path) -> None:
    def oversize(peer: Raw) -> list[pb.AgentMessage]:
        return [peer.hello(software="x" * (2 << 20))]

    error, _ = await breaks_the_session(pki, tmp_path, oversize)

    assert isinstance(error, OverCapacity)


async def test_bytes_that_are_no_message_cost_their_own_session_only(pki: Pki, tmp_path: Path) -> None:
    config = pki.agent("ran")
    identity = load_identity(config, operator=RAN, role=Role.AGENT, name="ran")
    async with (
        broker(pki, tmp_path) as b,
        agent(pki, b.address, tmp_path / "t", domain=Domain("transport")),
        grpc.aio.secure_channel(
            b.address, channel_credentials(pki.roots[EXCHANGE], identity.tls), options=STREAM_OPTIONS
        ) as channel,
    ):
        other = await b.session("transport")
        call = channel.stream_stream("/fedtwin.v1.Federation/Attach")()
        peer = Raw(call, identity)
        await call.write(peer.hello().SerializeToString())
        await call.read()
        await b.session("ran")

        await call.write(b"\xff\xff\xff\xff rubbish")
        await peer.end()

        await until(lambda: b.host.lost_because)
        assert await other.ask(pb.DescribeAsk(), timeout_s=5)


async def test_what_nobody_waits_for_is_dropped(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, raw(pki, b.address, pki.agent("ran")) as peer:
        await attached(pki, b, peer)
        session = await b.session("ran")

        await peer.call.write(pb.AgentMessage(chunk=pb.Chunk(transfer_id=77, data=b"late")))
        await peer.call.write(
            pb.AgentMessage(answer=pb.Answer(ask_id=77, refusal=pb.Refusal(outcome="no path")))
        )
        await peer.call.write(pb.AgentMessage())  # a body of a later version of the contract
        await peer.call.write(signed_view(peer))
        await until(lambda: session.late_messages == 3)

        assert session.framing.inbox.bytes_dropped == 4
        assert session.open


async def test_an_agent_that_ignores_the_limit_of_an_answer_is_cut_short(pki: Pki, tmp_path: Path) -> None:
    async with broker(pki, tmp_path) as b, raw(pki, b.address, pki.agent("ran")) as peer:
        await attached(pki, b, peer)
        session = await b.session("ran")
        ask = asyncio.create_task(session.ask(pb.DescribeAsk(), timeout_s=20, max_answer_bytes=1000))
        while not (message := await peer.call.read()).HasField("ask"):
            pass

        chunk = pb.Chunk(transfer_id=message.ask.id, data=b"x" * 600)
        for _ in range(3):
            await peer.call.write(pb.AgentMessage(chunk=chunk))

        with pytest.raises(OverCapacity, match="larger than the 1000 bytes"):
            await ask
        assert session.open


class FakeBroker(rpc.FederationServicer):  # type: ignore[misc]
    """Has a broker's TLS certificate, and says whatever `welcome` makes of Hello."""

    def __init__(self, welcome: Any) -> None:
        self.welcome = welcome

    async def Attach(self, _requests: Any, context: Any) -> None:
        hello = (await context.read()).hello
        await context.write(pb.BrokerMessage(welcome=self.welcome(hello)))
        await asyncio.sleep(5)


def terms(hello: pb.Hello, **more: Any) -> bytes:
    fields = {
        "session_id": "s",
        "broker": f"spiffe://{EXCHANGE}/broker/main",
        "contract_version": 1,
        "nonce": hello.nonce,
        "heartbeat_ms": 1000,
        "dead_after_ms": 3000,
        "chunk_bytes": 256 << 10,
        "window_bytes": 1 << 20,
        "max_in_flight": 16,
        "max_message_bytes": 1 << 20,
        **more,
    }
    return pb.WelcomeTerms(**fields).SerializeToString()


WELCOMES: dict[str, tuple[dict[str, Any], type[TwinError], str]] = {
    "old nonce": ({"nonce": b"n" * 32}, IdentityMismatch, "answers another Hello"),
    "other broker": ({"broker": f"spiffe://{EXCHANGE}/broker/x"}, IdentityMismatch, "is that of spiffe://"),
    "other version": ({"contract_version": 7}, ContractError, "which this agent did not offer"),
    "chunk above window": ({"window_bytes": 1024}, ContractError, "cannot work"),
    "no heartbeat": ({"heartbeat_ms": 0}, ContractError, "a heartbeat of 0 ms"),
}


@pytest.mark.parametrize("name", [*WELCOMES, "unsigned", "signed by an agent"])
async def test_a_welcome_that_is_not_the_brokers_is_refused(name: str, pki: Pki, tmp_path: Path) -> None:
    files = pki.broker()
    identity = load_identity(files, operator=EXCHANGE, role=Role.BROKER, name="main")
    changes, kind, sentence = WELCOMES.get(name, ({}, ContractError, "does not hold"))
    chain = identity.signing_chain
    if name == "signed by an agent":
        issued = config_of(pki.cas[EXCHANGE].issue(Role.AGENT, "insider", tmp_path))
        identity = load_identity(issued, operator=EXCHANGE, role=Role.AGENT, name="insider")
        chain, kind, sentence = identity.signing_chain, IdentityMismatch, "presented a signing certificate of"

    def welcome(hello: pb.Hello) -> pb.Welcome:
        payload = terms(hello, **changes)
        jws = "" if name == "unsigned" else identity.signer.sign(payload, kind=statements.WELCOME)
        return pb.Welcome(
            terms=pb.Signed(payload=pb.Body(inline=payload), jws=jws), signing_certificate=chain
        )

    server = grpc.aio.server()
    rpc.add_FederationServicer_to_server(FakeBroker(welcome), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, pki.trust))
    await server.start()
    try:
        error = await refusal_of(pki, pki.agent_config("ran", f"localhost:{port}", tmp_path / "a"))
    finally:
        await server.stop(0)

    assert type(error) is kind
    assert sentence in str(error)


async def test_certificates_are_renewed_without_a_restart(pki: Pki, tmp_path: Path) -> None:
    life = timedelta(seconds=6)
    host = Host(watch=Level.MESH)
    short = pki.agent("ran", folder="short", life=life)
    async with (
        broker(pki, tmp_path, host=host, reattach_margin_s=4.0) as b,
        agent(
            pki,
            b.address,
            tmp_path / "a",
            config=pki.agent_config("ran", b.address, tmp_path / "a", identity=short),
        ) as a,
    ):
        first = await b.session("ran")
        pki.agent("ran", folder="short")  # the same files, now with 24 hours

        await until(lambda: host.sessions["ran"] is not first)
        await until(lambda: not first.open)

        assert host.sessions["ran"].expires_at - first.expires_at > timedelta(hours=1)
        assert host.lost_because == []
        assert load_tls(short.certificate, short.key).not_after > first.expires_at
        assert a.domain.snapshots == 1
