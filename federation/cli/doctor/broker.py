"""What doctor sees of the broker: name, port, TLS, identity, and whether it would accept us. Attaches nobody.

The Hello that asks offers no version of the contract: a broker judges that last, so its refusal for the
version says that everything before was accepted.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cryptography import x509

from domain_twin.config import AgentConfig, BrokerAddress, ClientConfig
from domain_twin.errors import ContractError, CredentialError, IdentityMismatch, TwinError, Unreachable
from federation.cli.checks import Rows

_WITHIN_S = 8.0


def is_running(listen: str, certificate: Path) -> bool:
    """Whether whoever listens at `listen` shows the very certificate in this file."""
    host, _, port = listen.rpartition(":")
    dial = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; what is shown is compared with our own file
    context.set_alpn_protocols(["h2"])
    try:
        ours = x509.load_pem_x509_certificate(certificate.read_bytes())
        shown = asyncio.run(_shown(dial, int(port), context))
    except (OSError, ValueError, TimeoutError):
        return False
    return shown is not None and x509.load_der_x509_certificate(shown) == ours


async def agent(rows: Rows, config: AgentConfig, *, running: bool) -> None:
    """The way from an agent to its broker."""
    assert config.broker
    assert config.identity
    address, files = config.broker, config.identity
    if not await _reach(rows, address, files.certificate, files.key):
        return
    try:
        if running:
            await _session(rows, config)
        else:
            await _hello(rows, config)
    except (TwinError, OSError) as error:
        rows.wrong("broker session", str(error))


async def client(rows: Rows, config: ClientConfig, path: Path) -> None:
    """The way from an engineer to a broker, and what the broker shows."""
    address = BrokerAddress(
        address=config.address, root=config.root, identity=config.identity, server_name=config.server_name
    )
    if not await _reach(rows, address, config.certificate, config.key):
        return
    from federation.client import TwinClient

    try:
        async with asyncio.timeout(_WITHIN_S), TwinClient.connect(str(path)) as twin:
            domains = await twin.domains()
    except TimeoutError:
        rows.wrong("broker access", f"{config.address} does not answer within {_WITHIN_S:g} s")
        return
    except TwinError as error:
        rows.wrong("broker access", str(error), f"fedtwin ca show {config.certificate}")
        return
    rows.fine("broker access", f"shows {len(domains)} domains")
    for domain in domains:
        if domain.problem or not domain.connected:
            rows.doubtful(f"domain {domain.domain}", domain.problem or "not connected")


async def _reach(rows: Rows, address: BrokerAddress, certificate: Path, key: Path) -> bool:
    from domain_twin.trust.probe import explain_handshake

    if not await dial(rows, "broker", address.address):
        return False
    error = await explain_handshake(
        address.address, root=address.root, certificate=certificate, key=key, server_name=address.server_name
    )
    if error:
        name = address.server_name or address.address.rpartition(":")[0]
        rows.wrong(
            "broker tls",
            str(error),
            f"openssl s_client -connect {address.address} -servername {name} -verify_hostname {name}"
            f" -CAfile {address.root} -cert {certificate} -key {key} -alpn h2 </dev/null",
        )
        return False
    rows.fine("broker tls", f"TLS 1.3, its certificate leads to {address.root}")
    return await _identity(rows, address, certificate, key)


async def dial(rows: Rows, what: str, address: str) -> bool:
    """Name and port of anything that is dialled; rows `WHAT dns` and `WHAT tcp`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_WITHIN_S):
            found = await loop.getaddrinfo(host, int(port))
    except (OSError, TimeoutError, ValueError) as error:
        rows.wrong(f"{what} dns", f"{host} has no address ({error})", f"getent hosts {host}")
        return False
    try:
        async with asyncio.timeout(_WITHIN_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except TimeoutError:
        rows.wrong(
            f"{what} tcp", f"{address} does not answer; a firewall may drop it", f"nc -vz {host} {port}"
        )
        return False
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        rows.wrong(f"{what} tcp", f"{address}: {reason}; nothing listens there", f"nc -vz {host} {port}")
        return False
    writer.transport.abort()
    rows.fine(f"{what} tcp", f"{address} ({found[0][4][0]}) accepts connections")
    return True


async def _identity(rows: Rows, address: BrokerAddress, certificate: Path, key: Path) -> bool:
    from domain_twin.trust.roots import identity_of

    host, _, port = address.address.rpartition(":")
    context = ssl.create_default_context(cafile=str(address.root))
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    try:
        shown = await _shown(host.strip("[]"), int(port), context, address.server_name or host.strip("[]"))
        found = identity_of(x509.load_der_x509_certificate(shown)) if shown else None
    except (TwinError, OSError, TimeoutError) as error:
        rows.wrong("broker identity", str(error))
        return False
    if str(found) != address.identity:
        rows.wrong(
            "broker identity",
            f"{address.address} is {found}, and the configuration says {address.identity}; correct `identity`"
            " if that is the broker that is meant, else the address",
        )
        return False
    rows.fine("broker identity", address.identity)
    return True


async def _shown(host: str, port: int, context: ssl.SSLContext, name: str | None = None) -> bytes | None:
    """The certificate (DER) that a server shows."""
    async with asyncio.timeout(_WITHIN_S):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name or host)
    shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return shown


async def _session(rows: Rows, config: AgentConfig) -> None:
    """What the running agent says of its session."""
    from federation.client import TwinClient

    async with asyncio.timeout(_WITHIN_S), TwinClient.connect(str(config.state / "agent.sock")) as twin:
        (status,) = await twin.domains()
    if status.problem:
        rows.wrong("broker session", status.problem)
    else:
        rows.fine("broker session", f"the running agent is attached to {status.peer}")


async def _hello(rows: Rows, config: AgentConfig) -> None:
    """Whether the broker would accept this agent."""
    import grpc

    from domain_twin.trust.credentials import load_identity
    from domain_twin.trust.identity import Role
    from domain_twin.trust.refusal import error_of
    from domain_twin.trust.tls import channel_credentials, channel_options
    from federation.v1 import fedtwin_pb2 as pb
    from federation.v1 import fedtwin_pb2_grpc as rpc
    from federation.wire.framing import STREAM_OPTIONS

    assert config.broker
    assert config.identity
    identity = load_identity(config.identity, operator=config.operator, role=Role.AGENT, name=config.domain)
    hello = pb.Hello(
        domain=config.domain,
        instance="doctor",
        signing_certificate=identity.signing_chain,
        nonce=secrets.token_bytes(32),
    )
    options = [*STREAM_OPTIONS, *channel_options(config.broker.server_name)]
    credentials = channel_credentials(config.broker.root, identity.tls)

    async def messages() -> AsyncIterator[Any]:
        yield pb.AgentMessage(hello=hello)

    async with grpc.aio.secure_channel(config.broker.address, credentials, options=options) as channel:
        call = rpc.FederationStub(channel).Attach(messages(), timeout=_WITHIN_S)
        try:
            await call.read()
            code = await call.code()
            failure = grpc.aio.AioRpcError(
                code,
                grpc.aio.Metadata(),
                await call.trailing_metadata() or grpc.aio.Metadata(),
                details=await call.details(),
            )
        except grpc.aio.AioRpcError as error:
            failure = error
    refusal = error_of(failure, config.broker.identity)
    if isinstance(refusal, ContractError) and "contract version" in str(refusal):
        rows.fine("broker session", f"{config.broker.identity} would accept domain {config.domain}")
    elif isinstance(refusal, CredentialError | IdentityMismatch):
        rows.wrong("broker session", str(refusal), f"fedtwin ca show {config.identity.certificate}")
    elif isinstance(refusal, Unreachable):
        rows.doubtful("broker session", f"{refusal}; whether the broker would accept us is not known")
    else:
        rows.wrong("broker session", str(refusal))
