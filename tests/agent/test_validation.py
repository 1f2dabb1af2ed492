"""Whole-tree checks go on after the process that makes them was killed, or has ended for want of work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import psutil
from file_limits import full_disk

from domain_twin.agent.validation import TreeCheck
from domain_twin.model import Value
from domain_twin.yang.schema import SchemaSet

TYPE = "/ietf-interfaces:interfaces/interface[name='eth0']/enabled"  # the mandatory type is missing


async def test_a_check_whose_worker_was_killed_is_made_again() -> None:
    schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
    check = TreeCheck("core", lambda _: schema, lambda _: {TYPE: True}, settle_s=0.05)
    before = set(psutil.Process().children(recursive=True))
    check.note("upf-1")
    task = asyncio.create_task(check.run())
    try:
        async with asyncio.timeout(60):
            killed = False
            while not check.findings():
                for child in set(psutil.Process().children(recursive=True)) - before if not killed else ():
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()  # it has only begun to load its modules
                        killed = True
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert killed
    (finding,) = check.findings()
    assert finding.code == "device.invalid-tree"


async def test_a_full_disk_costs_a_check_and_not_the_agent() -> None:
    schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
    check = TreeCheck("core", lambda _: schema, lambda _: {TYPE: True}, settle_s=0.01)
    task = asyncio.create_task(check.run())
    try:
        with full_disk(0):
            check.note("upf-1")
            await asyncio.sleep(0.5)
        assert not task.done()
        check.note("upf-1")
        async with asyncio.timeout(60):
            while not check.findings():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_half_a_tree_is_not_judged() -> None:
    schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
    known = False
    check = TreeCheck(
        "core", lambda _: schema, lambda _: {TYPE: True}, complete=lambda _: known, settle_s=0.0
    )
    task = asyncio.create_task(check.run())
    try:
        async with asyncio.timeout(60):
            check.note("upf-1")
            await until(lambda: not check.pending())
            assert not check.findings()

            known = True
            check.note("upf-1")
            await until(lambda: bool(check.findings()))
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_process_without_work_ends_and_another_takes_up_what_comes() -> None:
    schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
    leaves: dict[str, Value] = {TYPE: True}
    check = TreeCheck("core", lambda _: schema, lambda _: leaves, settle_s=0.0, idle_s=0.1)
    before = set(psutil.Process().children(recursive=True))

    def workers() -> list[str]:
        lines = []
        for child in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.Error):  # it has ended meanwhile
                lines.append(" ".join(child.cmdline()))
        return [line for line in lines if "spawn_main" in line]

    task = asyncio.create_task(check.run())
    try:
        async with asyncio.timeout(60):
            check.note("upf-1")
            await until(lambda: bool(check.findings()))
            await until(lambda: not workers())

            leaves.clear()
            check.note("upf-1")
            await until(lambda: not check.findings())
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(question: Callable[[], bool]) -> None:
    while True:
        if question():
            return
        await asyncio.sleep(0.01)
