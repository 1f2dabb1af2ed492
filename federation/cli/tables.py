"""Tables of what a twin answers. Owns columns and their order; takes model objects, returns renderables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from federation.cli.console import age, clock, count, domain_style, mbps, ms, ratio

if TYPE_CHECKING:
    from domain_twin.model import (
        Alarm,
        DeviceStatus,
        DomainStatus,
        Element,
        Event,
        Finding,
        PathKpis,
        Sample,
        Segment,
        View,
    )


def grid(*columns: str, right: Iterable[str] = (), wraps: str = "") -> Table:
    """A table without lines, columns two spaces apart; only the column `wraps` may take several lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold" if name == wraps else "ellipsis",
            no_wrap=name != wraps,
        )
    return table


def name_of(domain: str) -> Text:
    """A domain's name in its colour."""
    return Text(domain or "between domains", style=domain_style(domain))


def domains_table(domains: Sequence[DomainStatus], now: int | None = None) -> Table:
    """Who takes part, what is known of it, and how much of it stays hidden."""
    table = grid(
        "domain",
        "operator",
        "state",
        "points",
        "hidden from here",
        "heard",
        right=("points", "heard"),
    )
    for each in domains:
        state = Text("connected", "good") if each.connected else Text("lost", "bad")
        hidden = f"{count(each.hidden_nodes, 'node')}, {count(each.hidden_links, 'link')}"
        table.add_row(
            name_of(each.domain),
            each.operator,
            state,
            str(each.points),
            hidden,
            age(each.received_at, now),
        )
    return table


def devices_table(devices: Sequence[DeviceStatus], now: int | None = None) -> Table:
    """How well each device is mirrored."""
    table = grid(
        "device",
        "protocol",
        "state",
        "leaves",
        "quarantined",
        "reconnects",
        "heard",
        right=("leaves", "quarantined", "reconnects", "heard"),
    )
    for each in devices:
        style = {"synchronised": "good", "stale": "bad"}.get(each.connection.value, "warn")
        table.add_row(
            each.name,
            each.protocol,
            Text(each.connection.value, style),
            f"{each.leaves:,}",
            Text(str(each.quarantined), "warn" if each.quarantined else ""),
            str(each.reconnects),
            age(each.received_at, now),
        )
    return table


def points_table(view: View) -> Table:
    """The points of a view: borders with what they join, published end points under their aliases."""
    table = grid("point", "kind", "role", "state", "joins", "capacity", right=("capacity",))
    order = {"endpoint": 0, "border": 1, "node": 2}
    for point in sorted(view.points.values(), key=lambda p: (order.get(p.kind.value, 3), p.id)):
        state = (
            Text("stale", "warn") if point.stale else Text("up", "good") if point.up else Text("down", "bad")
        )
        joins = f"{point.peer_domain} ({short_link(point.link_id)})" if point.link_id else ""
        capacity = mbps(point.capacity_mbps) if point.capacity_mbps else ""
        table.add_row(point.id, point.kind.value, point.role, state, joins, capacity)
    return table


def segments_table(segments: Sequence[Segment]) -> Table:
    """What lies between two points, one way: what is forwarded now, and how many choices there are."""
    table = grid(
        "from", "to", "delay", "bandwidth", "loss", "choices", right=("delay", "bandwidth", "loss", "choices")
    )
    for each in segments:
        figures = kpi_cells(each.current) if each.current else (Text("no path", "bad"), "", "")
        choices = f"{len(each.options)}{'+' if each.truncated else ''}"
        table.add_row(each.source, each.target, *figures, choices)
    return table


def short_link(link_id: str) -> str:
    """The part of an inter-domain link's id that tells it from others."""
    return link_id.removeprefix("urn:ndt:idl:")


def kpi_cells(kpis: PathKpis) -> tuple[str | Text, str | Text, str | Text]:
    """Delay, bandwidth and loss, in the form of every table."""
    return ms(kpis.delay_ms), mbps(kpis.bandwidth_mbps), ratio(kpis.loss)


def findings_table(findings: Sequence[Finding], now: int | None = None) -> Table:
    """What a person should see, each with what would make it go away."""
    table = grid("severity", "domain", "finding", "since", right=("since",), wraps="finding")
    styles = {"error": "bad", "warning": "warn", "info": "note"}
    for each in findings:
        text = Text(each.message)
        if each.remedy:
            text.append(f"\nRemedy: {each.remedy}")
        text.append(f"\n{each.code}, {each.element}", "dim")
        table.add_row(
            Text(each.severity.value, styles.get(each.severity.value, "")),
            name_of(each.domain),
            text,
            age(each.since, now) if each.since else "",
        )
    return table


def alarms_table(alarms: Sequence[Alarm], now: int | None = None) -> Table:
    """What is wrong: how bad, where, since when, and who looks after it."""
    table = grid("id", "severity", "where", "alarm", "raised", "operator", right=("raised",), wraps="alarm")
    styles = {"critical": "bad", "major": "bad", "minor": "warn", "warning": "warn"}
    for each in alarms:
        text = Text(each.text)
        if each.stale:
            text.append("\nlast known: its source does not answer", "warn")
        if each.remedy:
            text.append(f"\nRemedy: {each.remedy}")
        times = f", raised {each.occurrences} times" if each.occurrences > 1 else ""
        text.append(f"\n{each.key.qualifier or each.key.alarm_type}{times}", "dim")
        word, style = (
            ("cleared", "good")
            if each.is_cleared
            else (each.severity.value, styles.get(each.severity.value, ""))
        )
        state = each.operator_state.value if each.operator_state.value != "none" else ""
        where = Text.assemble(
            name_of(each.key.domain), f"\n{each.key.device or each.element or each.key.resource}"
        )
        table.add_row(each.id, Text(word, style), where, text, age(each.raised_at, now), state)
    return table


def elements_table(elements: Sequence[Element]) -> Table:
    """Elements of a twin in general form."""
    table = grid("element", "kind", "state", "kpis", wraps="kpis")
    for each in elements:
        state = (
            Text("stale", "warn") if each.stale else Text("up", "good") if each.up else Text("down", "bad")
        )
        kpis = ", ".join(f"{kpi.name} {kpi.value:.4g} {kpi.unit}" for kpi in each.kpis)
        table.add_row(each.id, each.kind, state, kpis)
    return table


def samples_table(samples: Sequence[Sample]) -> Table:
    """A series as it was."""
    table = grid("at", "value", "origin", right=("value",))
    for each in samples:
        table.add_row(clock(each.at), f"{each.value:.12g}", each.origin.value)
    return table


def event_line(event: Event) -> Text:
    """One event on one line: when, about which domain, what happened."""
    line = Text()
    line.append(clock(event.at), "note")
    line.append("  ")
    line.append(f"{event.kind.value:<8}", "note")
    line.append(f"{event.domain or '-':<10}", domain_style(event.domain) if event.domain else "note")
    line.append(f" {event.text}")
    if event.observed_at and event.at > event.observed_at:
        line.append(f"  ({(event.at - event.observed_at) / 1e6:.0f} ms after the device)", "note")
    return line


def attributes_table(rows: Mapping[str, str]) -> Table:
    """Two aligned columns: a word, and what it is."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table
