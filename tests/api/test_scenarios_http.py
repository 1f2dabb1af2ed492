"""From an order to a verdict over HTTP: real agents, broker, sessions and API; then the face of NDT jobs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import jsonschema
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "partners"))

from partners_http import client, running
from run_parts import A1, A2, EXCHANGE, agree, agreed, federation, hold, kernels, limit, until, value
from tmf_contract import conforming
from token_parts import PUBLIC, SCOPES, api_config

from domain_twin.config import AccessConfig, PartnerConfig, QuotaConfig
from domain_twin.model.scenario import Scenario
from domain_twin.trust.identity import Role
from federation.partners_client import PartnersClient
from twin_api import ndt_jobs
from twin_api.follower import keep_fed
from twin_api.read_model import ReadModel
from twin_api.tmf.apis import APIS
from twin_api.tmf.engine import Engine, routes
from twin_api.tmf.present import presenter

__all__ = ["kernels"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

ORDERS = "/tmf-api/serviceOrdering/v4/serviceOrder"
TWINS = "/tmf-api/serviceInventory/v4/service"
SPECIFICATIONS = "/tmf-api/serviceTestManagement/v4/serviceTestSpecification"
TESTS = "/tmf-api/serviceTestManagement/v4/serviceTest"
ALARMS = "/tmf-api/alarmManagement/v4"
JOBS, FUNCTIONS = "/3gpp-ndt/v1/NDTJob", "/3gpp-ndt/v1/NDTFunction"
CUT = {"name": "cut a1", "changes": [{"kind": "element-down", "element": A1}]}
CUT_BOTH = {"name": "cut both", "changes": [{"kind": "element-down", "element": link} for link in (A1, A2)]}


@dataclass
class Face:
    """The HTTP face, as two partners reach it."""

    acme: httpx.AsyncClient
    globex: httpx.AsyncClient
    parts: object
    twin: object

    async def active_twin(self, http, *points):
        service = {
            "serviceSpecification": {"id": "ndt-twin"},
            "serviceCharacteristic": [{"name": "endPoints", "value": list(points)}],
        }
        order = await posted(
            http, ORDERS, {"serviceOrderItem": [{"id": "1", "action": "add", "service": service}]}
        )

        async def done():
            found = (await http.get(f"{ORDERS}/{order['id']}")).json()
            return found["state"] not in ("acknowledged", "inProgress", "pending") and found

        ended = await until(done)
        assert ended["state"] == "completed", ended
        (twin,) = [item for item in (await http.get(TWINS)).json() if item["state"] == "active"]
        return twin["id"]

    async def ended(self, http, path):
        """A test or a job as it ended."""

        async def over():
            found = (await http.get(path)).json()
            state = found["state"] if "state" in found else found["processMonitor"]["status"]
            return (
                state not in ("acknowledged", "inProgress", "NOT_STARTED", "RUNNING", "CANCELLING") and found
            )

        return await until(over, timeout_s=60.0)


async def posted(http, path, body, status=201):
    answer = await http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def as_tm_forum_says(answer):
    """Have answers about tests and alarms checked against the documents, where these are at hand."""
    ours = str(answer.request.url.path).startswith(("/tmf-api/serviceTest", "/tmf-api/alarm"))
    if ours and os.environ.get("FEDTWIN_SPECS"):
        await conforming(answer)


@asynccontextmanager
async def face(folder: Path):
    quota = QuotaConfig(runs=3)
    made = federation(
        folder,
        partner=tuple(PartnerConfig(id=name, quota=quota) for name in ("acme", "globex")),
        access=(AccessConfig(subject=f"spiffe://{EXCHANGE}/api/*", partners=True),),
    )
    for domain in made.domains.values():
        agree(domain, folder, agreed("acme", "globex"))
    config, issuer = api_config(folder)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(made.broker())
        await stack.enter_async_context(made.agents(broker))
        twin = await stack.enter_async_context(made.client(broker, role=Role.API, name="main"))
        partners = await stack.enter_async_context(PartnersClient(twin._profile))
        model = ReadModel(presenter(PUBLIC, APIS))
        feeding = asyncio.create_task(keep_fed(model, partners))
        stack.callback(feeding.cancel)
        app = await stack.enter_async_context(
            running(
                config,
                twin=twin,
                routes=[*ndt_jobs.routes(twin, model, PUBLIC), *routes(Engine(model, partners, PUBLIC))],
            )
        )
        clients = [
            await stack.enter_async_context(
                client(
                    app,
                    issuer.issue(name, SCOPES, audience=PUBLIC),
                    event_hooks={"response": [as_tm_forum_says]},
                )
            )
            for name in ("acme", "globex")
        ]

        async def ready():
            return model.complete and len(broker.sessions) == 3

        await until(ready)
        yield Face(clients[0], clients[1], made, twin)


async def test_a_partner_orders_a_twin_runs_a_cut_on_it_and_reads_verdict_and_alarms(tmp_path):
    async with face(tmp_path) as at:
        twin = await at.active_twin(at.acme, "ran/cell-1", "edge/app")
        specification = await posted(
            at.acme,
            SPECIFICATIONS,
            {
                "name": "the app is reached",
                "relatedServiceSpecification": [{"id": "ndt-twin"}],
                "testMeasureDefinition": [
                    limit("reachable", conformanceTargetExact="1", thresholdRuleSeverity="critical")
                ],
            },
        )

        async def run(scenario):
            body = {
                "name": scenario["name"],
                "relatedService": {"id": twin},
                "testSpecification": {"id": specification["id"]},
                "characteristic": [
                    {"name": "scenario", "value": scenario},
                    {"name": "endPointPairs", "value": [["ran/cell-1", "edge/app"]]},
                ],
            }
            test = await posted(at.acme, TESTS, body)
            assert test["state"] == "acknowledged"
            return await at.ended(at.acme, f"{TESTS}/{test['id']}")

        around, gone = await run(CUT), await run(CUT_BOTH)
        live = (await at.acme.get(f"{ALARMS}/alarm")).json()
        predicted = (await at.acme.get(f"{ALARMS}/alarm", params={"@type": "NdtPredictedAlarm"})).json()
        acked = await posted(
            at.acme,
            f"{ALARMS}/ackAlarms",
            {"alarmPattern": [{"id": predicted[0]["id"]}], "ackSystemId": "noc", "ackUserId": "ann"},
        )
        seeded = await posted(
            at.acme,
            TESTS,
            {
                "name": "as it is",
                "relatedService": {"id": twin},
                "testSpecification": {"id": specification["id"]},
            },
        )
        as_it_is = await at.ended(at.acme, f"{TESTS}/{seeded['id']}")
        alarm_now = (await at.acme.get(f"{ALARMS}/alarm/{predicted[0]['id']}")).json()
        hers = await at.globex.get(f"{TESTS}/{gone['id']}")
        nobodys = await at.globex.get(f"{TESTS}/no-such-test")
        patched = await at.acme.patch(f"{TESTS}/{gone['id']}", json={"state": "cancelled"})

    assert value(around, "verdict") == "pass"
    assert value(gone, "verdict") == "fail"
    assert gone["testMeasure"][0]["ruleViolation"][0]["thresholdRuleSeverity"] == "critical"
    assert live == []
    (alarm,) = predicted
    assert (alarm["state"], alarm["perceivedSeverity"], alarm["reportingSystemId"]) == (
        "raised",
        "critical",
        twin,
    )
    assert [ref["id"] for ref in acked["ackedAlarm"]] == [alarm["id"]]
    assert alarm_now["ackState"] == "acknowledged"
    assert value(as_it_is, "verdict") == "pass"
    assert hers.status_code == nobodys.status_code == 404
    assert hers.json()["reason"] == nobodys.json()["reason"]
    assert patched.status_code == 409


async def test_jobs_are_asked_followed_and_read_by_the_names_of_3gpp(tmp_path):
    async with face(tmp_path) as at:
        twin = await at.active_twin(at.acme, "ran/cell-1", "edge/app")
        (function,) = (await at.acme.get(FUNCTIONS)).json()
        document = (await at.globex.get(ndt_jobs.DOCUMENT)).json()
        asked = {
            "ndtFunctionRef": function["href"],
            "capability": "EVENTS_IMPACTS_VERIFICATION",
            "scenario": {**CUT, "seed": 7},
            "requirements": {"deadline": 110, "delay": 0.001},
        }
        made = await at.acme.post(JOBS, json=asked)
        job = made.json()
        seen = []
        async with at.acme.stream("GET", f"{JOBS}/{job['id']}/progress") as following:
            async for line in following.aiter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
        ended = await at.ended(at.acme, f"{JOBS}/{job['id']}")
        report = (await at.acme.get(ended["ndtReportRef"].removeprefix(PUBLIC))).json()
        again = await at.ended(at.acme, f"{JOBS}/{(await posted(at.acme, JOBS, asked))['id']}")
        same = (await at.acme.get(again["ndtReportRef"].removeprefix(PUBLIC))).json()
        listed = await at.acme.get(JOBS, params={"limit": 1})
        foreign = [
            await at.globex.get(f"{JOBS}/{job['id']}"),
            await at.globex.get(f"/3gpp-ndt/v1/NDTReport/{job['id']}"),
            await at.globex.patch(f"{JOBS}/{job['id']}", json={"cancelJob": True}),
            await at.globex.get(f"{FUNCTIONS}/{twin}"),
            await at.globex.post(JOBS, json=asked),
        ]
        unknown = await at.globex.post(JOBS, json={**asked, "ndtFunctionRef": "no-such-twin"})
        theirs = (await at.globex.get(JOBS)).json()
        late = await at.acme.patch(f"{JOBS}/{job['id']}", json={"cancelJob": True})

    assert set(document["paths"]) >= {"/NDTJob", "/NDTJob/{id}", "/NDTReport/{id}"}
    for name, shown in (("NDTFunction", function), ("NDTJob", ended), ("NDTReport", report)):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft4Validator(schema).validate(shown)
    assert function["id"] == twin
    assert "EVENTS_IMPACTS_VERIFICATION" in function["supportedCapabilities"]
    assert made.status_code == 201
    assert made.headers["location"] == job["href"] == f"{PUBLIC}{JOBS}/{job['id']}"
    assert seen[-1]["processMonitor"]["status"] == ended["processMonitor"]["status"] == "FINISHED"
    assert report["digest"] == same["digest"]
    assert {item["domain"] for item in report["report"]["domains"]} == {"ran", "transport", "edge"}
    assert {finding["code"] for finding in report["report"]["findings"]} >= {"what-if.requirement"}
    assert (listed.headers["x-total-count"], len(listed.json())) == ("2", 1)
    assert [answer.status_code for answer in foreign] == [404] * 5
    assert foreign[-1].json()["message"].replace(twin, "no-such-twin") == unknown.json()["message"]
    assert theirs == []
    assert late.status_code == 409


async def test_what_a_job_says_of_itself_and_how_often_it_is_followed_is_limited(tmp_path):
    async with face(tmp_path) as at:
        begun, go = hold(at.parts)
        twin = await at.active_twin(at.acme, "ran/cell-1", "edge/app")
        asked = {"ndtFunctionRef": twin, "scenario": CUT}
        lone = await posted(at.acme, JOBS, {**asked, "scope": {"domains": ["moon"]}}, 404)
        question = Scenario.model_validate(CUT)
        labelled = await at.twin.for_partner("acme").start_job(
            question, labels={"twin": twin, "test": "t-1", "parent": "x"}
        )
        await begun.wait()
        path = f"{JOBS}/{labelled.id}/progress"
        async with AsyncExitStack() as streams:
            kept = []
            for _ in range(ndt_jobs.WATCHERS):
                following = await streams.enter_async_context(at.acme.stream("GET", path))
                kept.append(following.aiter_lines())
                await anext(kept[-1])
            refused = await at.acme.get(path)
        freed = await until(lambda: followed_again(at.acme, path))
        hers = await at.acme.patch(f"{JOBS}/{labelled.id}", json={"cancelJob": True})
        odd = [
            await at.acme.patch(f"{JOBS}/{labelled.id}", json={"state": "cancelled"}),
            await at.acme.get(JOBS, params={"limit": 0}),
            await at.acme.get(JOBS, params={"filter": "x"}),
            await at.acme.get(f"{JOBS}/{labelled.id}", params={"fields": "id"}),
        ]
        short = await at.acme.get(f"{JOBS}/{labelled.id[:8]}")
        go.set()

    assert "no domain 'moon' in this twin" in lone["message"]
    assert "transport" not in lone["message"]
    assert labelled.labels == {"twin": twin}
    assert refused.status_code == 429
    assert "retry-after" in refused.headers
    assert freed
    assert hers.json()["processMonitor"]["status"] == "CANCELLING"
    assert [answer.status_code for answer in odd] == [400] * 4
    assert short.status_code == 404


async def followed_again(http, path):
    async with http.stream("GET", path) as following:
        return following.status_code == 200


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"ndtFunctionRef": ""}, "ndtFunctionRef"),
        ({"capability": "MAGIC"}, "capability"),
        ({"scenario": None}, "scenario"),
        ({"scenario": {"changes": []}}, "scenario"),
        ({"scope": {"cells": []}}, "scope.cells"),
        ({"requirements": {"deadline": 0}}, "requirements.deadline"),
        ({"requirements": {"atVersions": {"ran": 7}}}, "requirements.atVersions"),
        ({"labels": {"test": "x"}}, "labels"),
    ],
)
async def test_a_refused_job_names_its_attribute(tmp_path, asked, named):
    config, issuer = api_config(tmp_path)
    model = ReadModel(presenter(PUBLIC, APIS))
    token = issuer.issue("acme", SCOPES, audience=PUBLIC)
    routes_of_jobs = ndt_jobs.routes(_NobodyAsked(), model, PUBLIC)
    async with running(config, routes=routes_of_jobs) as app, client(app, token) as http:
        answer = await http.post(JOBS, json={"ndtFunctionRef": "t1", "scenario": CUT, **asked})

    assert answer.status_code == 400
    assert named in answer.json()["message"]
    assert answer.json()["@type"] == "Error"


class _NobodyAsked:
    """A twin that is not asked anything."""

    def for_partner(self, tenant: str) -> _NobodyAsked:
        return self

    async def start_job(self, *_: object, **__: object) -> None:
        raise AssertionError("a job that should have been refused was asked")
