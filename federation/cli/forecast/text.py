"""A what-if report on a screen: what changes for whom, and how sure that is. Owns columns and colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from federation.cli.console import count, domain_style, ms, ratio
from federation.cli.forecast import reading
from federation.cli.route import BAR
from federation.cli.tables import findings_table, grid, name_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from domain_twin.model.job import ElementForecast, FlowForecast, Report, SweepRow

__all__ = ["elements_table", "flow_block", "flows_table", "report_block", "sweep_table"]

_WHOLE_FLOWS = 4
_MORE = "--top, --json or --report"
_BAR_WIDTH = 20


def report_block(report: Report, *, top: int = 10) -> RenderableType:
    """A whole report; `top` bounds flows, elements and variants, and says how many are not shown."""
    report = reading.cleaned(report)
    parts: list[RenderableType] = [_head(report)]
    if warning := _partial(report):
        parts += [Text(), warning]
    if report.findings:
        parts += [Text(), _title("findings"), findings_table(report.findings[:top])]
        if len(report.findings) > top:
            parts.append(Text(f"{count(len(report.findings) - top, 'finding')} more: {_MORE}", "note"))
    if report.rows:
        parts += [Text(), *_sweep(report.rows, top)]
    parts += _flows(report, top)
    parts += _elements(report.elements, top)
    if report.assumptions:
        parts += [Text(), _title("taken as given, not measured")]
        parts += [Padding(Text(sentence), (0, 0, 0, 2)) for sentence in report.assumptions]
    return Group(*parts)


def _title(words: str) -> Text:
    return Text(words, "bold")


def _head(report: Report) -> RenderableType:
    scenario = report.scenario
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("what if", Text(scenario.name or "(no name)", "bold"))
    if scenario.description:
        table.add_row("", Text(scenario.description.strip()))
    for number, line in enumerate(reading.change_lines(scenario)):
        table.add_row("" if number else "changes", Text(line))
    if swept := reading.sweep_words(scenario):
        table.add_row("sweep", Text(swept))
    table.add_row("about", Text(reading.state_words(report)))
    table.add_row("by", Text(reading.rung_words(report.rung)))
    seed = "" if scenario.seed is None else f"seed {scenario.seed}, "
    job = f"{report.job}, " if report.job else ""
    table.add_row("job" if job else "answer", Text(f"{job}{seed}digest {report.digest[:12] or 'none'}"))
    return table


def _partial(report: Report) -> RenderableType | None:
    troubles = reading.troubles(report)
    if not troubles:
        return None
    lines = [Text("PARTIAL ANSWER: not all that was asked could be said", "bold red")]
    return Group(*lines, *(Text(f"  {line}", "bad") for line in troubles))


def _flows(report: Report, top: int) -> list[RenderableType]:
    ordered = reading.by_change(report.flows)
    if not ordered:
        return [] if report.rows else [Text(), Text("No flow is reported.", "note")]
    parts: list[RenderableType] = []
    for flow in ordered[: min(_WHOLE_FLOWS, top)]:
        parts += [Text(), flow_block(flow)]
    rest = ordered[_WHOLE_FLOWS:top]
    if rest:
        parts += [Text(), _title("other flows"), flows_table(rest)]
    if len(ordered) > top:
        more = count(len(ordered) - top, "flow")
        parts.append(Text(f"{more} more, which change less: {_MORE}", "note"))
    return parts


def flow_block(flow: FlowForecast) -> RenderableType:
    """One flow: its figures before and after, its path in words, and each domain's part of its delay."""
    head = Text.assemble((reading.short(flow.service) or reading.name_of_flow(flow), "bold"))
    if flow.service:
        head.append(f"  {reading.name_of_flow(flow)}")
    if flow.traffic_class:
        head.append(f"  class {flow.traffic_class}", "dim")
    heads = ("figure", "before", "after", "90 % interval", "change")
    table = grid(*heads, right=heads[1:4])
    for row in reading.flow_rows(flow):
        style = {True: "bad", False: "good", None: ""}[row.worse]
        table.add_row(row.name, row.before, Text(row.after, "bold"), row.interval, Text(row.change, style))
    lost = flow.after is None
    words = Text.assemble(("path  ", "dim"), (reading.path_words(flow), "bold red" if lost else ""))
    return Group(
        head, Padding(Group(words, *([table] if table.row_count else []), *_shares(flow)), (0, 0, 0, 2))
    )


def _shares(flow: FlowForecast) -> list[RenderableType]:
    before, after = reading.shares(flow.path_before), reading.shares(flow.path_after)
    if not (before and after):
        return []
    domains = list(dict.fromkeys([*before, *after]))
    if len([domain for domain in domains if domain]) < 2:
        return []
    widest = max([value for value in (*before.values(), *after.values()) if math.isfinite(value)] or [1.0])
    table = grid("domain", "before", "after", "", "change", right=("before", "after", "change"))
    for domain in domains:
        old, new = before.get(domain), after.get(domain)
        change = (new or 0.0) - (old or 0.0)
        style = "bad" if change > 0 else "good"
        moved = abs(change) >= 0.0005
        shown = new if new is not None and math.isfinite(new) else 0.0
        filled = round(_BAR_WIDTH * shown / max(widest, 1e-9))
        table.add_row(
            name_of(domain),
            ms(old) if old is not None else "",
            ms(new) if new is not None else "",
            Text(BAR * filled, domain_style(domain)),
            Text(f"{change:+.3f} ms", style) if moved else "",
        )
    return [table]


def flows_table(flows: Sequence[FlowForecast]) -> Table:
    """Flows, one a row."""
    table = grid(
        "flow",
        "delay",
        "after",
        "p95 after",
        "loss after",
        right=("delay", "after", "p95 after", "loss after"),
        wraps="flow",
    )
    for flow in flows:
        change = reading.delay_change(flow)
        style = "bad" if change > 0 else "good" if change < 0 else ""
        after = flow.after
        table.add_row(
            Text(f"{reading.short(flow.service) or reading.name_of_flow(flow)} {flow.traffic_class}".strip()),
            ms(flow.before.delay_ms.value) if flow.before else Text("no path", "bad"),
            Text(ms(after.delay_ms.value), style) if after else Text("no path", "bold red"),
            ms(after.p95_ms.value) if after else "",
            ratio(after.loss.value) if after and math.isfinite(after.loss.value) else "",
        )
    return table


def _elements(elements: Sequence[ElementForecast], top: int) -> list[RenderableType]:
    if not elements:
        return []
    ordered = reading.changed_elements(elements)
    parts: list[RenderableType] = [Text(), _title("elements that change most"), elements_table(ordered[:top])]
    if len(ordered) > top:
        parts.append(Text(f"{count(len(ordered) - top, 'element')} more: {_MORE}", "note"))
    return parts


def elements_table(elements: Sequence[ElementForecast]) -> Table:
    """Utilisation of elements before and after."""
    heads = ("element", "utilisation", "after", "", "loss after")
    table = grid(*heads, right=("utilisation", "after", "loss after"), wraps="element")
    for each in elements:
        after = each.utilisation_after
        style = "bad" if after >= 0.9 else "warn" if after >= 0.7 else "good"
        inside = reading.short(each.element).removeprefix(f"{each.domain}:").removeprefix(f"{each.domain}/")
        table.add_row(
            Text.assemble((each.domain, domain_style(each.domain)), f" {inside}", (f" {each.kind}", "dim")),
            _share(each.utilisation_before),
            Text(_share(after), f"bold {style}" if after >= 0.9 else ""),
            Text(BAR * round(10 * min(1.0, after)), style) if math.isfinite(after) else "",
            ratio(each.loss_after) if each.loss_after > 0 else "",
        )
    return table


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "unknown"


def _sweep(rows: Sequence[SweepRow], top: int) -> list[RenderableType]:
    ordered = reading.ranking(rows)
    cut = f", the worst {top}" if len(ordered) > top else ", worst first"
    return [_title(f"{count(len(ordered), 'variant')}{cut}"), sweep_table(ordered[:top])]


def sweep_table(rows: Sequence[SweepRow]) -> Table:
    """Variants of a sweep, one a row, in the order given."""
    table = grid(
        "", "what if", "no path", "missed", "worst delay", "worst loss", "busiest",
        right=("", "no path", "missed", "worst delay", "worst loss", "busiest"), wraps="what if",
    )  # fmt: skip
    for number, row in enumerate(rows, 1):
        missed = Text(str(len(row.missed)), "bad") if row.missed else Text("0", "dim")
        unreachable = Text(str(row.unreachable), "bold red") if row.unreachable else Text("0", "dim")
        what = Text(reading.short(row.name))
        remarks = [f"slowest {reading.short(row.worst_flow)}"] if row.worst_flow else []
        remarks += [f"busiest {reading.short(row.busiest)}"] if row.busiest else []
        if remarks:
            what.append("\n" + ", ".join(remarks), "dim")
        table.add_row(
            str(number),
            what,
            unreachable,
            missed,
            ms(row.worst_delay_ms),
            ratio(row.worst_loss) if math.isfinite(row.worst_loss) else "unknown",
            _share(row.highest_utilisation),
        )
    return table
