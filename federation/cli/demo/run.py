"""One demo from start to end: folder, processes, story, and that nothing stays behind. Owns the order."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from federation.cli.console import err, out, short_path
from federation.cli.demo.account import Account
from federation.cli.demo.folder import DemoFolder
from federation.cli.demo.screen import Screen
from federation.cli.demo.story import Story
from federation.cli.demo.supervisor import Supervisor

INTERRUPTED = 130


def stop_demo(path: Path) -> int:
    """Stop a demo that was kept. Raises NotFound when there is none."""
    count = DemoFolder(path).stop(lambda name: out().print(f"  {name} has ended"))
    out().print(f"The demo in {short_path(path)} is stopped: {count} processes.")
    return 0


def run_demo(path: Path, *, seed: int, keep: bool, quick: bool, json_file: Path | None) -> int:
    """Run the demo in `path`; returns the exit status. Raises TwinError with what went wrong."""
    account = Account(seed)
    folder = DemoFolder(path)
    folder.claim()
    try:
        return asyncio.run(_run(folder, account, keep=keep, quick=quick))
    except Exception as error:
        account.outcome, account.problem = "failed", str(error) or type(error).__name__
        raise
    finally:
        if json_file:
            account.write(json_file)
        if account.outcome == "kept":
            folder.let_go()
        else:
            folder.release()


async def _run(folder: DemoFolder, account: Account, *, keep: bool, quick: bool) -> int:
    supervisor = Supervisor(folder.path / "logs", inherited=(folder.lock_descriptor,))
    screen = Screen(out(), quick=quick)
    stop = _Interrupts(supervisor)
    try:
        story = Story(folder, supervisor, screen, account)
        await _guarded(story, supervisor)
        if keep:
            folder.note([process.running for process in supervisor.processes], kept=True)
            supervisor.keep()
            account.outcome = "kept"
            story.what_next()
            return 0
        account.outcome = "done"
        return 0
    except asyncio.CancelledError:
        account.outcome = "interrupted"
        if not stop.asked:
            raise
        return INTERRUPTED
    finally:
        if account.outcome != "kept":
            await _end(supervisor, screen, interrupted=stop.asked)


async def _guarded(story: Story, supervisor: Supervisor) -> None:
    """Tell the story; a process that ends by itself ends it with that process's last words."""
    telling = asyncio.create_task(story.tell())
    watching = asyncio.create_task(_watch(supervisor, story))
    try:
        done, _ = await asyncio.wait({telling, watching}, return_when=asyncio.FIRST_COMPLETED)
        for task in (
            watching,
            telling,
        ):  # the process's end explains the story's better than the other way round
            if task in done:
                task.result()
        await telling
    finally:
        for task in (telling, watching):
            task.cancel()
        await asyncio.gather(telling, watching, return_exceptions=True)


async def _watch(supervisor: Supervisor, story: Story) -> None:
    await story.all_started.wait()
    await supervisor.watch()


async def _end(supervisor: Supervisor, screen: Screen, *, interrupted: bool) -> None:
    if interrupted:
        err().print("\nStopping every process …", style="note")
    await supervisor.stop()
    if interrupted:
        err().print("Stopped; nothing is left running.", style="note")
    elif screen.lively:
        screen.console.print("   All processes have ended.", style="note")


class _Interrupts:
    """Ctrl-C, SIGTERM and a closed terminal end the demo; a second one kills what is left at once."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.asked = False
        self._supervisor = supervisor
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._come)

    def _come(self) -> None:
        if self.asked:
            self._supervisor.kill()
            os._exit(INTERRUPTED)
        self.asked = True
        self._task.cancel()
