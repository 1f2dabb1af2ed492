"""`fedtwin fault`: breaks the emulated network, and asks what its packets met. Owns words, no fault."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from federation.cli.options import Json, Last
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from domain_twin.emulator.control import EmulatorControl

SECTION = "Operate"
DEFAULT_SOCKET = Path(".fedtwin/demo/emulator/control.sock")
VARIABLE = "FEDTWIN_EMULATOR"
Emulator: TypeAlias = Annotated[
    str,
    typer.Option(
        "--emulator",
        metavar="SOCKET",
        help="Control socket in the emulator's state folder. Default: $FEDTWIN_EMULATOR, then the demo's.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add `fault` with its sub-commands."""
    part = subgroup(app, "fault", section=SECTION, help_text="Break an emulated network, and mend it.")
    command(part, "kinds", group="fault", section=SECTION, example="fedtwin fault kinds")(kinds)
    command(
        part,
        "inject",
        group="fault",
        section=SECTION,
        example=(
            "fedtwin fault inject link-cut link=poznan-wroclaw duration_s=10",
            "fedtwin fault inject radio-fade cell=gnb-1.cell-1 mcs_drop=8",
        ),
    )(inject)
    command(part, "list", group="fault", section=SECTION, example="fedtwin fault list")(list_faults)
    command(part, "clear", group="fault", section=SECTION, example="fedtwin fault clear all")(clear)
    command(
        part,
        "truth",
        group="fault",
        section=SECTION,
        example="fedtwin fault truth gnb-1.cell-1:host-1 --last 10s",
    )(truth)


def kinds(*, emulator: Emulator = "", as_json: Json = False) -> None:
    """Show the kinds of fault and their fields."""
    from federation.cli.console import emit, out
    from federation.cli.tables import grid

    found = _ask(emulator, lambda control: control.kinds())
    if as_json:
        emit({"kinds": found})
        return
    table = grid("kind", "fields", "what it does", wraps="what it does")
    for kind in found:
        table.add_row(kind["kind"], "\n".join(_field(field) for field in kind["fields"]), kind["description"])
    out().print(table)


def inject(
    *,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="See `fedtwin fault kinds`.")],
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Fields of the fault.")
    ] = None,
    emulator: Emulator = "",
    as_json: Json = False,
) -> None:
    """Make a fault happen."""
    from federation.cli.console import clock, emit, out

    values = dict(_pair(text) for text in fields or [])
    done = _ask(emulator, lambda control: control.inject(kind, **values))
    if as_json:
        emit({"id": done["id"], "at": done["at_ns"]})
        return
    out().print(f"{done['id']} since {clock(done['at_ns'])}; end it with `fedtwin fault clear {done['id']}`")


def list_faults(*, emulator: Emulator = "", as_json: Json = False) -> None:
    """Show the faults that last."""
    from federation.cli.console import emit, out
    from federation.cli.tables import grid

    found = _ask(emulator, lambda control: control.faults())
    if as_json:
        emit({"faults": found})
        return
    if not found:
        out().print("Nothing is broken.")
        return
    table = grid("id", "kind", "fields", wraps="fields")
    for fault in found:
        shown = {k: v for k, v in fault.items() if k not in {"id", "kind"} and v is not None}
        table.add_row(fault["id"], fault["kind"], ", ".join(f"{k}={v}" for k, v in shown.items()))
    out().print(table)


def clear(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of a fault, or all.")],
    emulator: Emulator = "",
    as_json: Json = False,
) -> None:
    """End a fault, or all of them."""
    from federation.cli.console import emit, out

    done = _ask(emulator, lambda control: control.clear(name))
    if as_json:
        emit({"cleared": done["cleared"], "at": done["at_ns"]})
        return
    out().print(f"ended: {', '.join(done['cleared']) or 'nothing, there was no fault'}")


def truth(
    *,
    flow: Annotated[
        str, typer.Argument(metavar="[FLOW]", help="Default: the demo's service.", show_default=False)
    ] = "",
    last: Last = "10s",
    emulator: Emulator = "",
    as_json: Json = False,
) -> None:
    """Show what the packets of a flow met, timed one by one.

    This is what the twin's figures are judged by; the twin itself never sees it.
    """
    from federation.cli.console import emit, ms, out
    from federation.cli.duration import nanoseconds

    seconds = nanoseconds(last, "--last") / 1e9
    found = _ask(emulator, lambda control: control.truth(flow or None, seconds=seconds))
    if as_json:
        emit(found | {name: found.get(name) for name in ("since_ns", "until_ns")})
        return
    from federation.cli.tables import attributes_table

    rows = {"flow": found["flow"], "packets": f"{found['count']:,} delivered, {found['lost']:,} lost"}
    if found["mean_ms"] is not None:
        rows["mean"] = ms(found["mean_ms"])
        if found["std_error_ms"] is not None:
            rows["mean"] += f", standard error {ms(found['std_error_ms'])}"
        rows["percentiles"] = (
            f"50: {ms(found['p50_ms'])}, 95: {ms(found['p95_ms'])}, 99: {ms(found['p99_ms'])}"
        )
        rows |= {f"in {part}": ms(value) for part, value in found["parts_ms"].items()}
    if not found["complete"]:
        rows["note"] = "the log no longer holds the whole span; ask for less with --last"
    out().print(attributes_table(rows))


def _ask(socket: str, question: Callable[[EmulatorControl], Awaitable[Any]]) -> Any:
    import asyncio

    from domain_twin.emulator.control import EmulatorControl
    from federation.cli.asking import patiently

    path = Path(socket or os.environ.get(VARIABLE, "") or DEFAULT_SOCKET)

    async def session() -> Any:
        async with EmulatorControl(path) as control:
            return await question(control)

    return asyncio.run(patiently(session(), "asking the emulated network"))


def _pair(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE, such as link=poznan-wroclaw")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _field(field: dict[str, Any]) -> str:
    if "default" not in field:
        return f"{field['name']} (needed)"
    return field["name"] if field["default"] is None else f"{field['name']}={field['default']}"
