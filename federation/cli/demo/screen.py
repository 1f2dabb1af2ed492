"""The demo's screen: headings, sentences, live steps. Owns rhythm and width; knows nothing of networks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

INDENT = 3
_TICK_S = 0.1
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Screen:
    """Where the story is told. Without a terminal: the same words, line by line, no pauses."""

    def __init__(self, console: Console, *, quick: bool = False) -> None:
        self.console = console
        self.quick = quick
        self._acts = 0

    @property
    def lively(self) -> bool:
        """Whether somebody watches a terminal: lines may change in place."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def title(self, name: str, sentence: str) -> None:
        """The first lines."""
        self.console.print()
        self.console.print(Text.assemble((name, "bold"), f"   {sentence}"))
        self.console.print()

    def act(self, heading: str, *sentences: str) -> None:
        """A new part: a number, a heading, and what is about to be seen."""
        self._acts += 1
        self.console.print(Rule(Text(f"{self._acts}  {heading}", "bold"), align="left", style="dim"))
        self.say(*sentences)

    def say(self, *sentences: str) -> None:
        """A paragraph, in markup, indented."""
        if sentences:
            words = Text.from_markup(" ".join(sentences))
            self.console.print(Padding(words, (0, 2, 0, INDENT), expand=False))
            self.console.print()

    def show(self, item: RenderableType) -> None:
        """A table or the like, indented, then a blank line."""
        self.console.print(Padding(item, (0, 0, 0, INDENT), expand=False))
        self.console.print()

    @property
    def width(self) -> int:
        """Columns inside the indentation."""
        return self.console.width - INDENT

    async def pause(self, seconds: float) -> None:
        """Time to read; none where nobody reads along."""
        if self.lively and not self.quick:
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def steps(self, names: Sequence[str]) -> AsyncIterator[Steps]:
        """Several things that take time, each on its line: spinning, then done with how long it took."""
        steps = Steps(names, self)
        if not self.lively:
            yield steps
            self.console.print()
            return
        from rich.live import Live

        with Live(steps.render(), console=self.console, auto_refresh=False) as live:
            ticker = asyncio.create_task(_tick(steps, live))
            try:
                yield steps
            finally:
                ticker.cancel()
                live.update(steps.render(), refresh=True)
        self.console.print()


class Steps:
    """The lines of `Screen.steps`."""

    def __init__(self, names: Sequence[str], screen: Screen) -> None:
        self._screen = screen
        self._width = max(len(name) for name in names)
        self._state: dict[str, tuple[str, str]] = {name: ("waiting", "") for name in names}
        self._since: dict[str, float] = {}

    def begin(self, name: str, remark: str = "") -> None:
        """The thing called `name` is being done; again with another remark when it goes on."""
        self._state[name] = ("running", remark)
        self._since.setdefault(name, time.monotonic())

    def done(self, name: str, remark: str = "") -> None:
        """It is done; without a terminal, its line is printed now."""
        self._state[name] = ("done", remark)
        self._since[name] = time.monotonic() - self._since.get(name, time.monotonic())
        if not self._screen.lively:
            self._screen.console.print(Padding(self._line(name), (0, 0, 0, INDENT), expand=False))

    def render(self) -> RenderableType:
        """All lines as they are now."""
        return Padding(Group(*(self._line(name) for name in self._state)), (0, 0, 0, INDENT))

    def _line(self, name: str) -> Text:
        state, remark = self._state[name]
        if state == "waiting":
            return Text(f"  {name}", "dim")
        if state == "running":
            spun = _SPINNER[int(time.monotonic() / _TICK_S) % len(_SPINNER)]
            return Text.assemble((f"{spun} ", "cyan"), f"{name:<{self._width}}  ", (remark, "dim"))
        took = f"{self._since[name]:5.1f} s  "
        return Text.assemble(("✓ ", "good"), f"{name:<{self._width}}  ", (took, "dim"), remark)


async def _tick(steps: Steps, live: object) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        live.update(steps.render(), refresh=True)  # type: ignore[attr-defined]


def columns(
    rows: Sequence[tuple[RenderableType, ...]], *, heads: Sequence[str] = (), right: Sequence[int] = ()
) -> Table:
    """A table without lines; `right` are the columns of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=bool(heads))
    for index in range(len(rows[0]) if rows else len(heads)):
        table.add_column(
            heads[index] if heads else "", justify="right" if index in right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*row)
    return table
