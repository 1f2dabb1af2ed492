#!/usr/bin/env python
"""Run seeded faults and write what became of them as JSON: `tests/faults/run.py --seed 1 --faults 200`.

`--step NAME` runs that step alone, as many times as it is given; names are those that a run prints.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fault_campaign import Campaign
from fault_kinds import drawn
from fault_network import DOMAINS


def main() -> int:
    """Run; returns 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=200, help="at least so many faults")
    parser.add_argument("--step", action="append", default=[], help="run this step instead of drawn ones")
    parser.add_argument(
        "--fresh-every", type=int, default=8, help="steps between comparisons with fresh processes"
    )
    parser.add_argument("--json", type=Path, help="write the summary here")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    try:
        return asyncio.run(_run(options, folder))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(options: argparse.Namespace, folder: Path) -> int:
    began = time.monotonic()
    print(f"seed {options.seed}, folder {folder}", flush=True)
    async with Campaign.on(folder / "n", options.seed) as campaign:
        print(f"whole after {time.monotonic() - began:.1f} s", flush=True)
        campaign.measure()
        for step in options.step or drawn(options.seed, options.faults, quick=False):
            outcome = await campaign.step(step)
            stale = max(outcome.stale_s, default=0.0)
            print(
                f"{len(campaign.outcomes):4d} {time.monotonic() - began:7.1f} {step:60s}"
                f" stale {stale:5.2f} equal {outcome.equal_s:5.2f} news {outcome.news_s:5.2f}",
                *(f"\n     !! {problem[:600]}" for problem in outcome.problems),
                flush=True,
            )
            campaign.measure()
            if options.fresh_every and len(campaign.outcomes) % options.fresh_every == 0:
                domain = DOMAINS[len(campaign.outcomes) // options.fresh_every % len(DOMAINS)]
                await _fresh(campaign, domain)
        summary = campaign.summary() | {"seed": options.seed, "seconds": round(time.monotonic() - began, 1)}
        summary["grown"] = campaign.grown()
    text = json.dumps(summary, indent=1)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    print(text)
    return 1 if summary["failed"] or summary["grown"] else 0


async def _fresh(campaign: Campaign, domain: str) -> None:
    for name, compare in (
        (f"fresh-agent {domain}", lambda: campaign.fresh_agent(domain)),
        ("fresh-broker", campaign.fresh_broker),
    ):
        try:
            await compare()
        except (AssertionError, OSError) as error:
            campaign.outcomes[-1].problems.append(f"{name}: {error}")
            print(f"     !! {name}: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
