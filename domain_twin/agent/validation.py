"""Whole-tree validation of what devices report, when they are complete and when their configuration changes.

Owns when to look; `yang.validate` does it, in a process of its own. A tree that is not valid is a finding;
its leaves, each of its type, are mirrored all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.model import Change, Finding, Severity, Value
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.tree import build_tree
from domain_twin.yang.validate import TreeValidator

log = logging.getLogger(__name__)


class TreeCheck:
    """Checks the tree of every device that was noted, once it has been quiet for `settle_s`."""

    def __init__(
        self,
        domain: str,
        schema: SchemaSet,
        leaves: Callable[[str], Mapping[str, Value]],
        *,
        settle_s: float = 3.0,
    ) -> None:
        self._domain = domain
        self._schema = schema
        self._leaves = leaves
        self._settle_s = settle_s
        self._due: dict[str, float] = {}  # device -> monotonic time
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
            node = self._schema.node(change.path)
            if node is not None and node.config and change.device not in self._due:
                self.note(change.device)

    def findings(self) -> list[Finding]:
        """One for each device whose tree is not valid."""
        return list(self._findings.values())

    async def run(self) -> None:
        """Check what is due until cancelled."""
        async with TreeValidator(self._schema) as validator:
            while True:
                self._wake.clear()
                now = time.monotonic()
                for device in [name for name, due in self._due.items() if due <= now]:
                    del self._due[device]
                    await self._check(validator, device)
                wait_s = min(self._due.values(), default=now + 3600) - time.monotonic()
                try:
                    async with asyncio.timeout(max(0.0, wait_s)):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _check(self, validator: TreeValidator, device: str) -> None:
        try:
            tree = await asyncio.to_thread(build_tree, self._schema, self._leaves(device))
            await validator.check(tree)
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
