"""One source, mirrored for as long as the agent runs: a device, or a controller that speaks for many.

Owns the hand-over to the intake, the statuses of the devices behind a source, and beginning anew after an
overload.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from domain_twin.agent.device_schemas import DeviceSchemas, Introduced, Session
from domain_twin.config import ControllerConfig, DeviceConfig
from domain_twin.mapping.tables import mirrored_paths
from domain_twin.model import Connection, DeviceStatus, Finding, Nanoseconds, Severity, UpdateBatch
from domain_twin.southbound.controller import Attribution
from domain_twin.southbound.devices import mirror_choice
from domain_twin.southbound.intake import Intake, Overload
from domain_twin.southbound.supervise import supervise
from domain_twin.yang.schema import SchemaSet

SHOWN_FOR: Nanoseconds = 300_000_000_000
"""How long an overload is a finding after it has been made good."""


class Mirror:
    """Keeps one source's state flowing into the twin."""

    def __init__(
        self,
        source: DeviceConfig | ControllerConfig,
        *,
        schemas: DeviceSchemas,
        intake: Intake,
        on_status: Callable[[DeviceStatus], None],
        taken: Collection[str] = (),
    ) -> None:
        """`taken`: devices that a controller must leave alone. Raises ConfigError: there is no protocol."""
        self.name = source.name
        self._source = source
        self._schemas = schemas
        self._choice = mirror_choice(source, schemas.of(source.name))
        self._choices = {id(schemas.of(source.name)): self._choice}  # schemas are kept for good: ids last
        self._intake = intake
        self._lane = intake.lane(source.name)
        self._on_status = on_status
        self._attribution = (
            Attribution(source.name, source.devices, taken) if isinstance(source, ControllerConfig) else None
        )
        self._status = DeviceStatus(source.name, self._choice.protocol, Connection.CONNECTING)
        self._overload: Overload | None = None

    def devices(self) -> list[str]:
        """The devices that this source speaks for."""
        return sorted(self._attribution.devices) if self._attribution else [self.name]

    async def run(self) -> None:
        """Mirror until cancelled, or until a recording ends; anew when the intake had to drop something."""
        again = self._lane.begin_anew
        while True:
            pump = asyncio.create_task(self._pump(), name=f"mirror-{self.name}")
            dropped = asyncio.create_task(again.wait())
            try:
                await asyncio.wait({pump, dropped}, return_when=asyncio.FIRST_COMPLETED)
                if pump.done():
                    await pump
                    if not self._lane.out_of_step:
                        return
                    await dropped
            finally:
                dropped.cancel()
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(pump, dropped, return_exceptions=True)
            again.clear()

    async def _pump(self) -> None:
        choice = self._choice
        items = supervise(
            self.name,
            lambda: Introduced(self.name, self._schemas, self._open),
            self._source.paths or mirrored_paths(),
            protocol=choice.protocol,
            address=choice.address,
            reconnects=self._status.reconnects,
        )
        intake, lane, attribution = self._intake, self._lane, self._attribution
        async with aclosing(cast("AsyncGenerator[UpdateBatch | DeviceStatus]", items)) as stream:
            async for item in stream:
                if isinstance(item, DeviceStatus):
                    self._status = item
                    intake.tell(lane, tuple(self._statuses(item)))
                    continue
                if attribution is None:
                    await intake.offer(lane, item)
                    continue
                known = len(attribution.devices)
                batch = attribution.attribute(item)
                if len(attribution.devices) > known:  # their status comes before their data
                    new = list(attribution.devices)[known:]
                    intake.tell(lane, tuple(replace(self._status, name=name) for name in new))
                await intake.offer(lane, batch)

    def _open(self, schema: SchemaSet) -> Session:
        choice = self._choices.get(id(schema))
        if choice is None:
            choice = self._choices[id(schema)] = mirror_choice(self._source, schema)
        return choice.open()

    def _statuses(self, status: DeviceStatus) -> Iterator[DeviceStatus]:
        """The status of every device behind the source; one it says nothing of is not mirrored."""
        attribution = self._attribution
        if attribution is None:
            yield status
            return
        for name in attribution.devices:
            if (
                status.connection is Connection.SYNCHRONISED
                and name not in attribution.heard
                and name != self.name
            ):
                yield replace(
                    status,
                    name=name,
                    connection=Connection.STALE,
                    problem=f"controller {self.name} says nothing of it",
                )
            else:
                yield replace(status, name=name)

    # --- overload

    def overloaded(self, overload: Overload) -> None:
        """Show that the source's devices are out of step; they come back by a resync."""
        self._overload = overload
        if overload.until:
            return
        status = replace(
            self._status,
            connection=Connection.SYNCHRONISING,
            problem=f"{self.name} sends more than the twin can take: values were dropped, all is read anew",
        )
        for name in self.devices():
            self._on_status(replace(status, name=name))

    def findings(self, domain: str, now: Nanoseconds | None = None) -> Iterator[Finding]:
        """What a person should see: overload, and devices that a controller must not speak for."""
        now = time.time_ns() if now is None else now
        overload = self._overload
        if overload and (not overload.until or now - overload.until < SHOWN_FOR):
            lost = sum(overload.lost.values())
            yield Finding(
                code="device.overload",
                severity=Severity.WARNING if overload.until else Severity.ERROR,
                domain=domain,
                element=self.name,
                message=f"{self.name} sent more than the twin could take:"
                f" {sum(overload.dropped.values())} values were dropped"
                + (f", {lost} of them events, deletes or configuration" if lost else "")
                + ("; its state was read anew and is complete" if overload.until else "; it is read anew"),
                remedy="mirror fewer paths of it, sample less often, or raise [intake] max_mb",
                since=overload.since,
            )
        for name, count in sorted(self._attribution.refused.items()) if self._attribution else ():
            yield Finding(
                code="controller.refused",
                severity=Severity.WARNING,
                domain=domain,
                element=name,
                message=f"controller {self.name} speaks for {name}, which it is not allowed to:"
                f" {count} values were refused",
                remedy=f"add {name!r} to the devices of [[controller]] {self.name!r}, unless a session of its"
                " own mirrors it",
            )
