"""What each act shows. Owns columns and words; takes what the twin answered and what the packets say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from federation.cli.console import clock, count, domain_style, ms
from federation.cli.demo.files import OPERATORS, SERVICE
from federation.cli.demo.partner_files import GUEST
from federation.cli.demo.partner_screen import next_steps
from federation.cli.route import bar, chain, turning_points, verdict
from federation.cli.tables import grid, name_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from domain_twin.model import DomainStatus, Event, ServiceStatus
    from federation.cli.demo.account import Account, Phase, Reaction
    from federation.cli.demo.dependence import Compared, Said
    from federation.cli.demo.evidence import Evidence
    from federation.cli.demo.files import DemoFiles
    from federation.cli.demo.inside import Inside, Stretch
    from federation.cli.demo.outage import Outage
    from federation.cli.demo.prediction import Prediction, Verdict
    from federation.cli.demo.screen import Screen

_BETWEEN = "inter-domain"


def joined(domains: Sequence[DomainStatus], at: Mapping[str, float]) -> Table:
    """Who joined, as whom, and when."""
    table = grid("domain", "devices speak", "identity in the certificate", "joined", right=("joined",))
    speaks = {operator.domain: operator.speaks for operator in OPERATORS}
    for status in sorted(domains, key=_order):
        table.add_row(
            name_of(status.domain),
            speaks.get(status.domain, ""),
            status.peer,
            f"{at.get(status.domain, 0):.1f} s",
        )
    return table


def composed(domains: Mapping[str, DomainStatus], insides: Mapping[str, Inside]) -> Table:
    """Side by side: what each operator has, and what the broker sees of it."""
    table = grid(
        "domain",
        "devices",
        "links",
        "values",
        "the broker sees",
        "hidden from it",
        wraps="hidden from it",
        right=("devices", "links", "values"),
    )
    totals = [0, 0, 0, 0]
    for status in sorted(domains.values(), key=_order):
        inside = insides[status.domain]
        table.add_row(
            name_of(status.domain),
            str(inside.devices),
            str(inside.links),
            f"{inside.leaves:,}",
            count(status.points, "point"),
            f"{count(status.hidden_nodes, 'node')}, {count(status.hidden_links, 'link')}",
        )
        for index, number in enumerate((inside.devices, inside.links, inside.leaves, status.points)):
            totals[index] += number
    hidden = sum(status.hidden_nodes for status in domains.values())
    hidden_links = sum(status.hidden_links for status in domains.values())
    table.add_row(
        *(
            Text(cell, "bold")
            for cell in (
                "together",
                str(totals[0]),
                str(totals[1]),
                f"{totals[2]:,}",
                count(totals[3], "point"),
                f"{count(hidden, 'node')}, {count(hidden_links, 'link')}",
            )
        )
    )
    return table


def service(status: ServiceStatus, phase: Phase, width: int, before: Phase | None = None) -> RenderableType:
    """Path and budget; the last column is what this service's packets met, part by part."""
    budget = _budget(status.service.objective.delay_ms, phase, before, width)
    if status.path is None:
        return budget
    return Group(Text.assemble(("path  ", "dim"), chain(status.path)), Text(), budget)


def _budget(objective: float | None, phase: Phase, before: Phase | None, width: int) -> Table:
    heads = ["", "share", "used", "", *(["before"] if before else []), "packets say"]
    table = grid(*heads, right=("share", "used", "before", "packets say"))
    widest = max([max(item["share_ms"], item["used_ms"]) for item in phase.budget] or [1.0])
    room = max(8, min(30, width - 66 - (12 if before else 0)))
    old = {item["domain"]: item["used_ms"] for item in before.budget} if before else {}
    for item in phase.budget:
        domain, share, used = item["domain"], item["share_ms"], item["used_ms"]
        style = domain_style(domain) if used <= share else "bad"
        row: list[RenderableType] = [
            name_of(domain),
            ms(share),
            ms(used),
            bar(used, share, widest, room, style),
        ]
        if before:
            row.append(Text(ms(old[domain]), "dim") if domain in old else "")
        told = phase.packets_parts_ms.get(domain or _BETWEEN)
        row.append(ms(told) if told is not None else "")
        table.add_row(*row)
    total: list[RenderableType] = [
        Text("end to end", "bold"),
        Text(ms(objective) if objective is not None else "", "bold"),
        Text(ms(phase.delay_ms), "bold"),
        verdict(phase.met),
    ]
    if before:
        total.append(Text(ms(before.delay_ms), "dim"))
    total.append(Text(ms(phase.packets_delay_ms) if phase.packets_delay_ms is not None else "none", "bold"))
    table.add_row(*total)
    return table


def truth(phase: Phase) -> RenderableType:
    """The twin's figure beside what the packets met, in one sentence."""
    if phase.packets_delay_ms is None:
        return Text(f"No packet of the service arrived ({phase.packets_lost} lost).", "bad")
    difference = phase.delay_ms - phase.packets_delay_ms
    error = f"standard error {phase.packets_std_error_ms:.3f} ms" if phase.packets_std_error_ms else ""
    lost = f"{phase.packets_lost} lost" if phase.packets_lost else "none lost"
    table = _facts()
    table.add_row(
        "the twin says", Text(ms(phase.delay_ms), "bold"), "from what four operators measured and disclosed"
    )
    table.add_row(
        "the packets say",
        Text(ms(phase.packets_delay_ms), "bold"),
        f"{phase.packets:,} packets timed one by one, {lost}",
    )
    table.add_row("difference", f"{difference:+.3f} ms", error)
    return table


def route(stretches: Sequence[Stretch], chosen: Stretch | None = None) -> Text:
    """The routers a service crosses, by the names only their operator knows; the link that will be cut."""
    line = Text(stretches[0].device, "yellow")
    for stretch in stretches:
        cut = stretch == chosen
        line.append(" ── " if not cut else " ─✕─ ", "bold red" if cut else "dim")
        line.append(stretch.neighbour, "yellow")
    return line


def routers(stretches: Sequence[Stretch]) -> tuple[str, ...]:
    """The routers of a route, in order."""
    return (stretches[0].device, *(stretch.neighbour for stretch in stretches)) if stretches else ()


def prediction(said: Prediction) -> RenderableType:
    """What would be, as the agent says it; where it says nothing, why."""
    if not said.made:
        return Text.assemble(("no prediction  ", "warn"), said.problem)
    table = _facts()
    table.add_row("now", ms(said.before_ms), "end to end, as the twin measured it")
    table.add_row("without the link", Text(ms(said.delay_ms), "bold"), _interval(said))
    if said.changes_ms:
        parts = ", ".join(f"{domain} {change:+.3f}" for domain, change in said.changes_ms.items())
        table.add_row("of that", "", f"{parts} ms")
    table.add_row("through", "", Text(" ── ".join(said.route), "yellow"))
    whom = "the broker and four agents" if said.changes_ms else "transport's own agent"
    rung = _RUNGS.get(said.rung, said.rung)
    table.add_row("answered in", f"{said.took_ms:,.0f} ms", f"by {whom}: {rung}")
    if said.remark:
        table.add_row("not the broker", "", said.remark)
    return table


_RUNGS = {"tables": "queueing tables", "residual": "queueing tables with a fitted correction"}


def _interval(said: Prediction) -> str:
    if math.isfinite(said.low_ms) and math.isfinite(said.high_ms):
        return f"90 % interval {said.low_ms:.3f} to {said.high_ms:.3f} ms"
    return "no interval: this twin is not calibrated"


def dependents(said: Said, services: Sequence[ServiceStatus]) -> RenderableType:
    """The chains from the link to customers, and who answered; where nobody did, why."""
    from federation.cli.impact import drawing, summary

    if said.impact is None:
        return Text.assemble(("no answer  ", "warn"), said.problem)
    untouched = [each.service.name for each in services if each.service.id not in said.services]
    table = _facts()
    if untouched:
        table.add_row("not affected", "", Text(", ".join(sorted(untouched))))
    domains = [part.domain for part in said.impact.parts]
    whom = Text("transport's own agent and the broker")
    if len(domains) > 1:
        whom.append(f" of {', '.join(domains)}", "dim")
    table.add_row("answered in", f"{said.took_ms:,.0f} ms", whom)
    return Group(summary(said.impact), Text(), drawing(said.impact, full=False, top=8), Text(), table)


def compared(told: Compared, services: Sequence[ServiceStatus]) -> RenderableType:
    """Who was said to depend on the link, and whose path changed when it was cut."""
    names = {each.service.id: each.service.name for each in services}

    def listed(ids: Iterable[str]) -> str:
        return ", ".join(sorted(names.get(each, each) for each in ids)) or "none"

    table = _facts()
    table.add_row("said to depend on it", "", Text(listed(told.said.services), "bold"))
    table.add_row("their path changed", "", Text(listed(told.changed), "bold"))
    table.add_row("it did not", "", listed(told.asked - told.changed))
    verdict = Text("as was said", "good") if told.same else Text("not as was said", "bad")
    table.add_row("so it came", "", verdict)
    return table


def verdict_on(verdict: Verdict) -> RenderableType:
    """A prediction beside what came, and how far off it was."""
    said = verdict.prediction
    table = _facts()
    table.add_row("predicted", Text(ms(said.delay_ms), "bold"), _interval(said))
    table.add_row(
        "the twin says", ms(verdict.twin_ms), f"predicted {verdict.of_twin_percent:+.1f} % off that"
    )
    inside = {True: ", inside the interval", False: ", outside the interval", None: ""}[verdict.inside]
    off = verdict.of_packets_percent
    packets = f"predicted {off:+.1f} % off that{inside}" if math.isfinite(off) else "no packet arrived"
    table.add_row("the packets say", ms(verdict.packets_ms), packets)
    same = Text("as predicted", "good") if verdict.same_route else Text("another than predicted", "bad")
    table.add_row("the path", "", same)
    return table


def _facts() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    return table


def reaction(happened: Reaction) -> Table:
    """From the commit to the event at somebody who watches the composed twin, on the same clock."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        (happened.sent_at, Text("<commit> is sent", "dim")),
        (happened.replied_at, Text(f"{happened.device} answers <ok/>", "dim")),
        (happened.event_at, Text("a watcher of the end-to-end twin has the new path and budget", "bold")),
    ]
    if happened.path_at and happened.path_at != happened.event_at:
        rows.append((happened.path_at, Text("a watcher has the new path; its delay is not measured yet")))
    for at, words in sorted(rows, key=lambda row: row[0]):
        style = "bold green" if at == happened.event_at else "dim"
        table.add_row(Text(f"{(at - happened.sent_at) / 1e6:.0f} ms", style), words)
    return table


def outage(happened: Outage) -> Table:
    """From the kill to the whole twin, as somebody who watches the composed one has it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    rows = [
        (happened.killed_at, "SIGKILL", "dim"),
        (happened.lost_at, "a watcher knows that transport is lost", "bold"),
        (happened.stale_at, "the service's answer says that transport's part of it is stale", "bold"),
        (happened.started_at, "the agent is started again", "dim"),
        (happened.back_at, "its devices are mirrored, its session is back", "dim"),
        (happened.whole_at, "the service is answered from current figures", "bold"),
    ]
    for at, words, style in rows:
        table.add_row(Text(f"{(at - happened.killed_at) / 1e6:,.0f} ms", style), Text(words, style))
    return table


def evidence(found: Sequence[Evidence]) -> Table:
    """What each side's audit holds, and whether it is whole."""
    heads = ("whose", "records", "view steps", "answers", "refused", "verified")
    table = grid(*heads, right=heads[1:5])
    for each in found:
        table.add_row(
            each.who,
            f"{each.records:,}",
            f"{each.views:,}",
            f"{each.answers:,}",
            str(each.refused),
            Text("whole", "good") if each.whole else Text("NOT WHOLE", "bad"),
        )
    return table


def history(
    statuses: Sequence[ServiceStatus], events: Sequence[Event], reactions: Sequence[Reaction], width: int
) -> RenderableType:
    """The delay over the whole story, and what happened when."""
    from federation.cli.plots import series_plot

    points = [(s.at, s.path.total.delay_ms if s.path else math.nan) for s in statuses]
    drawing = series_plot(
        points,
        width=min(width, 96),
        height=12,
        unit="one-way delay, ms",
        marks=[r.event_at for r in reactions],
    )
    since = reactions[0].sent_at if reactions else 0
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for event in turning_points(events, SERVICE, since):
        table.add_row(clock(event.at), event.text)
    return Group(drawing, Text(), table)


def summary(screen: Screen, account: Account) -> None:
    """All measured figures of the story on a few lines."""
    heads = ("", "path cost", "packets lost", "the twin says", "the packets say")
    table = grid(*heads, right=heads[1:])
    for phase in account.phases:
        packets = ms(phase.packets_delay_ms) if phase.packets_delay_ms is not None else "none arrived"
        lost = f"{phase.packets_lost} of {phase.packets + phase.packets_lost}"
        table.add_row(phase.name, f"{phase.metric:,}", lost, ms(phase.delay_ms), packets)
    screen.show(table)
    times = Table.grid(padding=(0, 2, 0, 0))
    times.add_column(no_wrap=True)
    times.add_column(justify="right", no_wrap=True)
    if account.first_view_s is not None:
        times.add_row(
            "from start to the first end-to-end view", Text(f"{account.first_view_s:.1f} s", "bold")
        )
    for happened in account.reactions:
        first = happened.path_at or happened.event_at
        at_once = first == happened.event_at
        words = f"{happened.name}: from the device's <ok/> to the new path{' and budget' if at_once else ''}"
        times.add_row(words, Text(f"{(first - happened.replied_at) / 1e6:.0f} ms", "bold"))
        if not at_once:
            words = f"{happened.name}: to its delay and budget, once the devices had measured it"
            times.add_row(words, Text(f"{happened.after_reply_ms:.0f} ms", "bold"))
    for told in account.predictions:
        off = told.of_packets_percent
        words = "cut: the prediction made before it, beside the packets"
        times.add_row(words, Text(f"{off:+.1f} %" if math.isfinite(off) else "none", "bold"))
    for each in account.outages:
        lost_ms = (each.stale_at - each.killed_at) / 1e6
        times.add_row(
            f"{each.process} killed: to the answer being marked stale", Text(f"{lost_ms:.0f} ms", "bold")
        )
        whole_s = (each.whole_at - each.started_at) / 1e9
        times.add_row(f"{each.process} started again: to the whole twin", Text(f"{whole_s:.1f} s", "bold"))
    screen.show(times)
    hidden = sum(domain["hidden_nodes"] for domain in account.domains)
    screen.say(
        f"All that time {count(hidden, 'node')} stayed hidden: the broker never learned a router's name,"
        " and no operator learned another's budget."
    )


def what_next(screen: Screen, files: DemoFiles) -> None:
    """What to try while the demo runs on: exact commands, as they work from this folder."""
    from federation.cli.console import short_path
    from federation.client import DEFAULT_PROFILE

    standard = files.client.resolve() == DEFAULT_PROFILE.resolve()
    broker = "" if standard else f" --at {short_path(files.client)}"
    folder = "" if standard else f" --folder {short_path(files.folder)}"
    own = f" --at {short_path(files.socket('transport'))}"
    partner = "" if standard else f" --api {short_path(files.partner(GUEST.id))}"
    rows = [
        (f"fedtwin watch{broker}", "the services, live"),
        (f"fedtwin services factory-control{broker}", "who uses how much of the ten milliseconds"),
        (f"fedtwin path ran/cell-1 edge/host-1 --best -k 3{broker}", "what could be provisioned"),
        (f"fedtwin view transport{broker}", "the transport network as partners see it"),
        (f"fedtwin view transport{own}", "the same network as its operator sees it"),
        (f"fedtwin devices{own}", "how well each router is mirrored"),
        (f"fedtwin history factory-control --plot{broker}", "the minutes since the start"),
        (f"fedtwin whatif --demand x1.5{own}", "what a busier day would do"),
        (f"fedtwin whatif --name maintenance-1 --demand x1{broker}", "the cut again, as all four compute it"),
        (f"fedtwin sweep --failures links --top 5{own}", "every link failing once, the worst first"),
        (f"fedtwin impact core/upf-1{broker}", "which services, slices and customers depend on it, and why"),
        (
            f"fedtwin query 'SELECT * {{ ?service ndt:follows/ndt:usesSegment/ndt:delayMs ?ms }}'{broker}",
            "a question in SPARQL, asked of all four",
        ),
        (f"fedtwin learn card demand{broker}", "what the four trained together, beside naive forecasts"),
        (f"fedtwin check{own}", "what is flawed in the transport network's graph"),
        *next_steps(partner),
        (f"fedtwin fault --help{''}", "break something, and watch"),
        (f"fedtwin demo --stop{folder}", "end it all"),
    ]
    screen.act("Everything runs on. Try")
    for command, words in rows:
        screen.console.print(Text.assemble(("   " + command, "command")), soft_wrap=True)
        screen.console.print(Text(f"      {words}", "dim"))
    screen.console.print()
    screen.say(f"Certificates, configuration and logs are in {short_path(files.folder)}.")


def _order(status: DomainStatus) -> tuple[int, str]:
    known = [operator.domain for operator in OPERATORS]
    return (known.index(status.domain) if status.domain in known else len(known), status.domain)


def most_changed(before: Phase, now: Phase) -> str:
    """The domain whose part of the delay moved most, as a person would say it."""
    old = {item["domain"]: item["used_ms"] for item in before.budget}
    moved = {item["domain"]: item["used_ms"] - old.get(item["domain"], 0.0) for item in now.budget}
    domain = max(moved, key=lambda name: abs(moved[name]), default="")
    return f"{domain or 'between the domains'}, {moved.get(domain, 0.0):+.1f} ms"
