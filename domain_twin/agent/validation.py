"""Whole-tree validation of what devices report, when they are complete and when their configuration changes.

Owns when to look; `yang.validate` does it, in a process of its own. A tree that is not valid is a finding;
its leaves, each of its type, are mirrored all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

from domain_twin.datastore.snapshot import Leaf
from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.model import Change, Finding, Severity, Value
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.validate import TreeValidator

log = logging.getLogger(__name__)

_PROCESSES = 2
"""Schemas whose validating processes are kept; each takes 25 to 100 MB, by its modules."""
_IDLE_S = 60.0
"""A validating process that had nothing to do for so long ends; a new one takes half a second of a core."""


class Values(Mapping[str, Value]):
    """The values of a device's leaves, looked at without a copy of them: they are many."""

    def __init__(self, leaves: Mapping[str, Leaf]) -> None:
        self._leaves = leaves

    def __getitem__(self, path: str) -> Value:
        return self._leaves[path].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)


class TreeCheck:
    """Checks the tree of every device that was noted, once it has been quiet for `settle_s`."""

    def __init__(
        self,
        domain: str,
        schema_of: Callable[[str], SchemaSet],
        leaves: Callable[[str], Mapping[str, Value]],
        *,
        complete: Callable[[str], bool] = lambda _: True,
        settle_s: float = 3.0,
        idle_s: float = _IDLE_S,
    ) -> None:
        """`complete` says whether all that a device has is known: half a tree is never valid."""
        self._domain = domain
        self._schema_of = schema_of
        self._validators: OrderedDict[int, TreeValidator] = OrderedDict()  # by schema, the last used last
        self._leaves = leaves
        self._complete = complete
        self._settle_s = settle_s
        self._idle_s = idle_s
        self._due: dict[str, float] = {}  # device -> monotonic time
        self._checking = False
        self._again: set[str] = set()  # not checked, and to be tried once more
        self._wake = asyncio.Event()
        self._findings: dict[str, Finding] = {}

    def note(self, device: str) -> None:
        """The device's state is complete, or its configuration changed."""
        self._due[device] = time.monotonic() + self._settle_s
        self._wake.set()

    def note_config(self, changes: Iterable[Change]) -> None:
        """Note the devices of those changes that are configuration."""
        for change in changes:
            if change.device in self._due:
                continue
            node = self._schema_of(change.device).node(change.path)
            if node is not None and node.config:
                self.note(change.device)

    def pending(self) -> bool:
        """Whether a device waits to be checked, or is being checked."""
        return bool(self._due) or self._checking

    def findings(self) -> list[Finding]:
        """One for each device whose tree is not valid."""
        return list(self._findings.values())

    async def run(self) -> None:
        """Check what is due until cancelled."""
        try:
            while True:
                self._wake.clear()
                now = time.monotonic()
                for device in [name for name, due in self._due.items() if due <= now]:
                    del self._due[device]
                    if not self._complete(device):
                        continue  # it is noted again once it is
                    self._checking = True
                    try:
                        await self._check(device)
                    finally:
                        self._checking = False
                wait_s = min(self._due.values()) - time.monotonic() if self._due else self._idle_s
                try:
                    async with asyncio.timeout(max(0.0, wait_s)):
                        await self._wake.wait()
                except TimeoutError:
                    if not self._due:
                        await self._end_processes()
        finally:
            await self._end_processes()

    async def _end_processes(self) -> None:
        for key, validator in list(self._validators.items()):
            await validator.close()
            del self._validators[key]

    async def _validator(self, schema: SchemaSet) -> TreeValidator:
        """The process that knows this schema; the one that was used longest ago makes room."""
        validator = self._validators.pop(id(schema), None) or TreeValidator(schema)
        self._validators[id(schema)] = validator
        while len(self._validators) > _PROCESSES:
            _, old = self._validators.popitem(last=False)
            await old.close()
        return validator

    async def _check(self, device: str) -> None:
        schema = self._schema_of(device)
        try:
            validator = await self._validator(schema)
            await validator.check_leaves(self._leaves(device))
        except SchemaViolation as error:
            self._again.discard(device)
            self._findings[device] = Finding(
                code="device.invalid-tree",
                severity=Severity.WARNING,
                domain=self._domain,
                element=device,
                message=f"{device}: what it reports as a whole breaks its YANG modules: {error}",
                remedy="correct the device's configuration, or give its own modules under [yang] directories",
            )
        except SchemaError as error:
            log.error("trees are not validated", extra={"device": device, "why": str(error)})
            if device not in self._again:  # a worker that was killed starts anew; modules stay as they are
                self._again.add(device)
                self.note(device)
        else:
            self._again.discard(device)
            self._findings.pop(device, None)
