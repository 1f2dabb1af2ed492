"""What doctor sees of devices: name, port, TLS or host key, log-in, models, first read, push. Only reads."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.config import AgentConfig, DeviceConfig, GnmiConfig, NetconfConfig
from domain_twin.errors import CredentialError, TwinError, Unreachable
from domain_twin.southbound.base import Capabilities
from domain_twin.southbound.supervise import Mirror
from domain_twin.yang.schema import SchemaSet
from federation.cli.checks import Rows
from federation.cli.doctor.broker import dial

if TYPE_CHECKING:
    import asyncssh

_AT_ONCE = 8
_WITHIN_S = 20.0
_CLOCK_S = 300.0


async def devices(rows: Rows, config: AgentConfig) -> None:
    """All devices of the configuration, several at a time; rows in the order of the configuration."""
    from domain_twin.agent.schema import load_schema

    if not config.device:
        return
    try:
        schema = await load_schema(config, keep=False)
    except TwinError as error:
        rows.wrong("yang", str(error))
        return
    for name, problem in schema.report.failed.items():
        rows.doubtful("yang", f"module {name} is left out: {problem}")
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(device: DeviceConfig) -> Rows:
        own = Rows()
        async with turn:
            try:
                async with asyncio.timeout(2 * _WITHIN_S):
                    await _device(own, device, schema)
            except TimeoutError:
                own.wrong(f"device {device.name}", f"all of it took more than {2 * _WITHIN_S:g} s")
        return own

    for own in await asyncio.gather(*(one(device) for device in config.device)):
        rows.rows += own.rows


async def _device(rows: Rows, device: DeviceConfig, schema: SchemaSet) -> None:
    what = f"device {device.name}"
    _paths(rows, what, device, schema)
    if device.gnmi and await _gnmi(rows, f"{what} gnmi", device.name, device.gnmi):
        from domain_twin.southbound.gnmi import GnmiSession

        await _talk(rows, f"{what} gnmi", GnmiSession(device.name, device.gnmi, schema), device, schema)
    if device.netconf and await _netconf(rows, f"{what} netconf", device.netconf):
        from domain_twin.southbound.netconf import NetconfSession

        session = NetconfSession(device.name, device.netconf, schema)
        await _talk(rows, f"{what} netconf", session, device, schema)
    if device.replay and not await asyncio.to_thread(device.replay.file.is_file):
        rows.wrong(
            f"{what} replay", f"{device.replay.file} is not there", f"ls -l {device.replay.file.parent}"
        )


def _paths(rows: Rows, what: str, device: DeviceConfig, schema: SchemaSet) -> None:
    """Whether the modules of the configured paths are known."""
    from domain_twin.yang.paths import parse_path

    needed = {step.module for path in device.paths for step in parse_path(path)} - {""}
    if missing := sorted(needed - schema.modules.keys()):
        rows.wrong(
            f"{what} yang",
            f"its paths are of module {', '.join(missing)}, which neither ships, nor lies under [yang]"
            " directories, nor comes from the device",
            f"find / -name '{missing[0]}*.yang' 2>/dev/null",
        )


async def _gnmi(rows: Rows, what: str, name: str, config: GnmiConfig) -> bool:
    from domain_twin.southbound.gnmi_tls import diagnose

    if not await dial(rows, what, config.address):
        return False
    if error := await diagnose(name, config, _WITHIN_S / 2):
        client = f" -cert {config.certificate} -key {config.key}" if config.certificate else ""
        rows.wrong(
            f"{what} tls",
            str(error),
            f"openssl s_client -connect {config.address} -CAfile {config.root}{client} -alpn h2 </dev/null",
        )
        return False
    rows.fine(f"{what} tls", f"its certificate leads to {config.root}")
    return True


async def _netconf(rows: Rows, what: str, config: NetconfConfig) -> bool:
    if not await dial(rows, what, config.address):
        return False
    import asyncssh

    host, _, port = config.address.rpartition(":")
    host = host.strip("[]")
    try:
        pinned = await asyncio.to_thread(_pinned, config.known_hosts, host, int(port))
    except (OSError, ValueError) as error:
        rows.wrong(f"{what} host key", f"{config.known_hosts} cannot be read ({error})")
        return False
    look = f"ssh-keyscan -p {port} {host}"
    try:
        async with asyncio.timeout(_WITHIN_S / 2):
            offered = [
                key
                for algorithm in sorted({key.algorithm.decode() for key in pinned}) or [""]
                if (key := await _offered(host, int(port), algorithm))
            ]
    except (asyncssh.Error, OSError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        rows.wrong(
            f"{what} ssh", f"{config.address} is no SSH server, or has no key of that kind ({reason})", look
        )
        return False
    shown = ", ".join(key.get_fingerprint() for key in offered) or "none"
    if not {key.public_data for key in offered} & {key.public_data for key in pinned}:
        known = ", ".join(key.get_fingerprint() for key in pinned) or "none"
        rows.wrong(
            f"{what} host key",
            f"{config.address} shows {shown}, and {config.known_hosts} pins {known}: the device was replaced,"
            " or something stands between; compare with the device itself before the file is changed",
            look,
        )
        return False
    rows.fine(f"{what} host key", f"{shown} is pinned")
    return True


async def _offered(host: str, port: int, algorithm: str) -> asyncssh.SSHKey | None:
    import asyncssh

    algorithms = [algorithm] if algorithm else ()
    return await asyncssh.get_server_host_key(host, port, server_host_key_algs=algorithms, config=None)


def _pinned(path: Path, host: str, port: int) -> list[asyncssh.SSHKey]:
    import asyncssh

    known = asyncssh.import_known_hosts(path.read_text(encoding="utf-8"))
    return list(known.match(host, host, port)[0])


async def _talk(rows: Rows, what: str, session: Mirror, device: DeviceConfig, schema: SchemaSet) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            can = await session.capabilities()
            rows.fine(f"{what} login", f"accepted, {len(can.modules)} modules, {', '.join(can.encodings)}")
            _models(rows, what, can, schema)
            await _read(rows, what, session, device)
            _push(rows, what, can, device)
    except TimeoutError:
        rows.wrong(f"{what} session", f"does not answer within {_WITHIN_S:g} s")
    except CredentialError as error:
        rows.wrong(f"{what} login", str(error), _try_login(device))
    except Unreachable as error:
        rows.wrong(f"{what} session", str(error))
    except TwinError as error:
        rows.wrong(f"{what} read", str(error))
    finally:
        await session.close()


def _try_login(device: DeviceConfig) -> str:
    if device.netconf is None:
        return ""
    host, _, port = device.netconf.address.rpartition(":")
    return f"ssh -p {port} {device.netconf.username}@{host.strip('[]')} -s netconf"


def _models(rows: Rows, what: str, can: Capabilities, schema: SchemaSet) -> None:
    """How many of the device's modules are understood here."""
    names = {module.name for module in can.modules}
    known = names & schema.modules.keys()
    text = f"{len(known)} of {len(names)} modules are read here: {', '.join(sorted(known)[:6]) or 'none'}"
    if names and not known:
        rows.doubtful(
            f"{what} models",
            f"{text}; add the device's modules under [yang] directories",
            "fedtwin config check",
        )
    else:
        rows.fine(f"{what} models", text)


async def _read(rows: Rows, what: str, session: Mirror, device: DeviceConfig) -> None:
    from domain_twin.mapping.tables import mirrored_paths

    began = time.monotonic()
    batch = await session.get(device.paths or mirrored_paths())
    took_ms = (time.monotonic() - began) * 1e3
    if not batch.updates:
        rows.doubtful(
            f"{what} read", "nothing of what is mirrored is there; check `paths`, and the account's rights"
        )
        return
    rows.fine(f"{what} read", f"{len(batch.updates)} leaves in {took_ms:.0f} ms")
    ahead_s = (max(update.observed_at for update in batch.updates) - time.time_ns()) / 1e9
    if ahead_s > _CLOCK_S:
        rows.doubtful(
            f"{what} clock",
            f"its clock is {ahead_s / 60:.0f} min ahead of this machine's; set both by NTP",
            "timedatectl status",
        )


def _push(rows: Rows, what: str, can: Capabilities, device: DeviceConfig) -> None:
    if can.protocol == "gnmi":
        rows.fine(f"{what} push", "streams changes by Subscribe")
    elif "yang-push" in can.features:
        rows.fine(f"{what} push", "pushes changes (RFC 8641)")
    else:
        every = f"{device.netconf.poll_interval_s:g} s" if device.netconf else "interval"
        rows.fine(f"{what} push", f"cannot push, so its state is read every {every}")
