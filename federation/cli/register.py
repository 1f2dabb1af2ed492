"""How a command is added: with an example, in a section of the overview. Owns the shape of help texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import typer
import typer.core
import typer.main
from typer.core import TyperGroup

# Help in plain text: importing rich would take longer than all the rest of `fedtwin --help`.
typer.core.HAS_RICH = False

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS = (
    "Start",
    "Run",
    "Ask the twin",
    "Ask the graph",
    "Ask what would be",
    "Learn together",
    "Order twins as a partner",
    "Go back in time",
    "Operate",
)
_section: dict[str, str] = {}


class _Argument(typer.core.TyperArgument):
    """click 8.5 gives arguments a help of their own, and sets the one that typer took before to nothing."""

    def __init__(self, *, help: str | None = None, **options: Any) -> None:
        super().__init__(help=help, **options)
        self.help = help


typer.main.TyperArgument = _Argument  # type: ignore[attr-defined]


class FedtwinCommand(typer.core.TyperCommand):
    """Lists arguments once: click 8.5 would list them a second time."""

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Leave that to typer."""


examples: dict[str, tuple[str, ...]] = {}


def command(
    app: typer.Typer,
    name: str,
    *,
    section: str,
    example: str | tuple[str, ...],
    group: str = "",
    **options: Any,
) -> Callable[[F], F]:
    """Add a command with at least one example to `app`; `group` is the name of the sub-application."""
    lines = (example,) if isinstance(example, str) else example
    examples[f"{group} {name}".strip()] = lines
    if not group:
        if section not in SECTIONS:
            raise ValueError(f"unknown section {section!r}")
        _section[name] = section
    heading = "Example:" if len(lines) == 1 else "Examples:"
    epilog = "\b\n" + heading + "\n" + "\n".join(f"  {line}" for line in lines)

    def add(function: F) -> F:
        return app.command(name, epilog=epilog, cls=FedtwinCommand)(function)

    return add


def subgroup(app: typer.Typer, name: str, *, section: str, help_text: str) -> typer.Typer:
    """A group of sub-commands, such as `fedtwin ca`."""
    part = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.add_typer(part, name=name, help=help_text)
    _section[name] = section
    return part


class FedtwinGroup(TyperGroup):
    """The overview lists commands by what a person wants to do, not by alphabet."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list a section; names align over all of them."""
        width = max((len(name) for name in self.commands), default=0)
        for section in SECTIONS:
            rows = []
            for name, item in self.commands.items():
                if _section.get(name) == section and not item.hidden:
                    rows.append((name.ljust(width), item.get_short_help_str(formatter.width - width - 6)))
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)
