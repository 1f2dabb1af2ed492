"""YANG data into the graph: leafrefs that became links, nothing lost on the way back, quads a second.

`--modules DIR...` takes any folders of YANG beside the modules that ship; figures are then given for the
folders' modules too. The rival reads the same snapshot as JSON-LD with rdflib, which knows no schema and so
makes neither types nor links. Times are of the process's CPU, in the best of several runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from _yang_instances import Instances, settled, typed

from domain_twin.errors import TwinError
from domain_twin.model import Change, Origin
from domain_twin.semantic.yang_json import read_back
from domain_twin.semantic.yang_links import Leafref, report
from domain_twin.semantic.yang_plan import Plan, compile_plan
from domain_twin.semantic.yang_quads import DeviceQuads, Unmapped, quads
from domain_twin.yang.schema import SchemaSet

INTERFACES = 48


def snapshot(count: int) -> dict[str, Any]:
    """What a switch says of its interfaces."""
    return {
        "ietf-interfaces:interfaces": {
            "interface": [
                {
                    "name": f"GigabitEthernet1/0/{number}",
                    "type": "iana-if-type:ethernetCsmacd",
                    "description": f"to rack {number}",
                    "enabled": True,
                    "admin-status": "up",
                    "oper-status": "up",
                    "last-change": "2026-01-01T00:00:00Z",
                    "if-index": number,
                    "phys-address": "00:11:22:33:44:55",
                    "speed": "1000000000",
                    "lower-layer-if": [f"Port{number}"],
                    "statistics": {
                        "discontinuity-time": "2026-01-01T00:00:00Z",
                        **{f"{way}-octets": str(number * 10**9) for way in ("in", "out")},
                        **{f"{way}-unicast-pkts": str(number * 10**6) for way in ("in", "out")},
                        **{
                            f"{way}-{what}": number
                            for way in ("in", "out")
                            for what in ("errors", "discards")
                        },
                    },
                    "ietf-ip:ipv4": {"address": [{"ip": f"192.0.2.{number}", "prefix-length": 24}]},
                }
                for number in range(1, count + 1)
            ]
        }
    }


def best(work: Callable[[], Any], runs: int) -> float:
    """Seconds of CPU that `work` takes when nothing disturbs it."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def speed(plan: Plan, runs: int) -> dict[str, Any]:
    """Whole snapshots and single changes, and the rival's snapshot."""
    small, large = (typed(plan.schema, snapshot(count)) for count in (INTERFACES, 1000))
    made = quads(plan, "north", "switch", small)
    small_s = best(lambda: quads(plan, "north", "switch", small), runs)
    large_s = best(lambda: quads(plan, "north", "switch", large), 3)
    back_s = best(lambda: read_back(plan, made), runs)

    device = DeviceQuads(plan, "north", "switch")
    device.reset(large)
    counters = [path for path in large if path.endswith(("-octets", "-pkts"))]
    changes = [Change("switch", path, step, 0, 0, Origin.MEASURED) for step in range(10) for path in counters]
    changes_s = best(lambda: [device.change(change) for change in changes], 3)
    states = [path for path in large if path.endswith("/oper-status")]
    flaps = [
        Change("switch", path, value, 0, 0, Origin.MEASURED) for value in ("down", "up") for path in states
    ]
    flaps_s = best(lambda: [device.change(change) for change in flaps], 3)
    rival_s, rival_triples = _json_ld(runs)
    return {
        "snapshot": {
            "interfaces": INTERFACES,
            "leaves": len(small),
            "quads": len(made),
            "ms": round(small_s * 1000, 2),
            "read_back_ms": round(back_s * 1000, 2),
        },
        "quads_per_s": round(len(quads(plan, "north", "switch", large)) / large_s),
        "counter_changes_per_s": round(len(changes) / changes_s),
        "state_changes_per_s": round(len(flaps) / flaps_s),
        "rival: rdflib reads JSON-LD": {
            "ms": round(rival_s * 1000, 2),
            "triples": rival_triples,
            "ratio": round(rival_s / rival_triples / (small_s / len(made)), 1),
        },
    }


def _json_ld(runs: int) -> tuple[float, int]:
    """Seconds that rdflib takes for the same snapshot, and its triples."""
    import rdflib

    text = json.dumps(
        {"@context": {"@vocab": "https://fedtwin.example/ns/yang/any#"}, **snapshot(INTERFACES)}
    )
    graphs: list[rdflib.Graph] = []
    taken = best(lambda: graphs.append(rdflib.Graph().parse(data=text, format="json-ld")), min(runs, 5))
    return taken, len(graphs[-1])


def links(plan: Plan, modules: Iterable[str]) -> dict[str, Any]:
    """The leafrefs of leaves that these modules define, and of which kinds they are."""
    wanted = set(modules)
    rows: list[Leafref] = [row for row in plan.leafrefs if plan.leaves[row.leaf].node.module in wanted]
    return {"modules": len(wanted), **report(rows)}


def round_trips(plan: Plan, count: int, tops: list[str]) -> dict[str, Any]:
    """Trees drawn at random that came back from their quads as they were; the first that did not."""
    equal, leaves, total, wrong = 0, 0, 0, ""
    undrawn: set[str] = set()
    for seed in range(count):
        draw = Instances(plan.schema, random.Random(seed), fill=0.6)
        tree = draw.tree(tops)
        undrawn |= draw.undrawn
        lost = Unmapped()
        held = typed(plan.schema, tree)
        made = quads(plan, "north", "switch", held, ordered=True, unmapped=lost)
        leaves += len(held)
        total += len(made)
        try:
            back = read_back(plan, random.Random(seed).sample(made, len(made)))
            same = settled(plan.schema, back, user_order=True) == settled(plan.schema, tree, user_order=True)
        except TwinError as error:
            same, wrong = False, wrong or f"seed {seed}: {error}"
        equal += same and not lost.count
        if not same or lost.count:
            wrong = wrong or f"seed {seed}: {dict(list(lost.examples.items())[:3])}"
    return {
        "trees": count,
        "equal": equal,
        "leaves": leaves,
        "quads": total,
        "first_wrong": wrong,
        "leaves_never_drawn": len(undrawn),
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="*", type=Path, default=[], help="folders of YANG modules")
    parser.add_argument("--instances", type=int, default=200, help="trees that go there and back")
    parser.add_argument("--quick", action="store_true", help="20 trees, fewer runs")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the report names what was left out
    runs, count = (3, 20) if options.quick else (20, options.instances)

    schema = SchemaSet.load(None, options.modules)
    folders = [str(folder.resolve()) for folder in options.modules]
    given = [
        name
        for name, info in schema.modules.items()
        if any(str(Path(info.source).resolve()).startswith(folder) for folder in folders)
    ]
    began = time.process_time()
    plan = compile_plan(schema)
    compile_s = time.process_time() - began
    tops = [name for name, node in schema.tops.items() if node.module in given] or list(schema.tops)
    shares = {"all": links(plan, schema.modules)}
    if given:
        shares["given"] = links(plan, given)
    figures = speed(plan, runs)
    trips = round_trips(plan, count, tops)
    json.dump(
        {
            "benchmark": "yang_graph",
            "modules": len(schema.modules),
            "left_out": sorted(schema.report.failed),
            "nodes": len(plan.nodes) + len(plan.leaves),
            "compile_s": round(compile_s, 3),
            "leafrefs": shares,
            "round_trip": trips,
            **figures,
            "aims": {
                "leafrefs share": 0.99,
                "round_trip equal": count,
                "snapshot ms, with the store": 20,
                "counter_changes_per_s": 50_000,
            },
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
