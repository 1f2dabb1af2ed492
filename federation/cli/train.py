"""`fedtwin residual`: fit the correction of the rung residual. Owns what it is fitted on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.simulation.learned.residual import Evidence, Statistics


def add_to(app: typer.Typer) -> None:
    """Add `residual`."""
    command(
        app,
        "residual",
        section="Ask what would be",
        example=(
            "fedtwin residual samples/ --out residual.json",
            "fedtwin residual network.json --runs 3 --out residual.json",
            "fedtwin residual samples/ --sums mine.json",
            "fedtwin residual mine.json theirs.json --out residual.json",
        ),
    )(train_residual)


def train_residual(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|NETWORK|SUMS...",
            help="BNN-UPC folders of packet-level samples, or network files that ns-3 is run on; or, alone,"
            " files that --sums wrote, of several operators.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the correction goes.")
    ] = None,
    sums: Annotated[
        Path | None,
        typer.Option(
            "--sums", metavar="FILE", help="Fit nothing: write the sums that a fit needs, to add to others'."
        ),
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(
            "--after", metavar="RESIDUAL", help="With --sums: weigh by what this correction leaves of misses."
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of ns-3 on each network file.")] = 1,
    packets: Annotated[float, typer.Option("--packets", min=1, help="Packets that each run measures.")] = 1e6,
    seed: Annotated[int, typer.Option("--seed", min=1, help="Of the runs.")] = 1,
    most: Annotated[int, typer.Option("--most", min=1, help="Samples of each folder at most.")] = 1000,
    as_json: Json = False,
) -> None:
    """Learn from packet-level simulations what queueing tables miss.

    An agent whose [what_if] names the file answers at the rung residual with it. Links unlike those that
    were fitted are left as tables compute them, and an answer says which.

    Operators fit together without showing a sample: each writes its --sums (no flow, no path, no name), and
    any of them adds these files up. A further round, --after the first fit, weighs down what is far off.
    """
    import asyncio

    from domain_twin.simulation.learned.residual import Residual, fit, fit_robust
    from federation.cli.console import emit, out
    from federation.cli.output import write

    if (output is None) == (sums is None) or (after is not None and sums is None):
        raise click.UsageError("give --out for a correction, or --sums (with --after for a further round)")
    told: dict[str, object]
    if output is not None and (added := _added(sources)) is not None:
        found, networks = fit(added), len(sources)
    else:
        evidence: list[Evidence] = []
        for source in sources:
            if source.is_dir():
                evidence += _of_folder(source, most)
            else:
                evidence += asyncio.run(_of_packets(source, runs, packets, seed))
        if sums is not None:
            before = None if after is None else Residual.load(after)
            total = _total(part.statistics(before) for part in evidence)
            write(total.to_json() + "\n", sums)
            told = {"saved": sums, "networks": len(evidence), "flows": total.delay.count}
            if as_json:
                emit(told)
            else:
                out().print(f"Sums of {total.delay.count:,} flows of {len(evidence)} networks: {sums}")
            return
        found, networks = fit_robust(evidence), len(evidence)
    assert output is not None
    found.save(output)
    hull = found.hull
    if as_json:
        told = {"networks": networks, "flows": found.flows, "hull": hull, "digest": found.digest}
        emit({"saved": output, **told})
        return
    out().print(
        f"{found.flows:,} flows of {networks} sources: links busy up to {hull.utilisation:.0%}, with"
        f" room for {hull.rooms[0]:g} to {hull.rooms[1]:g} packets. Saved: {output}",
        markup=False,
    )


def _added(sources: Sequence[Path]) -> Statistics | None:
    """The sums in all of these files, added; None: they hold none. Raises ConfigError for a mixture."""
    from domain_twin.errors import ConfigError
    from domain_twin.simulation.learned.residual import SCHEMA, Statistics

    found = []
    for source in sources:
        if source.is_dir():
            continue
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read ({error}); check the path") from error
        if SCHEMA in text:
            found.append(Statistics.from_json(text, str(source)))
    if found and len(found) < len(sources):
        raise ConfigError("sums are added to sums only: write --sums of the other sources first")
    return _total(found) if found else None


def _total(parts: Iterable[Statistics]) -> Statistics:
    from functools import reduce
    from operator import add

    return reduce(add, parts)


def _of_folder(folder: Path, most: int) -> list[Evidence]:
    """What packets met in each sample, beside what is computed. Raises ConfigError."""
    from itertools import islice

    from domain_twin.simulation.flows import solve_flows
    from domain_twin.simulation.laws.edges import compile_laws
    from domain_twin.simulation.learned.residual import evidence_of
    from domain_twin.simulation.outside.bnn_upc import read_samples

    return [
        evidence_of(
            sample.graph,
            sample.flows,
            solve_flows(sample.graph, sample.flows, compile_laws(sample.graph)),
            sample.measured.delay_s,
            sample.measured.variance_s2,
        )
        for sample in islice(read_samples(folder), most)
    ]


async def _of_packets(file: Path, runs: int, packets: float, seed: int) -> list[Evidence]:
    """The same of runs of ns-3. Raises ConfigError: it is not installed, or the file is none."""
    from domain_twin.errors import ConfigError
    from domain_twin.simulation.flows import solve_flows
    from domain_twin.simulation.laws.edges import compile_laws
    from domain_twin.simulation.learned.residual import evidence_of
    from domain_twin.simulation.outside.file_answer import load
    from domain_twin.simulation.outside.ns3 import simulate
    from domain_twin.simulation.routed import routed

    given = load(file)
    if given.network is None:
        raise ConfigError(f"{file}: is no network file; name one, or a BNN-UPC folder")
    graph, demand = given.network.graph, given.network.demand
    flows = routed(graph, demand)
    solution = solve_flows(graph, flows, compile_laws(graph))
    evidence = []
    for run in range(runs):
        seen = await simulate(graph, demand, seed=seed, run=run + 1, packets=packets, limit_s=3600.0)
        evidence.append(evidence_of(graph, flows, solution, seen.delay_s, seen.variance_s2))
    return evidence
