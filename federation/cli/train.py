"""`fedtwin residual`: fit the correction of the rung residual. Owns what it is fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.simulation.learned.residual import Evidence


def add_to(app: typer.Typer) -> None:
    """Add `residual`."""
    command(
        app,
        "residual",
        section="Ask what would be",
        example=(
            "fedtwin residual samples/ --out residual.json",
            "fedtwin residual network.json --runs 3 --out residual.json",
        ),
    )(train_residual)


def train_residual(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|NETWORK...",
            help="BNN-UPC folders of packet-level samples, or network files that ns-3 is run on.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the correction goes.")],
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of ns-3 on each network file.")] = 1,
    packets: Annotated[float, typer.Option("--packets", min=1, help="Packets that each run measures.")] = 1e6,
    seed: Annotated[int, typer.Option("--seed", min=1, help="Of the runs.")] = 1,
    most: Annotated[int, typer.Option("--most", min=1, help="Samples of each folder at most.")] = 1000,
    as_json: Json = False,
) -> None:
    """Learn from packet-level simulations what queueing tables miss.

    An agent whose [what_if] names the file answers at the rung residual with it. Links unlike those that
    were fitted are left as tables compute them, and an answer says which.
    """
    import asyncio

    from domain_twin.simulation.learned.residual import fit_robust
    from federation.cli.console import emit, out

    evidence: list[Evidence] = []
    for source in sources:
        if source.is_dir():
            evidence += _of_folder(source, most)
        else:
            evidence += asyncio.run(_of_packets(source, runs, packets, seed))
    found = fit_robust(evidence)
    found.save(output)
    hull = found.hull
    if as_json:
        told = {"networks": len(evidence), "flows": found.flows, "hull": hull, "digest": found.digest}
        emit({"saved": output, **told})
        return
    out().print(
        f"{found.flows:,} flows of {len(evidence)} networks: links busy up to {hull.utilisation:.0%}, with"
        f" room for {hull.rooms[0]:g} to {hull.rooms[1]:g} packets. Saved: {output}",
        markup=False,
    )


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
