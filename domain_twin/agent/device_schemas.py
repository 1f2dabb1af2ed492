"""Each device's own schema: the revisions, features and deviations that it says it has. Owns who uses which.

What a device announces (RFC 8525, RFC 6020 hello, gNMI Capabilities) makes a `ModuleSet`; devices with equal
sets share one schema. A device that announces nothing out of the ordinary uses the domain's common schema.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from domain_twin.errors import TwinError
from domain_twin.model import Finding, Severity, Sync, UpdateBatch
from domain_twin.southbound.base import Capabilities, SouthboundSession
from domain_twin.yang.module_set import EVERYTHING, ModuleSet
from domain_twin.yang.schema import SchemaSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from domain_twin.config import YangConfig

log = logging.getLogger(__name__)

_MANY = 250
"""Updates that go on at once: leaves that are new take the stages behind some 20 us each."""

__all__ = ["DeviceSchemas", "Introduced", "module_set_of"]


def module_set_of(capabilities: Capabilities, schema: SchemaSet) -> ModuleSet:
    """How a device's modules differ from those of `schema`. gNMI is silent on features: all are there."""
    revisions: dict[str, str] = {}
    features: dict[str, tuple[str, ...]] = {}
    deviating: set[str] = set()
    for module in capabilities.modules:
        info = schema.modules.get(module.name)
        deviating.update(name for name in module.deviations if name in schema.modules)
        if info is None:
            continue
        if info.deviations:
            deviating.add(module.name)
        if module.revision != info.revision and module.revision in schema.available.get(module.name, ()):
            revisions[module.name] = module.revision
        lacking = set(info.conditional) - set(module.features)
        if lacking and capabilities.protocol == "netconf":
            features[module.name] = tuple(sorted(module.features))
    return ModuleSet(revisions, features, frozenset(deviating))


class _WithSchemas(Protocol):
    async def schemas(self, names: Sequence[str]) -> dict[str, str]: ...


class Session(SouthboundSession, Protocol):
    """A session that can be closed."""

    async def close(self) -> None:
        """End the session and free what it holds."""
        ...


class DeviceSchemas:
    """Which schema each device uses. `adopt` is told when a device turns out to need another."""

    def __init__(
        self, domain: str, common: SchemaSet, yang: YangConfig, adopt: Callable[[str, SchemaSet], None]
    ) -> None:
        self._domain = domain
        self._common = common
        self._yang = yang
        self._adopt = adopt
        self._of: dict[str, SchemaSet] = {}
        self._made: dict[str, SchemaSet] = {}  # by module set
        self._findings: dict[str, Finding] = {}
        self._making = asyncio.Lock()

    def of(self, device: str) -> SchemaSet:
        """The schema of a device; the common one while it has not introduced itself."""
        return self._of.get(device, self._common)

    def findings(self) -> list[Finding]:
        """One for each device that deviates from its modules in ways that nobody can look up."""
        return list(self._findings.values())

    async def learn(self, device: str, session: SouthboundSession) -> SchemaSet:
        """Ask the session what its device implements; the schema to read it with. Raises as sessions do."""
        capabilities = await session.capabilities()
        if not capabilities.modules:
            return self.of(device)
        unknown = {name for module in capabilities.modules for name in module.deviations}
        unknown -= self._common.modules.keys()
        texts = await self._fetch(device, session, unknown) if unknown else {}
        self._tell(device, sorted(unknown - texts.keys()))
        module_set = module_set_of(capabilities, self._common)
        if texts:
            module_set = ModuleSet(
                module_set.revisions, module_set.features, module_set.deviating | texts.keys()
            )
        names = [module.name for module in capabilities.modules]
        schema = await self._make(module_set, texts)
        if any(len(found) > 1 for found in schema.tops_by_name.values()):
            schema = self._made.setdefault(
                f"{module_set.key} {sorted(names)} {sorted(texts)}", schema.preferring(names)
            )
        if schema is not self.of(device):
            log.info("device introduced itself", extra={"device": device, "module_set": module_set.key})
            self._of[device] = schema
            self._adopt(device, schema)
        return schema

    async def _make(self, module_set: ModuleSet, texts: dict[str, str]) -> SchemaSet:
        if module_set == EVERYTHING:
            return self._common
        key = f"{module_set.key} {sorted(texts.items())}"
        async with self._making:  # hundreds of equal devices connect at once
            if key not in self._made:
                common = self._common
                made = self._made[key] = await asyncio.to_thread(
                    SchemaSet.load,
                    [*common.modules, *texts],
                    self._yang.directories,
                    {**common.texts, **texts},
                    module_set=module_set,
                    cache=common.cache,
                )
                await asyncio.to_thread(made.warm)
        return self._made[key]

    async def _fetch(self, device: str, session: SouthboundSession, names: set[str]) -> dict[str, str]:
        """Texts of the modules that deviate, from the device itself where it serves them."""
        if not self._yang.from_devices or not hasattr(session, "schemas"):
            return {}
        try:
            return await cast("_WithSchemas", session).schemas(sorted(names))
        except TwinError as error:
            log.warning("modules not fetched", extra={"device": device, "why": str(error)})
            return {}

    def _tell(self, device: str, missing: list[str]) -> None:
        if not missing:
            self._findings.pop(device, None)
            return
        self._findings[device] = Finding(
            code="device.unknown-deviations",
            severity=Severity.WARNING,
            domain=self._domain,
            element=device,
            message=f"{device} deviates from its YANG modules by {', '.join(missing)}, which nobody has",
            remedy="add the vendor's modules to [yang] directories, or have the device serve them",
        )


class Introduced:
    """A session that begins by learning its device's own schema. `make` opens a session with a schema."""

    def __init__(self, device: str, schemas: DeviceSchemas, make: Callable[[SchemaSet], Session]) -> None:
        self._device = device
        self._schemas = schemas
        self._make = make
        self._with = schemas.of(device)
        self._session = make(self._with)

    async def capabilities(self) -> Capabilities:
        """What the device says it can do."""
        return await self._session.capabilities()

    async def get(self, paths: Sequence[str]) -> UpdateBatch:
        """The leaves at and below `paths` now."""
        return await self._session.get(paths)

    async def subscribe(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        """The state at and below those of `paths` that some module defines, in the device's own schema."""
        schema = await self._schemas.learn(self._device, self._session)
        if schema is not self._with:
            await self._session.close()
            self._with, self._session = schema, self._make(schema)
        known = [path for path in paths if path == "/" or schema.node(path) is not None]
        stream = self._session.subscribe(known or paths)
        async with aclosing(cast("AsyncGenerator[UpdateBatch]", stream)) as batches:
            async for batch in batches:
                if len(batch.updates) <= _MANY or batch.deletes or batch.sync is not Sync.NONE:
                    yield batch
                    continue
                for start in range(0, len(batch.updates), _MANY):
                    await asyncio.sleep(0)  # decoding took its time, and so does what comes next
                    yield replace(batch, updates=batch.updates[start : start + _MANY])
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End the session and free what it holds."""
        await self._session.close()
