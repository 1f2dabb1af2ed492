"""What-ifs across domains: federated against one solver that sees everything, and what the messages hold.

Four domains of 50 nodes with losses; base, all failures of links between domains, changes inside domains and
of all demand. Every message is encoded, scanned for the names of nodes, links and interfaces, and decoded
again; a run with a planted leak shows that the scan finds one. Prints one JSON object; `--quick` is smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _domains import Federation, MemoryPart, Whole, federation, inner_names, leaks, question

from domain_twin.model.scenario import DemandChange, ElementDown
from domain_twin.simulation.graph import Variant
from federation.whatif import Forecast, predict
from federation.whatif_changes import Case

AIM = 1e-4
_FLOOR = {"delay_s": 0.0, "variance_s2": 0.0, "loss": 1e-6}  # smaller losses are compared by their difference


def say(what: str, since: float) -> None:
    """Tell on stderr what begins, and how many seconds the run has taken."""
    print(f"{time.perf_counter() - since:7.1f} s  {what}", file=sys.stderr, flush=True)


def run(made: Federation, cases: Sequence[Case]) -> tuple[Forecast, list[MemoryPart], float]:
    """One federated answer, the parts with their messages, and the seconds that it took."""
    parts = [MemoryPart(domain) for domain in made.domains.values()]
    asked = question(made, cases)
    started = time.perf_counter()
    forecast = asyncio.run(predict(asked, parts, missing={}, views={}))
    return forecast, parts, time.perf_counter() - started


def differences(forecast: Forecast, whole: Whole, solution: Any, variant: int) -> dict[str, float]:
    """Largest relative difference of each figure over all pairs."""
    found = {}
    for name, floor in _FLOOR.items():
        true = np.array([np.nan if row is None else getattr(solution, name)[row] for row in whole.asked])
        told = getattr(forecast.way, name)[variant]
        if (np.isnan(true) != np.isnan(told)).any():
            found[name] = float("inf")
            continue
        known = ~np.isnan(true)
        found[name] = float(
            np.max(np.abs(told - true)[known] / np.maximum(np.abs(true[known]), floor), initial=0.0)
        )
    return found


def measure(*, domains: int, nodes: int, links_swept: int, seed: int) -> dict[str, Any]:
    """Figures of one network."""
    begun = time.perf_counter()
    say(f"making {domains} domains of {nodes} nodes", begun)
    made = federation(domains, nodes, seed=seed, load=0.95, published=4)
    inside = "dom1"
    own = Variant("own", down=frozenset({0}), values={"capacity_bps": {9: 10e6}, "metric": {14: 30.0}})
    swept = sorted(made.links)[:links_swept]
    cases = [
        Case("base"),
        Case("inside"),
        Case("demand x1.3", (DemandChange(kind="demand", factor=1.3),)),
        *(Case(f"{link} down", (ElementDown(kind="element-down", element=link),)) for link in swept),
    ]
    made.domains[inside].variants[1] = own
    say("the base, federated", begun)
    run(made, cases[:1])  # kernels are compiled, tables made
    base, _, base_s = run(made, cases[:1])
    say(f"{len(cases)} variants, federated", begun)
    forecast, parts, seconds = run(made, cases)
    whole = Whole(made)
    asked: list[dict[str, Any]] = [
        {"variants": {}},
        {"variants": {inside: own}},
        {"variants": {}, "factor": 1.3},
        *({"variants": {}, "down": [link]} for link in swept),
    ]
    worst, whole_s, settled = {name: 0.0 for name in _FLOOR}, 0.0, True
    for variant, (case, asks) in enumerate(zip(cases, asked, strict=True)):
        say(f"{case.name}, by one solver ({variant + 1} of {len(cases)})", begun)
        started = time.perf_counter()
        solution = whole.solve(**asks)
        whole_s += time.perf_counter() - started
        settled = settled and solution.converged
        for name, value in differences(forecast, whole, solution, variant).items():
            worst[name] = max(worst[name], value)
    say("a run with a leak in it, and the scan", begun)
    messages = [message for part in parts for message in part.messages]
    made.domains["dom0"].assumptions = (f"the rate of {made.domains['dom0'].graph.edges[3]} was guessed",)
    _, leaky, _ = run(made, cases[:1])
    names = inner_names(made)
    return {
        "domains": domains,
        "nodes": sum(len(domain.graph.nodes) for domain in made.domains.values()),
        "links_between_domains": len(made.links),
        "flows_between_domains": len(made.pairs),
        "variants": len(cases),
        "converged": forecast.converged and settled,
        "largest_loss": float(np.nanmax(forecast.way.loss)),
        "largest_relative_difference": worst,
        "rounds": forecast.rounds + 1,
        "rounds_of_the_base_alone": base.rounds + 1,
        "messages": len(messages),
        "bytes_to_prepare": sum(len(part.messages[0]) + len(part.messages[1]) for part in parts),
        "bytes_of_the_first_round": sum(len(part.messages[2]) + len(part.messages[3]) for part in parts),
        "bytes_of_a_later_round": sum(len(part.messages[4]) + len(part.messages[5]) for part in parts),
        "bytes_of_the_last_round": sum(len(part.messages[-2]) + len(part.messages[-1]) for part in parts),
        "seconds": round(seconds, 3),
        "seconds_of_the_base_alone": round(base_s, 3),
        "rival: one solver that sees everything, seconds": round(whole_s, 3),
        "inner_names_searched": len(names),
        "inner_names_found": sorted(leaks(messages, names)),
        "planted_leaks_found": len(leaks([m for part in leaky for m in part.messages], names)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run")
    parser.add_argument("--seed", type=int, default=20260101)
    arguments = parser.parse_args()
    if arguments.quick:
        figures = measure(domains=3, nodes=15, links_swept=2, seed=arguments.seed)
    else:
        figures = measure(domains=4, nodes=50, links_swept=20, seed=arguments.seed)
    figures["aims"] = {
        "largest_relative_difference": AIM,
        "inner_names_found": [],
        "planted_leaks_found": 1,
    }
    print(json.dumps({"benchmark": "federated_equality", "quick": arguments.quick, **figures}, indent=2))


if __name__ == "__main__":
    main()
