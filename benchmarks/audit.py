"""The audit: what a record costs, alone and when many wait at once, and how fast a trail is verified.

The rivals, in the same run: the same records written to disk one by one, and plain lines without a
chain. An ask of the session benchmark takes the broker some 455 us. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from domain_twin.config import AuditConfig
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_verify import verify

WHO = "spiffe://bench.example/agent/ran"
AT_ONCE = 64
RECORD: dict[str, Any] = {
    "peer": "spiffe://exchange.example/broker/main",
    "on_behalf_of": "spiffe://longhaul.example/user/ann",
    "ask": 4711,
    "action": "evaluate",
    "agreement": "exchange",
    "level": "mesh",
    "figures": ["bandwidth", "delay_variance", "loss_ratio", "one_way_delay"],
    "bytes": 2048,
    "answer_sha256": "a" * 64,
}


async def measure(count: int, work: Callable[[int], Awaitable[None]], at_once: int) -> dict[str, float]:
    """Microseconds a record: by the clock, and of this process's CPU."""
    per_worker = count // at_once

    async def worker() -> None:
        for number in range(per_worker):
            await work(number)

    clock, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    done = per_worker * at_once
    return {
        "us_per_record": round((time.perf_counter() - clock) / done * 1e6, 1),
        "cpu_us_per_record": round((time.process_time() - cpu) / done * 1e6, 1),
    }


async def run(count: int) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sync in ("each", "interval"):
            for at_once in (1, AT_ONCE):
                log = AuditLog(folder / f"{sync}{at_once}", who=WHO, config=AuditConfig(sync=sync))  # type: ignore[arg-type]
                figures[f"{sync}, {at_once} at once"] = await measure(
                    count,
                    lambda _, log=log: log.record("disclosed", **RECORD),
                    at_once,  # type: ignore[misc]
                )
                log.close()

        log = AuditLog(folder / "rival", who=WHO)

        async def one_by_one(_: int) -> None:
            log.append("disclosed", **RECORD)
            os.fdatasync(log._file)

        figures["rival: one write to disk each"] = await measure(count, one_by_one, AT_ONCE)
        log.close()
        with (folder / "plain").open("w") as plain:

            async def line(_: int) -> None:
                plain.write(json.dumps(RECORD) + "\n")
                plain.flush()

            figures["rival: plain lines"] = await measure(count, line, 1)
        started = time.perf_counter()
        report = verify(folder / f"interval{AT_ONCE}")
        figures["verify_records_per_second"] = round(report.records / (time.perf_counter() - started))
        assert report.whole
    together = figures[f"each, {AT_ONCE} at once"]["us_per_record"]
    return {
        "benchmark": "audit",
        "records": count,
        "figures": figures,
        "ratio_to_one_write_each": round(
            figures["rival: one write to disk each"]["us_per_record"] / together, 2
        ),
        "aims": {
            "a record, many at once, costs less than a tenth of an ask (45 us of CPU)": (
                figures[f"each, {AT_ONCE} at once"]["cpu_us_per_record"] <= 45
            ),
        },
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer records")
    arguments = parser.parse_args()
    json.dump(asyncio.run(run(1280 if arguments.quick else 12_800)), sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
