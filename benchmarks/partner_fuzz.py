"""schemathesis over every OpenAPI document that the api for partners serves: wrong input, and much of it.

Against `--url URL --token T`, or a broker and an api that are started here. What is looked for: answers of
5xx, and answers that the served document does not describe (status, media type, headers, body). schemathesis
is not in the development environment; `--schemathesis PATH` names one of another:
`python3 -m venv fuzz && fuzz/bin/pip install 'schemathesis>=4.32'`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from _partner_network import PartnerNetwork

from domain_twin.config import load_api
from twin_api.caller import Scope
from twin_api.issuer import TrialIssuer
from twin_api.tmf import APIS
from twin_api.tmf.table import Api

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
WITHIN_S, QUICK_WITHIN_S = 180, 25
SEED = 1
MARGIN_S = 120
WHEN = "2026-03-01T12:00:00.000Z"
THERE: dict[str, dict[str, Any]] = {
    "serviceSpecification": {"name": "a"},
    "serviceOrder": {
        "serviceOrderItem": [
            {"id": "1", "action": "add", "service": {"serviceSpecification": {"id": "ndt-twin"}}}
        ]
    },
    "service": {"state": "designed", "serviceSpecification": {"id": "ndt-twin"}},
    "resource": {"name": "a"},
    "serviceTestSpecification": {
        "name": "a",
        "lifecycleStatus": "draft",
        "relatedServiceSpecification": [{"id": "ndt-scenario"}],
    },
    "alarm": {
        "alarmType": "qualityOfServiceAlarm",
        "perceivedSeverity": "major",
        "probableCause": "thresholdCrossed",
        "alarmedObject": {"id": "a"},
        "sourceSystemId": "a",
        "state": "raised",
        "alarmRaisedTime": WHEN,
    },
}
"""Made first, so that reads and changes of one resource find one."""


def found_schemathesis(named: str) -> str:
    """The program. Raises SystemExit that says how to have it."""
    found = named or shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or ""
    found = found or shutil.which("schemathesis") or ""
    if not found or not Path(found).exists():
        sys.exit(
            "partner_fuzz: schemathesis is not here; make an environment for it and name its program:\n"
            "  python3 -m venv fuzz && fuzz/bin/pip install 'schemathesis>=4.32'\n"
            "  python benchmarks/partner_fuzz.py --schemathesis fuzz/bin/schemathesis"
        )
    return str(Path(found).absolute())


@asynccontextmanager
async def started() -> AsyncIterator[tuple[str, str]]:
    """A broker and an api of our own, without domains: their address, and a token of all scopes."""
    with tempfile.TemporaryDirectory(prefix="ft-", ignore_cleanup_errors=True) as place:
        network = PartnerNetwork(Path(place), "twins = 100000\nrecords = 1000000")
        text = network.files.api.read_text(encoding="utf-8")
        assert "[limits]" not in text
        limits = "\n[limits]\nrequests_per_second = 100000\nburst = 100000\nfailures_per_minute = 1e9\n"
        network.files.api.write_text(text + limits, encoding="utf-8")
        try:
            await network.start("broker")
            await network.start("api")
            await network.answering()
            config = load_api(network.files.api)
            issuer = TrialIssuer.load(network.files.api.parent / "issuer")
            token = issuer.issue("acme", list(Scope), audience=config.expected_audience)
            yield config.public_address.rstrip("/"), token
        finally:
            await network.supervisor.stop()


def known(api: Api, address: str, token: str) -> str:
    """A configuration of schemathesis that names a resource that is there for each collection."""
    lines = []
    with httpx.Client(headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30) as http:
        for resource in api.resources:
            if resource.path not in THERE:
                continue
            made = http.post(f"{address}{api.base}/{resource.path}", json=THERE[resource.path])
            made.raise_for_status()
            path = f"/{resource.path}/{{id}}"
            lines += [
                "[[operations]]",
                f"include-path = {json.dumps(path)}",
                f'parameters = {{ "path.id" = {json.dumps(made.json()["id"])} }}',
            ]
    return "\n".join(lines) + "\n"


def fuzz(program: str, api: Api, address: str, token: str, within_s: int) -> dict[str, Any]:
    """What schemathesis finds of one document."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "config.toml").write_text(known(api, address, token), encoding="utf-8")
        command = [program, "--config-file", "config.toml", "run", f"{address}/openapi/{api.name}.json"]
        command += ["--url", f"{address}{api.base}", "--header", f"Authorization: Bearer {token}"]
        command += ["--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--max-examples", "100"]
        command += ["--max-time", str(within_s), "--seed", str(SEED), "--no-shrink", "--continue-on-failure"]
        command += ["--report", "json", "--report-json-path", "report.json"]
        told = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False, timeout=4 * within_s + MARGIN_S
        )
        report = Path(place) / "report.json"
        if not report.exists():
            sys.exit(f"partner_fuzz: schemathesis ended with {told.returncode}:\n{told.stdout}{told.stderr}")
        return read(json.loads(report.read_text(encoding="utf-8")))


def read(report: dict[str, Any]) -> dict[str, Any]:
    """What counts of a report."""
    failures = [json.dumps(each)[:2000] for each in report["failures"]]
    return {
        "operations": report["operations"]["selected"],
        "operations_tried": report["operations"]["tested"],
        "cases": report["test_cases"]["generated"],
        "failing_cases": report["test_cases"]["with_failures"],
        "server_errors": sum("server_error" in each for each in failures),
        "not_as_described": sum("server_error" not in each for each in failures),
        "failures": failures,
        "errors": [json.dumps(each)[:500] for each in report["errors"]],
        "seconds": round(report["running_time"], 1),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_WITHIN_S} s a document")
    parser.add_argument("--url", default="", help="address of an api that runs; default: one of our own")
    parser.add_argument("--token", default="", help="an access token with all scopes, for --url")
    parser.add_argument("--schemathesis", default="", help="its program, where it is not on the path")
    parser.add_argument("--only", default="", help="name of one API, such as serviceOrdering")
    parser.add_argument("--seconds", type=int, default=0, help=f"for each document; default: {WITHIN_S}")
    options = parser.parse_args()
    program = found_schemathesis(options.schemathesis)
    within_s = options.seconds or (QUICK_WITHIN_S if options.quick else WITHIN_S)
    chosen = [api for api in APIS if options.only in ("", api.name)]

    def all_of(address: str, token: str) -> dict[str, Any]:
        return {api.name: fuzz(program, api, address.rstrip("/"), token, within_s) for api in chosen}

    if options.url:
        results = all_of(options.url, options.token)
    else:
        async with started() as (address, token):
            results = await asyncio.to_thread(all_of, address, token)
    summed = {
        name: sum(each[name] for each in results.values())
        for name in ("operations", "operations_tried", "cases", "server_errors", "not_as_described")
    }
    aim = {"server_errors": 0, "not_as_described": 0}
    tried = summed["operations_tried"] == summed["operations"]  # else time was too short to say anything
    reached = tried and all(summed[name] <= most for name, most in aim.items())
    print(json.dumps({**summed, "seed": SEED, "aim": aim, "reached": reached, "apis": results}, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
