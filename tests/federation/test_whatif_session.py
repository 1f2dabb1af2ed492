"""What-ifs across three operators over real sessions: asked of the broker as jobs, answered by the agents."""

import asyncio
import hashlib
import json
import math

import pytest
from federation_parts import all_connected, until
from what_if_parts import A1, A2, ACTIONS, RECORDS, UPLINK, B, federation, inner, networks

from domain_twin.agent.auditor import Auditor
from domain_twin.disclosure.policy import Action
from domain_twin.disclosure.precision import Precision
from domain_twin.errors import ConfigError, NotFound, NotShared
from domain_twin.model import Level, Outcome, Version
from domain_twin.model.job import JobState, Requirements
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.compile import compile_network
from domain_twin.simulation.warm import warm
from domain_twin.trust.audit_files import segments
from domain_twin.trust.audit_log import AuditLog

pytestmark = pytest.mark.timeout(400)  # the kernels may have to be compiled

DOWN_A1 = {"kind": "element-down", "element": A1}
DOWN_B = {"kind": "element-down", "element": B}


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """Compiled before any session: an agent that compiles while it should answer would be taken for dead."""
    warm()
    network = compile_network(networks()["edge"])
    engine = Engine(network.graph, network.demand)
    engine.solve()


def scenario(*changes, **more):
    return Scenario.model_validate({"changes": changes, **more})


async def ended(twin, job):
    """The job as it ended."""
    return [each async for each in twin.watch_job(job.id)][-1]


async def asked(twin, question, **more):
    """The job as it ended, and its report. Kernels that nobody has compiled yet take their time."""
    more.setdefault("requirements", Requirements(deadline_s=110.0))
    job = await ended(twin, await twin.start_job(question, **more))
    assert job.state in (JobState.FINISHED, JobState.PARTIALLY_FAILED), job.problem
    return job, await twin.report(job.id)


async def one_answer(made, question, **more):
    """All of a federation started, one question asked of it, and all of it stopped."""
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        return await asked(twin, question, **more)


def outcomes(report):
    return {item.domain: item.outcome for item in report.domains}


def targets(path):
    return [part.target for part in path]


async def test_a_cut_between_domains_is_predicted_from_end_to_end(tmp_path):
    made = federation(tmp_path)

    job, report = await one_answer(made, scenario(DOWN_A1))

    assert job.state is JobState.FINISHED
    (flow,) = report.flows
    assert (flow.source, flow.target, flow.service) == (UPLINK.source, UPLINK.target, UPLINK.id)
    assert targets(flow.path_before) == ["ran/idl-a1", "transport/idl-b", "edge/app"]
    assert targets(flow.path_after) == ["ran/idl-a2", "transport/idl-b", "edge/app"]
    assert 0 < flow.before.delay_ms.value < 50
    assert sum(part.delay_ms for part in flow.path_before) == pytest.approx(flow.before.delay_ms.value)
    assert flow.before.throughput_mbps.value > 1
    assert outcomes(report) == dict.fromkeys(("ran", "transport", "edge"), Outcome.OK)
    assert set(report.versions) == {"ran", "transport", "edge"}
    assert all(len(domain.what_ifs) == 0 for domain in made.domains.values())


async def test_the_same_question_gets_the_same_report(tmp_path):
    made = federation(tmp_path)
    question = scenario(
        sweep={"kind": "monte-carlo", "draws": 5, "link_failure": 0.3, "demand_sigma": 0.3}, seed=7
    )
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)

        _, first = await asked(twin, question)
        _, second = await asked(twin, question)

    assert first.digest == second.digest
    assert first.rows == second.rows
    assert len(first.rows) == 5


async def test_no_message_names_what_is_inside_not_even_a_refusal(tmp_path):
    made = federation(tmp_path)
    contradiction = {"kind": "workers", "element": "ran/cell-1", "count": 2}

    _, report = await one_answer(made, scenario(DOWN_A1, contradiction))

    assert outcomes(report)["ran"] is not Outcome.OK
    messages = [message for domain in made.domains.values() for message in domain.messages]
    assert len(messages) > 6
    assert not [message for message in messages if b"secret" in message]
    assert "secret" not in str(report)


@pytest.mark.parametrize("element", [inner("ran", "r1"), inner("ran", "r999"), "r1", "ran/secret-r1"])
async def test_an_inner_element_is_refused_as_one_that_does_not_exist(tmp_path, element):
    made = federation(tmp_path)
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)

        with pytest.raises(NotShared) as refused:
            await twin.start_job(scenario({"kind": "element-down", "element": element}))

    assert str(refused.value).endswith(f"{element} is not shared with you")
    assert not any(domain.steps for domain in made.domains.values())


async def test_an_agent_refuses_inner_elements_though_the_broker_asks(tmp_path):
    made = federation(tmp_path)
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        session = broker.sessions["ran"]
        said = []
        for element in (inner("ran", "r1"), inner("ran", "r999")):
            question = preparing({"kind": "element-down", "element": element})
            with pytest.raises(NotShared) as refused:
                await session.ask(question, timeout_s=20, job_id="j")
            said.append(str(refused.value).replace(element, "it"))

    assert said[0] == said[1]


def preparing(*changes):
    from pydantic import TypeAdapter

    from domain_twin.model.scenario import Change
    from federation.wire.simulate import PartVariant, Prepare, encode_ask

    read = TypeAdapter(Change).validate_python
    return encode_ask(Prepare((PartVariant("base"), PartVariant("x", tuple(map(read, changes))))))


async def test_a_domain_without_an_agent_makes_the_answer_partial_and_no_number_up(tmp_path):
    made = federation(tmp_path)
    async with (
        made.broker(RECORDS) as broker,
        made.agent("ran", broker),
        made.agent("edge", broker),
        made.client(broker) as twin,
    ):
        await until(lambda: two_connected(twin))
        job, report = await asked(twin, scenario(DOWN_A1))

    assert job.state is JobState.PARTIALLY_FAILED
    assert outcomes(report)["transport"] is Outcome.UNREACHABLE
    (flow,) = report.flows
    assert math.isnan(flow.before.delay_ms.value)  # not None: nobody said that there is no way
    assert math.isnan(flow.after.loss.value)


async def two_connected(twin):
    return sum(bool(status.connected and status.version) for status in await twin.domains()) == 2


async def test_a_domain_that_leaves_in_the_middle_costs_its_flows_their_figures(tmp_path):
    made = federation(tmp_path)
    transport = made.domains["transport"]
    gone = asyncio.Event()

    async def leave(body):
        if body.WhichOneof("step") == "round":
            gone.set()
            await asyncio.Event().wait()

    transport.before = leave
    async with (
        made.broker(RECORDS) as broker,
        made.client(broker) as twin,
        made.agent("ran", broker),
        made.agent("edge", broker),
    ):
        async with made.agent("transport", broker):
            await all_connected(twin)
            job = await twin.start_job(scenario(DOWN_A1))
            await gone.wait()
        job = await ended(twin, job)
        report = await twin.report(job.id)
        assert len(made.domains["ran"].what_ifs) == 0

    assert job.state is JobState.PARTIALLY_FAILED
    assert outcomes(report) == {"ran": Outcome.OK, "edge": Outcome.OK, "transport": Outcome.UNREACHABLE}
    (flow,) = report.flows
    assert math.isnan(flow.after.delay_ms.value)
    assert [math.isnan(part.delay_ms) for part in flow.path_after] == [False, True, False]
    assert any("transport" in sentence and "not known" in sentence for sentence in report.assumptions)


async def test_who_does_not_answer_before_the_deadline_is_left_out(tmp_path):
    made = federation(tmp_path)

    async def never(_):
        await asyncio.Event().wait()

    made.domains["edge"].before = never

    job, report = await one_answer(made, scenario(DOWN_A1), requirements=Requirements(deadline_s=3.0))

    assert job.state is JobState.PARTIALLY_FAILED
    assert outcomes(report)["edge"] is Outcome.UNREACHABLE
    assert math.isnan(report.flows[0].after.delay_ms.value)


@pytest.mark.parametrize(
    ("terms", "outcome"),
    [
        ({"actions": ACTIONS - {Action.WHAT_IF}}, Outcome.NOT_SHARED),
        ({"level": Level.NODE}, Outcome.NOT_SHARED),
        ({"most_parts": 0}, Outcome.OVER_CAPACITY),
    ],
)
async def test_a_domain_that_refuses_is_named_with_its_reason(tmp_path, terms, outcome):
    made = federation(tmp_path, {"edge": terms})

    job, report = await one_answer(made, scenario(DOWN_A1), requirements=Requirements(deadline_s=20.0))

    assert job.state is JobState.PARTIALLY_FAILED
    assert outcomes(report)["edge"] is outcome
    assert math.isnan(report.flows[0].after.delay_ms.value)
    assert any(finding.code == "what-if.domain-missing" for finding in report.findings)


async def test_a_domain_at_another_version_than_was_asked_about_is_left_out(tmp_path):
    made = federation(tmp_path)
    wanted = Requirements(at_versions={"ran": Version("an-older-epoch", 1)})

    job, report = await one_answer(made, scenario(DOWN_A1), requirements=wanted)

    assert job.state is JobState.PARTIALLY_FAILED
    assert outcomes(report)["ran"] is Outcome.STALE_VERSION


async def test_the_scope_of_a_job_keeps_other_domains_out_of_it(tmp_path):
    made = federation(tmp_path)

    _, report = await one_answer(made, scenario(DOWN_A1), scope=("ran", "transport"))

    assert not made.domains["edge"].steps
    assert outcomes(report)["edge"] is Outcome.NOT_SHARED


async def test_the_owner_adds_changes_that_nobody_else_sees(tmp_path):
    plain = federation(tmp_path / "plain")
    changed = federation(tmp_path / "changed")
    folder = changed.domains["transport"].private
    folder.mkdir(parents=True)
    slow = f"changes: [{{kind: capacity, element: '{inner('transport', 't1')}:to-t2:out', mbps: 5.2}}]"
    (folder / "spring.yaml").write_text(slow)

    _, before = await one_answer(plain, scenario(DOWN_B | {"element": A2}, name="spring"))
    _, after = await one_answer(changed, scenario(DOWN_B | {"element": A2}, name="spring"))

    assert after.flows[0].before.delay_ms.value == pytest.approx(before.flows[0].before.delay_ms.value)
    assert after.flows[0].after.delay_ms.value > 1.05 * before.flows[0].after.delay_ms.value
    assert any(line.startswith("transport: its owner made changes") for line in after.assumptions)
    assert not any("owner made" in line for line in before.assumptions)
    assert not any(b"secret" in message for domain in changed.domains.values() for message in domain.messages)


async def test_a_broken_file_of_own_changes_says_nothing_to_the_peer(tmp_path):
    made = federation(tmp_path)
    folder = made.domains["transport"].private
    folder.mkdir(parents=True)
    (folder / "any.yaml").write_text("changes: [{kind: element-down, element: 'urn:secret-nothing'}]")

    _, report = await one_answer(made, scenario(DOWN_A1))

    assert outcomes(report)["transport"] is Outcome.NO_DATA
    assert "secret" not in str(report)


async def test_figures_are_rounded_and_withheld_as_the_agreement_says(tmp_path):
    exact = federation(tmp_path / "exact")
    rounded = federation(
        tmp_path / "rounded",
        {
            "ran": {"precision": Precision(delay_ms=1.0)},
            "edge": {"figures": frozenset({"one_way_delay", "loss_ratio"})},
        },
    )

    _, truth = await one_answer(exact, scenario(DOWN_A1))
    _, told = await one_answer(rounded, scenario(DOWN_A1))

    was, now = truth.flows[0].path_after[0].delay_ms, told.flows[0].path_after[0].delay_ms
    assert now == pytest.approx(round(now))
    assert was <= now < was + 1.0
    assert math.isnan(told.flows[0].after.delay_variance_ms2.value)
    assert not math.isnan(told.flows[0].after.delay_ms.value)


async def test_services_demand_and_sweeps_between_the_domains(tmp_path):
    made = federation(tmp_path)
    added = {
        "kind": "service", "name": "extra", "source": "ran/cell-1", "target": "edge/app", "mbps": 3.0,
        "delay_ms": 2.0,
    }  # fmt: skip
    more = {"kind": "demand", "factor": 1.5, "source": "ran/cell-1", "target": "edge/app"}
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        _, service = await asked(twin, scenario(added))
        _, demand = await asked(twin, scenario(more))
        _, sweep = await asked(twin, scenario(sweep={"kind": "failures"}))
        both = {"kind": "grid", "demand": [1.0, 2.0], "options": [[DOWN_A1]]}
        _, grid = await asked(twin, scenario(sweep=both))
        with pytest.raises(ConfigError, match="elastic"):
            await twin.start_job(scenario({**added, "arrivals": "elastic"}))
        with pytest.raises(ConfigError, match="what is expected is known inside the domains"):
            await twin.start_job(scenario(when="+15m"))

    new = next(flow for flow in service.flows if flow.service == "extra")
    old = next(flow for flow in service.flows if flow.service == UPLINK.id)
    assert new.before is None
    assert new.after.throughput_mbps.value == pytest.approx(3.0, rel=0.1)
    assert old.after.delay_ms.value > old.before.delay_ms.value
    assert any(finding.code == "what-if.objective" for finding in service.findings)
    flow = demand.flows[0]
    assert flow.after.throughput_mbps.value == pytest.approx(1.5 * flow.before.throughput_mbps.value, rel=0.1)
    assert [row.name for row in sweep.rows] == [f"{link} down" for link in (A1, A2, B)]
    assert [row.unreachable for row in sweep.rows] == [0, 0, 1]
    assert [row.name for row in grid.rows] == [
        "demand x1", "demand x1, options[0]", "demand x2", "demand x2, options[0]",
    ]  # fmt: skip
    assert grid.rows[2].worst_delay_ms > grid.rows[0].worst_delay_ms


async def test_demand_that_nobody_knows_is_not_multiplied(tmp_path):
    made = federation(tmp_path)
    back = {"kind": "demand", "factor": 2.0, "source": "edge/app", "target": "ran/cell-1"}
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        job = await ended(twin, await twin.start_job(scenario(back)))

    assert job.state is JobState.FAILED
    assert "set it with mbps" in job.problem


async def test_a_job_is_seen_by_who_asked_it_and_nobody_else(tmp_path):
    made = federation(tmp_path)
    async with (
        made.broker(RECORDS) as broker,
        made.agents(broker),
        made.client(broker) as ann,
        made.client(broker, name="bob") as bob,
    ):
        await all_connected(ann)
        job, _ = await asked(ann, scenario(DOWN_A1))

        assert [item.id for item in await ann.jobs()] == [job.id]
        assert await bob.jobs() == []
        with pytest.raises(NotFound):
            await bob.report(job.id)


async def test_parts_end_with_idleness_and_with_the_session(tmp_path):
    made = federation(tmp_path, {"edge": {"idle_s": 0.3}})
    async with made.broker(RECORDS) as broker, made.client(broker) as twin:
        async with made.agents(broker):
            await all_connected(twin)
            for domain in ("ran", "edge"):
                await broker.sessions[domain].ask(preparing(), timeout_s=20, job_id="left-alone")
                assert len(made.domains[domain].what_ifs) == 1
            await until(lambda: nothing_kept(made.domains["edge"]))
            assert len(made.domains["ran"].what_ifs) == 1
        await until(lambda: nothing_kept(made.domains["ran"]))


async def nothing_kept(domain):
    return len(domain.what_ifs) == 0


async def test_a_cancelled_job_leaves_nothing_behind_in_the_domains(tmp_path):
    made = federation(tmp_path)
    begun = asyncio.Event()

    async def linger(body):
        if body.WhichOneof("step") == "round":
            begun.set()
            await asyncio.Event().wait()

    made.domains["edge"].before = linger
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        job = await twin.start_job(scenario(DOWN_A1))
        await begun.wait()
        await twin.cancel_job(job.id)
        job = await ended(twin, job)

        assert job.state is JobState.CANCELLED
        for domain in made.domains.values():
            await until(lambda domain=domain: nothing_kept(domain))


async def test_services_of_a_domain_that_shared_nothing_are_reported_without_figures(tmp_path):
    made = federation(tmp_path)
    async with (
        made.broker(RECORDS) as broker,
        made.agent("ran", broker),
        made.agent("transport", broker),
        made.client(broker) as twin,
    ):
        await until(lambda: two_connected(twin))
        _, report = await asked(twin, scenario(DOWN_A1))

    (flow,) = report.flows
    assert flow.service == UPLINK.id
    assert math.isnan(flow.before.delay_ms.value)


async def test_sweeps_of_what_is_inside_are_refused(tmp_path):
    made = federation(tmp_path)
    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)

        with pytest.raises(NotShared, match="inside the domains"):
            await twin.start_job(scenario(sweep={"kind": "failures", "of": "nodes"}))
        with pytest.raises(NotShared, match="not shared with you"):
            await twin.start_job(scenario(sweep={"kind": "failures", "elements": [inner("ran", "r1")]}))


async def test_every_answer_of_a_domain_is_in_its_audit_before_it_leaves(tmp_path):
    made = federation(tmp_path)
    ran = made.domains["ran"]
    trail = AuditLog(tmp_path / "audit", who="spiffe://northcell.example/agent/ran")
    ran.jobs.auditor = Auditor(trail)

    job, _ = await one_answer(made, scenario(DOWN_A1))

    trail.close()
    lines = [line for path in segments(tmp_path / "audit") for line in path.read_text().splitlines()]
    records = [record for record in map(json.loads, lines) if record["data"].get("action") == "what-if"]
    said = {hashlib.sha256(message).hexdigest() for message in ran.messages}
    assert len(records) == len(ran.steps) >= 3
    assert [record["data"]["step"] for record in records[:2]] == ["prepare", "round"]
    assert records[-1]["data"]["step"] == "final round"
    assert {record["data"]["job"] for record in records} == {job.id}
    assert {record["data"]["on_behalf_of"] for record in records} == {job.owner}
    assert {record["data"]["answer_sha256"] for record in records} <= said


async def test_links_between_domains_are_shown_with_how_busy_they_become(tmp_path):
    made = federation(tmp_path)

    async with made.broker(RECORDS) as broker, made.agents(broker), made.client(broker) as twin:
        await all_connected(twin)
        _, cut = await asked(twin, scenario(DOWN_A1))
        _, sweep = await asked(twin, scenario(sweep={"kind": "failures", "elements": [A1]}))

    use = {item.element: (item.utilisation_before, item.utilisation_after) for item in cut.elements}
    before, after = use["ran/idl-a2"]
    assert 0 < before < after < 1
    assert use["ran/idl-a1"][1] == 0
    assert all(item.kind == "inter-domain-link" for item in cut.elements)
    assert sweep.rows[0].busiest in use
    assert sweep.rows[0].highest_utilisation == pytest.approx(max(now for _, now in use.values()))
