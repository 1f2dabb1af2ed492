"""The YANG modules that an agent works with: what the mapping reads, the operator's own, the devices' own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from domain_twin.config import AgentConfig, DeviceConfig
from domain_twin.errors import TwinError
from domain_twin.mapping.tables import required_modules
from domain_twin.yang.paths import parse_path
from domain_twin.yang.schema import SchemaSet

log = logging.getLogger(__name__)

_ALWAYS = ("iana-if-type", "fedtwin-alarms")  # identities that interfaces and alarms are typed by
_FETCH_WITHIN_S = 10.0


async def load_schema(config: AgentConfig, *, keep: bool = True) -> SchemaSet:
    """Load the modules of the mapping and of the operator's folders; what devices add is fetched from them.

    `keep`: leave what was made in the state folder, so that the next start is quick. A module that does
    not parse is left out and logged. Raises SchemaError when one of the mapping's is missing.
    """
    cache = config.state / "yang" if keep else None
    load = partial(SchemaSet.load, folders=config.yang.directories, all_of_folders=True, cache=cache)
    named = [*required_modules(), *_ALWAYS]
    schema = await asyncio.to_thread(load, named)
    missing = _asked_for(config.device) - schema.modules.keys()
    if missing and config.yang.from_devices:
        texts = await _fetch(config.device, missing, schema)
        if texts:
            schema = await asyncio.to_thread(load, [*named, *texts], texts=texts)
    for problem in schema.report.problems:
        level = logging.ERROR if problem.serious else logging.INFO
        why = f"{problem.message}; {problem.remedy}"
        log.log(level, "YANG problem", extra={"code": problem.code, "subject": problem.subject, "why": why})
    schema.require(*required_modules())
    await asyncio.to_thread(schema.warm)
    return schema


def _asked_for(devices: Iterable[DeviceConfig]) -> set[str]:
    """Modules that the devices' configured paths need."""
    return {step.module for device in devices for path in device.paths for step in parse_path(path)} - {""}


async def _fetch(devices: Iterable[DeviceConfig], missing: set[str], schema: SchemaSet) -> dict[str, str]:
    """Ask the devices that speak NETCONF for modules (RFC 6022 get-schema), the first that has one wins."""
    from domain_twin.southbound.netconf import NetconfSession

    texts: dict[str, str] = {}
    for device in devices:
        wanted = (_asked_for([device]) & missing) - texts.keys()
        if not wanted or device.netconf is None:
            continue
        session = NetconfSession(device.name, device.netconf, schema)
        try:
            async with asyncio.timeout(_FETCH_WITHIN_S):
                texts |= await session.schemas(sorted(wanted))
        except (TwinError, TimeoutError) as error:
            log.warning("modules not fetched", extra={"device": device.name, "why": str(error)})
        finally:
            await session.close()
    return texts
