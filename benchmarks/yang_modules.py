"""A vendor's folder of hundreds of YANG modules: time to load, and again from the cache; beside pyang alone.

The folder is written here: modules of an invented vendor with types, groupings, features and imports, and a
few that are broken. Each figure is of a process of its own, in seconds of CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write(folder: Path, count: int) -> None:
    """The vendor's modules, and four that cannot be used."""
    for number in range(1, count + 1):
        (folder / f"acme-m{number:04d}@2026-01-01.yang").write_text(_module(number))
    (folder / "acme-broken.yang").write_text('module acme-broken { namespace "urn:x"; prefix x; container {')
    (folder / "acme-lost.yang").write_text(
        'module acme-lost { namespace "urn:l"; prefix l; import acme-nowhere { prefix n; } }'
    )
    for one, two in (("a", "b"), ("b", "a")):
        (folder / f"acme-circle-{one}.yang").write_text(
            f'module acme-circle-{one} {{ namespace "urn:{one}"; prefix {one};'
            f" import acme-circle-{two} {{ prefix o; }} }}"
        )


def _module(number: int) -> str:
    imported = f"import acme-m{number // 2:04d} {{ prefix half; }}" if number > 1 else ""
    leaves = "\n".join(
        f'      leaf value-{kind} {{ type uint32 {{ range "0..{1000 + kind}"; }} units "packets";\n'
        f'        description "Things of kind {kind} that the device has seen since it was started."; }}'
        for kind in range(20)
    )
    return f"""module acme-m{number:04d} {{
  yang-version 1.1;
  namespace "urn:acme:m{number:04d}";
  prefix own;
  {imported}
  import ietf-inet-types {{ prefix inet; }}
  organization "Acme";
  description "Module {number} of a release of an invented vendor, one of many that a device has.";
  revision 2026-01-01 {{ description "First."; }}
  feature extra {{ description "More."; }}
  identity kind {{ description "Kinds."; }}
  identity special {{ base kind; description "A special one."; }}
  typedef label {{ type string {{ length "1..64"; pattern '[a-z][a-z0-9-]*'; }} description "A label."; }}
  grouping counters {{
    description "What is counted.";
    container counters {{ config false; description "Counters.";
{leaves}
    }}
  }}
  container part-{number} {{
    description "A part of the device.";
    list item {{
      key name;
      description "An item.";
      leaf name {{ type label; description "Its name."; }}
      leaf address {{ type inet:ip-address; description "Its address."; }}
      leaf sort {{ type identityref {{ base kind; }} description "Its kind."; }}
      leaf mode {{ type enumeration {{ enum on; enum off; enum auto; }} description "Its mode."; }}
      leaf more {{ if-feature extra; type boolean; description "More of it."; }}
      uses counters;
      container inner {{ description "Inside."; uses counters; leaf-list tag {{ type label; }} }}
    }}
  }}
}}
"""


def fedtwin(folder: Path, cache: Path | None) -> dict[str, Any]:
    """Ours, with the report; from the cache where there is one."""
    from domain_twin.yang.schema import SchemaSet

    schema = SchemaSet.load(None, [folder], cache=cache)
    return {
        "modules": len(schema.modules),
        "left_out": sorted(schema.report.failed),
        "nodes": sum(1 for top in schema.tops.values() for _ in top.walk()),
    }


def pyang_alone(folder: Path, cache: Path | None) -> dict[str, Any]:
    """pyang's own: parse and validate the sound modules, and keep its statements."""
    from pyang import context, error, repository

    from domain_twin.resources import standard_yang_folders

    places = ":".join(map(str, (folder, *standard_yang_folders())))
    ctx = context.Context(repository.FileRepository(places, use_env=False))
    names = [path.name.partition("@")[0].removesuffix(".yang") for path in sorted(folder.glob("*@*.yang"))]
    names += [
        path.name.partition("@")[0].removesuffix(".yang")
        for place in standard_yang_folders()
        for path in sorted(place.glob("*.yang"))
    ]
    for name in names:
        ctx.search_module(error.Position("benchmark"), name)
    ctx.validate()
    return {"modules": len([m for m in ctx.modules.values() if m is not None])}


def _timed(
    work: Callable[[Path, Path | None], dict[str, Any]], folder: Path, cache: Path | None, out: Any
) -> None:
    began, clock = time.process_time(), time.perf_counter()
    found = work(folder, cache)
    out.put(
        {
            "cpu_s": round(time.process_time() - began, 2),
            "clock_s": round(time.perf_counter() - clock, 2),
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            **found,
        }
    )


def measure(
    work: Callable[[Path, Path | None], dict[str, Any]], folder: Path, cache: Path | None
) -> dict[str, Any]:
    """The figures of one way to load, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    process = context.Process(target=_timed, args=(work, folder, cache, out))
    process.start()
    found: dict[str, Any] = out.get(timeout=600)
    process.join()
    return found


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="100 modules")
    options = parser.parse_args()
    count = 100 if options.quick else options.modules
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name, "vendor"), Path(name, "cache")
        folder.mkdir()
        write(folder, count)
        figures = {
            "first start": measure(fedtwin, folder, cache),
            "next start": measure(fedtwin, folder, cache),
            "rival: pyang alone": measure(pyang_alone, folder, None),
        }
    rival = figures["rival: pyang alone"]["cpu_s"]
    json.dump(
        {
            "benchmark": "yang_modules",
            "written": count,
            **figures,
            "ratio_to_rival": {
                "first start": round(figures["first start"]["cpu_s"] / rival, 2),
                "next start": round(figures["next start"]["cpu_s"] / rival, 2),
            },
            "aims": {"next start cpu_s": 2.0},
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
