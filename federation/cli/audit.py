"""`fedtwin audit`: is an audit whole, and what does it say. Owns words and tables; never writes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from domain_twin.trust.audit import Record
    from domain_twin.trust.roots import TrustBundle

SECTION = "Operate"

Place = Annotated[
    Path,
    typer.Argument(metavar="FOLDER|TOML", help="An audit's folder, or the configuration of its process."),
]
Peer = Annotated[str, typer.Option("--peer", help="Only records that name this SPIFFE identity or domain.")]
Action = Annotated[str, typer.Option("--action", help="Only this action or kind: evaluate, refused, ...")]
Since = Annotated[str, typer.Option("--since", metavar="DURATION", help="Only of the last 90s, 10m, 2h, 1d.")]


def add_to(app: typer.Typer) -> None:
    """Add `audit` with its sub-commands."""
    part = subgroup(app, "audit", section=SECTION, help_text="Verify, read and export the audit.")
    part.callback()(_group)
    command(
        part,
        "verify",
        group="audit",
        section=SECTION,
        example=(
            "fedtwin audit verify agent.toml",
            "fedtwin audit verify .fedtwin/demo/broker/state/audit --against other/state/audit",
        ),
    )(verify)
    command(
        part,
        "show",
        group="audit",
        section=SECTION,
        example="fedtwin audit show agent.toml --action refused --since 1h",
    )(show)
    command(
        part,
        "export",
        group="audit",
        section=SECTION,
        example="fedtwin audit export broker.toml --ocsf --since 1d",
    )(export)


def _group() -> None:
    """Read the hash-chained audit of an agent or a broker."""


def verify(
    *,
    place: Place,
    root: Annotated[
        Path | None, typer.Option("--root", help="PEM file with the root of the audit's own operator.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="The other side's audit: it notes how far this one was.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether an audit is whole, and where it is not.

    Finds every record that was changed, left out, moved, put in or replaced, and records that
    were cut off as far as a signed head knows them. Exit status 1 when something is found.
    """
    from domain_twin.trust.audit import instant
    from domain_twin.trust.audit_verify import verify as follow
    from federation.cli.console import emit, out
    from federation.cli.tables import attributes_table

    folder, trust, signed = _place(place, root)
    heads = _heads(_place(against, None)[0]) if against else None
    report = follow(folder, trust=trust, signed=signed, heads=heads)
    if as_json:
        emit({"whole": report.whole, "report": report})
    else:
        rows = {
            "audit": str(folder),
            "of": report.who,
            "records": f"{report.records:,} in {report.files} files",
            "signed up to": str(report.signed_to) if report.signed_to else "nothing is signed",
        }
        if report.records:
            rows["from"], rows["to"] = instant(report.first_at), instant(report.last_at)
        if fault := report.fault:
            where = f"{fault.file}, line {fault.line}" if fault.line else fault.file
            rows["NOT WHOLE"] = f"{where}, record {fault.seq}: {fault.what}"
        else:
            rows["whole"] = "every record follows from the one before"
        out().print(attributes_table(rows))
        for remark in report.remarks:
            out().print(f"Note: {remark}.")
    if not report.whole:
        raise typer.Exit(1)


def show(
    *, place: Place, peer: Peer = "", action: Action = "", since: Since = "", as_json: Json = False
) -> None:
    """Show what was asked, disclosed and refused. Unverified: see `fedtwin audit verify`."""
    from domain_twin.trust.audit import instant
    from federation.cli.console import emit, out
    from federation.cli.tables import grid

    found = _matching(place, peer, action, since)
    if as_json:
        emit({"records": found})
        return
    table = grid("record", "at", "kind", "peer", "what", right=("record",), wraps="what")
    for record in found:
        data = dict(record.data)
        who = str(data.pop("peer", data.pop("subject", "")))
        what = ", ".join(f"{key} {_brief(value)}" for key, value in data.items() if value not in ("", None))
        table.add_row(str(record.seq), instant(record.at)[:23] + "Z", record.kind, who, what)
    out().print(table)


def export(
    *,
    place: Place,
    ocsf: Annotated[bool, typer.Option("--ocsf", help="As OCSF events; default: the records.")] = False,
    peer: Peer = "",
    action: Action = "",
    since: Since = "",
    as_json: Json = False,
) -> None:
    """Print records as JSON lines, for other programs. Unverified: see `fedtwin audit verify`."""
    import json

    from domain_twin.trust.audit import encode
    from domain_twin.trust.audit_files import records
    from domain_twin.trust.audit_ocsf import event

    folder = _place(place, None)[0]
    first = next(records(folder), None)
    who = str(first.data.get("who", "")) if first else ""
    found = _matching(place, peer, action, since)
    if as_json:
        from federation.cli.console import emit

        emit({"events": [event(record, who) for record in found]} if ocsf else {"records": found})
        return
    for record in found:
        if ocsf:
            typer.echo(json.dumps(event(record, who), ensure_ascii=False))
        else:
            line = encode(record.seq, record.at, record.kind, record.data, record.prev)[1]
            typer.echo(line.decode(), nl=False)


def _matching(place: Path, peer: str, action: str, since: str) -> list[Record]:
    import time

    from domain_twin.trust.audit_files import records
    from federation.cli.duration import nanoseconds

    start = time.time_ns() - nanoseconds(since, "--since") if since else 0
    people = ("peer", "subject", "on_behalf_of", "domain")

    def wanted(record: Record) -> bool:
        data = record.data
        return (
            record.at >= start
            and (not peer or any(data.get(key) == peer for key in people))
            and action in ("", record.kind, data.get("action"), data.get("rpc"))
        )

    return [record for record in records(_place(place, None)[0]) if wanted(record)]


def _place(path: Path, root: Path | None) -> tuple[Path, TrustBundle | None, bool]:
    """The audit's folder, whose word counts for its signatures, and whether it must be signed."""
    from domain_twin.errors import ConfigError
    from domain_twin.trust.audit_files import records, segments

    trust: TrustBundle | None = None
    signed = False
    folder = path
    if path.suffix == ".toml":
        folder, trust, signed = _configured(path)
    elif not segments(path) and (path / "audit").is_dir():
        folder = path / "audit"
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no audit; has the process run, with [audit] enabled?")
    if root is not None:
        from domain_twin.trust.identity import SpiffeId
        from domain_twin.trust.roots import TrustBundle

        first = next(records(folder), None)
        who = SpiffeId.parse(str(first.data.get("who"))) if first else None
        trust = TrustBundle.load({who.operator: root}) if who else None
    return folder, trust, signed


def _configured(path: Path) -> tuple[Path, TrustBundle | None, bool]:
    import tomllib

    from domain_twin.config import load_agent, load_broker
    from domain_twin.errors import ConfigError
    from domain_twin.trust.roots import TrustBundle

    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from error
    if "domain" in keys:
        agent = load_agent(path)
        return agent.state / "audit", None, agent.identity is not None
    broker = load_broker(path)
    own = broker.operator in broker.trust
    return broker.state / "audit", TrustBundle.load(broker.trust) if own else None, True


def _heads(folder: Path) -> list[Any]:
    from domain_twin.trust.audit import Head
    from domain_twin.trust.audit_files import records

    return [
        Head(str(r.data.get("trail")), int(r.data.get("seq", 0)), str(r.data.get("sha256")))
        for r in records(folder)
        if r.kind == "peer-head"
    ]


def _brief(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
