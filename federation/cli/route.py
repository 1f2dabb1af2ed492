"""Paths, budgets and sparklines on a screen. Owns how an end-to-end answer is read at a glance."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from federation.cli.console import domain_style, ms
from federation.cli.tables import grid, kpi_cells, name_of, short_link

if TYPE_CHECKING:
    from rich.console import RenderableType

    from domain_twin.model import BudgetShare, ComposedPath, DomainOutcome, Event, PathAnswer, ServiceStatus

_BLOCKS = "▁▂▃▄▅▆▇█"
BAR = "█"
REST = "·"


def chain(path: ComposedPath) -> Text:
    """The domains a path crosses, in order."""
    names = [name for name, _ in groupby(hop.domain for hop in path.hops if hop.domain)]
    return Text(" > ", "note").join([name_of(name) for name in names])


def hops_table(path: ComposedPath) -> Table:
    """A path hop by hop: a domain's segment, or the inter-domain link between two."""
    table = grid("through", "from", "to", "delay", "bandwidth", "loss", right=("delay", "bandwidth", "loss"))
    for column in table.columns[1:3]:
        column.no_wrap, column.overflow = False, "fold"
    for hop in path.hops:
        through = name_of(hop.domain) if hop.domain else Text(short_link(hop.link_id), "note")
        if hop.stale:
            through.append(" stale", "warn")
        delay, bandwidth, loss = kpi_cells(hop.kpis)
        source, target = (hop.source, hop.target) if hop.domain else ("", "")
        table.add_row(through, source, target, delay, bandwidth, loss)
    total = kpi_cells(path.total)
    table.add_row(*(Text(str(cell), "bold") for cell in ("end to end", "", "", *total)))
    return table


def uncertainty(path: ComposedPath) -> str:
    """`± 0.012 ms` (one standard error) and the delay variation, where they are known."""
    total = path.total
    parts = []
    if total.delay_std_error_ms > 0:
        parts.append(f"standard error {total.delay_std_error_ms:.3f} ms")
    if total.delay_variance_ms2 > 0:
        parts.append(f"delay variation {math.sqrt(total.delay_variance_ms2):.3f} ms")
    return ", ".join(parts)


def budget_table(budget: Sequence[BudgetShare], objective_ms: float | None, width: int = 24) -> Table:
    """Each operator's share of the objective and what it uses of it; every domain sees its own row only."""
    table = grid("domain", "uses", "of its share", "", "to spare", right=("uses", "of its share", "to spare"))
    widest = max([share.share_ms for share in budget] + [share.used_ms for share in budget] + [1e-9])
    for share in budget:
        style = domain_style(share.domain) if share.slack_ms >= 0 else "bad"
        table.add_row(
            name_of(share.domain),
            ms(share.used_ms),
            ms(share.share_ms),
            bar(share.used_ms, share.share_ms, widest, width, style),
            Text(f"{share.slack_ms:+.3f} ms", "" if share.slack_ms >= 0 else "bad"),
        )
    used = sum(share.used_ms for share in budget)
    if budget:
        promised = objective_ms if objective_ms is not None else sum(share.share_ms for share in budget)
        spare = promised - used
        table.add_row(
            Text("end to end", "bold"),
            Text(ms(used), "bold"),
            Text(ms(promised), "bold"),
            "",
            Text(f"{spare:+.3f} ms", "bold" if spare >= 0 else "bold red"),
        )
    return table


def bar(used: float, share: float, widest: float, width: int, style: str) -> Text:
    """What is used, then what is left of the share, on a scale that all rows have in common."""
    filled = round(width * min(used, widest) / widest)
    if used > 0 and filled == 0:
        filled = 1
    room = max(filled, round(width * min(share, widest) / widest))
    return Text.assemble((BAR * filled, style), (REST * (room - filled), "dim"), " " * (width - room))


def service_block(status: ServiceStatus, *, title: bool = True, width: int = 24) -> RenderableType:
    """A service: what was promised, what it gets, and who uses how much of the budget."""
    parts: list[RenderableType] = []
    if title:
        parts.append(service_line(status))
    if status.path:
        parts.append(Text.assemble(("path      ", "dim"), chain(status.path)))
    if status.cause:
        parts.append(Text.assemble(("because   ", "dim"), status.cause))
    if status.budget:
        parts += [Text(), budget_table(status.budget, status.service.objective.delay_ms, width)]
    parts += [Text(), *outcome_lines(status.domains)] if any(trouble(status.domains)) else []
    return Group(*parts)


def service_line(status: ServiceStatus) -> Text:
    """A service on one line with its verdict."""
    service = status.service
    line = Text.assemble((service.name or service.id, "bold"), f"  {service.source} to {service.target}  ")
    if status.path:
        line.append(ms(status.path.total.delay_ms), "bold")
    if service.objective.delay_ms is not None:
        line.append(f" of {service.objective.delay_ms:g} ms  ")
    line.append_text(verdict_of(status))
    return line


def verdict_of(status: ServiceStatus) -> Text:
    """Whether the promise to a service is kept."""
    return verdict(status.met) if status.path else Text("no path", "bold red")


def verdict(met: bool | None) -> Text:
    """Whether a promise is kept."""
    return {True: Text("met", "good"), False: Text("missed", "bold red"), None: Text("unknown", "warn")}[met]


def services_table(
    statuses: Sequence[ServiceStatus],
    trend: Mapping[str, Collection[float]] | None = None,
    width: int = 100,
) -> Table:
    """All services, one a row, with the trend of their delay where there is one; fits into `width`."""
    services = [status.service for status in statuses]
    parts = ("name", "source", "target")
    widest = sum(max((len(getattr(s, part)) for s in services), default=0) for part in parts)
    room = max(4, min(32, width - widest - 38))
    columns = [
        "service",
        "from",
        "to",
        "delay",
        "objective",
        "verdict",
        *(["trend"] if trend is not None else []),
    ]
    table = grid(*columns, right=("delay", "objective"))
    for status in statuses:
        service = status.service
        row: list[str | Text] = [
            service.name or service.id,
            service.source,
            service.target,
            ms(status.path.total.delay_ms) if status.path else "",
            f"{service.objective.delay_ms:g} ms" if service.objective.delay_ms is not None else "",
            verdict_of(status),
        ]
        if trend is not None:
            row.append(Text(sparkline(trend.get(service.id, ()), room), "cyan"))
        table.add_row(*row)
    return table


def trouble(domains: Sequence[DomainOutcome]) -> list[DomainOutcome]:
    """Domains that answered anything but `ok`."""
    return [each for each in domains if each.outcome.value != "ok"]


def outcome_lines(domains: Sequence[DomainOutcome]) -> list[Text]:
    """One line for each domain that could not answer as asked: a refusal is data."""
    return [
        Text.assemble(name_of(each.domain), (f"  {each.outcome.value}", "warn"), f"  {each.reason}")
        for each in trouble(domains)
    ]


def answer_block(answer: PathAnswer) -> RenderableType:
    """The answer to a path question: every alternative, then what each domain had to say."""
    parts: list[RenderableType] = []
    for number, path in enumerate(answer.paths, 1):
        if number > 1:
            parts.append(Text())
        label = "path" if len(answer.paths) == 1 else f"path {number}"
        line = Text.assemble((f"{label}  ", "dim"), chain(path))
        if extra := uncertainty(path):
            line.append(f"  {extra}", "note")
        parts += [line, hops_table(path)]
    if not answer.paths:
        parts.append(Text(f"no path from {answer.source} to {answer.target}", "bad"))
    if answer.inner_approximation:
        parts.append(Text("A domain cut its list of choices: there may be better paths than these.", "warn"))
    return Group(*parts, *outcome_lines(answer.domains))


def sparkline(values: Collection[float], width: int = 32) -> str:
    """The last `width` values as blocks, from their least to their greatest; gaps (nan) are blank."""
    shown = list(values)[-width:]
    known = [value for value in shown if math.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    spread = high / 2 - low / 2  # halves: the difference of two large numbers may be infinite
    return "".join(_block((value / 2 - low / 2) / spread if spread else 0.0) for value in shown)


def _block(height: float) -> str:
    return _BLOCKS[round(height * (len(_BLOCKS) - 1))] if math.isfinite(height) else " "


def turning_points(events: Sequence[Event], service: str, since: int = 0) -> list[Event]:
    """Events from `since` on that changed a service's path or verdict, and domains coming and going.

    Not every new figure. `service` is an id or a name.
    """
    chosen: list[Event] = []
    last: tuple[int, bool | None] | None = None
    for event in events:
        status = event.service_status
        if status is not None and service in (status.service.id, status.service.name):
            now = (status.path.total.metric if status.path else -1, status.met)
            if last is not None and now != last and event.at >= since:
                chosen.append(event)
            last = now
        elif event.kind.value == "domain" and event.at >= since:
            chosen.append(event)
    return chosen
