"""The broker as its users see it: real sessions in, real gRPC over mTLS out."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from federation_parts import (
    EXCHANGE,
    LINK_A,
    OPERATORS,
    SERVICE,
    Federation,
    all_connected,
    border,
    until,
)

from domain_twin.config import AuditConfig
from domain_twin.errors import (
    ConfigError,
    CredentialError,
    NoPath,
    NotFound,
    NotShared,
    OverCapacity,
    TwinError,
    Unreachable,
)
from domain_twin.model import (
    Event,
    EventKind,
    Level,
    Outcome,
    PathMode,
    Requirement,
    Segment,
    ServiceStatus,
)
from domain_twin.trust.identity import Role
from federation.client import EventStream, TwinClient


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation.make(tmp_path)


async def wait_for(stream: EventStream, kind: EventKind, text: str = "", domain: str = "") -> Event:
    async with asyncio.timeout(20):
        async for event in stream:
            if event.kind is kind and text in event.text and domain in ("", event.domain):
                return event
    raise AssertionError("the stream ended")


async def service(twin: TwinClient) -> ServiceStatus:
    return (await twin.services()).statuses[0]


async def test_three_domains_make_one_path(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        # Act
        statuses = await all_connected(twin)
        answer = await twin.path("ran/cell-1", "edge/app")
        # Assert
        assert [status.domain for status in statuses] == ["edge", "ran", "transport"]
        assert {status.level for status in statuses} == {Level.MESH}
        assert {status.problem for status in statuses} == {""}
        assert statuses[1].peer == "spiffe://northcell.example/agent/ran"
        (path,) = answer.paths
        assert [hop.domain or hop.link_id for hop in path.hops] == [
            "ran",
            LINK_A,
            "transport",
            "urn:ndt:idl:bbbb",
            "edge",
        ]
        assert path.total.delay_ms == pytest.approx(2.0 + 0.1 + 3.0 + 0.1 + 1.0)
        assert {outcome.outcome for outcome in answer.domains} == {Outcome.OK}


async def test_a_change_in_a_domain_reaches_a_watcher_with_its_device_time(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        await until(lambda: _met(twin, True))
        stream = twin.watch([EventKind.SERVICE])
        await stream.started()
        # Act
        federation.domains["transport"].set_delay("transport/b1", "transport/b2", 30.0, observed_at=77_000)
        event = await wait_for(stream, EventKind.SERVICE, "objective missed")
        await stream.aclose()
        # Assert
        assert event.observed_at == 77_000
        assert event.service_status is not None
        assert event.service_status.met is False
        assert event.service_status.path is not None
        assert event.service_status.path.total.delay_ms == pytest.approx(33.2)
        assert "transport" in event.service_status.cause
        assert await service(twin) == event.service_status
        findings = {finding.code for finding in await twin.findings()}
        assert "service.objective-missed" in findings


async def test_a_lost_domain_is_stale_at_once_and_back_after_it_resumed(federation: Federation) -> None:
    async with federation.broker() as broker, federation.client(broker) as twin:
        async with federation.agent("ran", broker), federation.agent("edge", broker):
            async with federation.agent("transport", broker):
                await all_connected(twin)
                await until(lambda: _met(twin, True))
                stream = twin.watch()
                await stream.started()
            # Act: the agent of transport is gone now
            lost = await wait_for(stream, EventKind.DOMAIN, "lost", "transport")
            told = await wait_for(stream, EventKind.SERVICE, "transport: stale")
            # Assert
            assert lost.domain_status is not None
            assert not lost.domain_status.connected
            assert told.service_status is not None
            answer = await twin.path("ran/cell-1", "edge/app")
            said = {outcome.domain: outcome for outcome in answer.domains}
            assert said["transport"].outcome is Outcome.STALE
            assert said["ran"].outcome is Outcome.OK
            assert [hop.stale for hop in answer.paths[0].hops] == [False, True, True, True, False]
            (view,) = await twin.views("transport")
            assert all(point.stale for point in view.points.values())
            assert all(segment.stale for segment in view.segments.values())
            assert "domain.lost" in {finding.code for finding in await twin.findings("transport")}
            # Act: it changed meanwhile, and comes back
            federation.domains["transport"].set_delay("transport/b1", "transport/b2", 4.0, publish=False)
            async with federation.agent("transport", broker) as transport:
                await wait_for(stream, EventKind.DOMAIN, "is back", "transport")
                await wait_for(stream, EventKind.SERVICE, "transport is back")
                # Assert: only what was missed travelled
                assert transport.resumed[-1] is not None
                assert (await twin.path("ran/cell-1", "edge/app")).paths[0].total.delay_ms == pytest.approx(
                    7.2
                )
                assert await twin.findings("transport") == []
        await stream.aclose()


async def test_a_restarted_broker_shows_the_last_views_stale_until_domains_resume(
    federation: Federation,
) -> None:
    # Arrange
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        await until(lambda: _met(twin, True))
        started = (await service(twin)).at
    # Act
    async with federation.broker() as broker, federation.client(broker) as twin:
        statuses = await twin.domains()
        answer = await twin.path("ran/cell-1", "edge/app")
        history, events = await twin.service_history("uplink", 0)
        # Assert
        assert not any(status.connected for status in statuses)
        assert all("not connected since the broker started" in status.problem for status in statuses)
        assert {outcome.outcome for outcome in answer.domains} == {Outcome.STALE}
        assert answer.paths[0].total.delay_ms == pytest.approx(6.2)
        assert history[0].at <= started
        assert any("joined" in event.text for event in events)
        assert [event.id for event in events] == sorted({event.id for event in events})
        # Act
        async with federation.agents(broker):
            await until(lambda: _met(twin, True))
            await until(lambda: _all_ok(twin))
        assert all(domain.resumed[-1] is not None for domain in federation.domains.values())


async def test_that_the_broker_ends_is_no_news_of_the_domains(federation: Federation) -> None:
    # The agents outlive the broker.
    async with (
        contextlib.AsyncExitStack() as agents,
        federation.broker() as broker,
        federation.client(broker) as twin,
    ):
        for domain in federation.domains:
            await agents.enter_async_context(federation.agent(domain, broker))
        await until(lambda: _met(twin, True))
    async with federation.broker() as broker, federation.client(broker) as twin:
        _, events = await twin.service_history("uplink", 0)
        assert any("joined" in event.text for event in events)
        assert not any("lost" in event.text for event in events)
        assert not any("is stopping" in event.text for event in events)


async def test_a_view_that_cannot_be_is_refused_and_the_last_good_one_stays(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        transport = federation.domains["transport"]
        good = transport.view_now
        # Act: it speaks of a point of another domain
        foreign = border("ran", "b9", "urn:ndt:idl:evil", "edge")
        transport.change(points=[foreign])
        status = await until(lambda: _problem(twin, "transport", "refused"))
        # Assert
        assert "ran/b9" in status.problem
        assert status.version.sequence == good.version.sequence
        (view,) = await twin.views("transport")
        assert set(view.points) == set(good.points)
        assert all(point.stale for point in view.points.values())
        (finding,) = [f for f in await twin.findings("transport") if f.code == "view.refused"]
        assert "ran/b9" in finding.message
        # Act: the domain mends it
        transport.change(gone_points=["ran/b9"])
        await until(lambda: _all_ok(twin))
        assert await twin.findings("transport") == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"segments": [Segment("ran/cell-1", "ran/nowhere", None)]}, "a point that its view lacks"),
        ({"points": [border("ran", "b\n9", "urn:ndt:idl:evil", "edge")]}, "printable"),
        ({"points": [border("ran", "b" * 300, "urn:ndt:idl:evil", "edge")]}, "at most 255"),
    ],
)
async def test_what_a_view_may_not_hold_is_named(
    federation: Federation, change: dict[str, Any], sentence: str
) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        federation.domains["ran"].change(**change)
        await until(lambda: _problem(twin, "ran", sentence))


async def test_a_watch_ends_with_the_certificate(federation: Federation) -> None:
    life = {"life": timedelta(seconds=4)}
    async with federation.broker() as broker, federation.client(broker, **life) as twin:
        stream = twin.watch([EventKind.DEVICE])
        async with asyncio.timeout(30):
            with pytest.raises(CredentialError, match="ended while you watched"):
                await anext(stream)


async def test_a_closed_client_keeps_no_connection(
    federation: Federation, connections_to: Callable[[int], int]
) -> None:
    async with federation.broker() as broker, federation.agents(broker):
        port = int(broker.address.rpartition(":")[2])
        async with federation.client(broker) as twin:
            await all_connected(twin)
            agents = connections_to(port) - 1
            stream = twin.watch([EventKind.SERVICE])
            await stream.started()
            federation.domains["transport"].set_delay(
                "transport/b1", "transport/b2", 30.0, observed_at=77_000
            )
            await wait_for(stream, EventKind.SERVICE, "objective missed")
            await stream.aclose()

        del stream  # a call that somebody holds keeps its connection
        await until(lambda: _is(agents, connections_to(port)))


async def _is(wanted: int, found: int) -> bool:
    return wanted == found


async def test_a_gap_brings_a_snapshot(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        transport = federation.domains["transport"]
        transport.deltas.clear()
        version = transport.view_now.version
        transport.view_now = replace(transport.view_now, version=replace(version, sequence=40))
        transport.set_delay("transport/b1", "transport/b2", 5.0)

        async def question() -> bool:
            (view,) = await twin.views("transport")
            return view.version.sequence == 41

        await until(question)
        assert (await twin.path("ran/cell-1", "edge/app")).paths[0].total.delay_ms == pytest.approx(8.2)


async def test_a_domain_that_grants_less_is_seen_at_that_level(federation: Federation) -> None:
    domain = federation.domains["ran"]
    kpis = next(iter(domain.view_now.segments.values())).current
    domain.granted = Level.NODE
    domain.view_now = replace(
        domain.view_now,
        level=Level.NODE,
        segments={("*", "*"): Segment("*", "*", kpis, (kpis,) if kpis else ())},
    )
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        statuses = await all_connected(twin)
        assert {status.domain: status.level for status in statuses}["ran"] is Level.NODE
        assert (await twin.path("ran/cell-1", "edge/app")).inner_approximation
        with pytest.raises(NotShared, match="node"):
            await twin.views("ran", Level.MESH)


async def test_a_domain_that_grants_nothing_is_shown_as_such(federation: Federation) -> None:
    federation.domains["ran"].granted = None
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        status = await until(lambda: _problem(twin, "ran", "no agreement speaks of you"))
        assert status.connected
        assert status.version is None
        assert [finding.code for finding in await twin.findings("ran")] == ["view.withheld"]
        with pytest.raises(NotFound, match="ran"):
            await twin.path("ran/cell-1", "edge/app")


async def test_a_view_that_is_refused_for_a_moment_is_current_again_though_nothing_changed(
    federation: Federation,
) -> None:
    ran = federation.domains["ran"]
    async with federation.broker() as broker, federation.client(broker) as twin:
        async with federation.agents(broker):
            await all_connected(twin)
        ran.full.append(OverCapacity("more asks than agreed"))
        async with federation.agents(broker):
            await all_connected(twin)
            assert not ran.full
            await until(lambda: _without_findings(twin, "ran"))
            assert (await twin.domains())[0].version is not None


async def test_an_expired_agreement_deletes_the_view(federation: Federation) -> None:
    import time

    ran = federation.domains["ran"]
    ran.expires_at = time.time_ns() + 1_500_000_000
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        ran.granted = None
        await until(lambda: _problem(twin, "ran", "no agreement"))
        assert [view.domain for view in await twin.views()] == ["edge", "transport"]
    async with federation.broker() as broker, federation.client(broker) as twin:
        assert [view.domain for view in await twin.views()] == ["edge", "transport"]


async def test_each_domain_is_asked_for_its_own_share_alone(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await until(lambda: _met(twin, True))
        await until(lambda: _asked(federation))
        status = await service(twin)
        shares = {share.domain: share for share in status.budget}
        assert sum(share.share_ms for share in shares.values()) == pytest.approx(10.0)
        for name, domain in federation.domains.items():
            ask = domain.budgets[-1]
            assert ask.share_ms == pytest.approx(shares[name].share_ms)
            assert ask.service_id == SERVICE.id
            assert all(segment.source.startswith(f"{name}/") for segment in ask.segments)
            assert all(segment.target.startswith(f"{name}/") for segment in ask.segments)


async def test_a_declined_share_is_split_anew(federation: Federation) -> None:
    federation.domains["edge"].least_ms = 2.5  # of 10 ms, its share by use would be about 1.6
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:

        async def question() -> bool:
            status = await service(twin)
            return any(share.domain == "edge" and share.share_ms >= 2.5 for share in status.budget)

        await until(question)
        status = await service(twin)
        assert sum(share.share_ms for share in status.budget) == pytest.approx(10.0)
        _, events = await twin.service_history("uplink", 0)
        assert any("split anew" in event.text and "edge needs more" in event.text for event in events)


async def test_shares_that_cannot_be_kept_are_shown(federation: Federation) -> None:
    federation.domains["edge"].least_ms = 9.5
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:

        async def question() -> bool:
            return any(f.code == "service.budget-infeasible" for f in await twin.findings())

        await until(question)
        (edge,) = [share for share in (await service(twin)).budget if share.domain == "edge"]
        assert edge.outcome is Outcome.OVER_CAPACITY

        asked = len(federation.domains["edge"].budgets)
        federation.domains["edge"].least_ms = 0.0  # what kept it from that is over, and no figure says so

        async def kept() -> bool:
            return not any(f.code == "service.budget-infeasible" for f in await twin.findings())

        await until(kept, 20)
        (edge,) = [share for share in (await service(twin)).budget if share.domain == "edge"]
        assert edge.outcome is Outcome.OK
        assert len(federation.domains["edge"].budgets) == asked + 1
        _, events = await twin.service_history("uplink", 0)
        assert [e.text for e in events if "budget can" in e.text][-1] == "uplink: budget can be kept again"


async def test_one_who_confirms_does_not_speak_for_another(federation: Federation) -> None:
    federation.domains["edge"].least_ms = 9.5
    ran = federation.domains["ran"]
    async with (
        federation.broker() as broker,
        federation.agent("transport", broker),
        federation.agent("edge", broker),
        federation.client(broker) as twin,
    ):

        async def infeasible() -> bool:
            return any(f.code == "service.budget-infeasible" for f in await twin.findings())

        async with federation.agent("ran", broker):
            await until(infeasible)
        asked = len(ran.budgets)

        async def asked_alone() -> bool:
            return len(ran.budgets) > asked

        async with federation.agent("ran", broker):
            await until(asked_alone)
            for _ in range(10):
                assert await infeasible()
                await asyncio.sleep(0.05)


async def test_a_domain_that_says_nothing_about_its_share_is_shown(federation: Federation) -> None:
    federation.domains["edge"].refuse_budget = NotShared("the agreement does not grant 'evaluate'")
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:

        async def question() -> bool:
            return any(f.code == "service.share-not-confirmed" for f in await twin.findings("edge"))

        await until(question)
        (edge,) = [share for share in (await service(twin)).budget if share.domain == "edge"]
        assert edge.outcome is Outcome.NOT_SHARED


async def test_an_infinite_demand_does_not_upset_the_broker(federation: Federation) -> None:
    federation.domains["edge"].least_ms = math.inf
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await until(lambda: _asked(federation))

        async def question() -> bool:
            return any(f.code == "service.budget-infeasible" for f in await twin.findings())

        await until(question)
        assert (await service(twin)).met is True


@pytest.mark.parametrize(
    ("operator", "role", "name", "sentence"),
    [
        (OPERATORS["ran"], Role.AGENT, "ran", "do not read the composed twin"),
        (OPERATORS["ran"], Role.USER, "eve", r"spiffe://northcell.example/user/eve may not read"),
        (EXCHANGE, Role.API, "tmf", "may not read"),
    ],
)
async def test_only_those_in_the_access_list_read(
    federation: Federation, operator: str, role: Role, name: str, sentence: str
) -> None:
    async with (
        federation.broker() as broker,
        federation.client(broker, operator=operator, role=role, name=name) as twin,
    ):
        with pytest.raises(NotShared, match=sentence):
            await twin.domains()
        with pytest.raises(NotShared, match=sentence):
            await twin.watch().started()


async def test_devices_and_series_stay_inside_their_domains(federation: Federation) -> None:
    async with federation.broker() as broker, federation.client(broker) as twin:
        with pytest.raises(NotShared, match="devices stay inside their domains"):
            await twin.devices()
        with pytest.raises(NotShared, match="stay inside"):
            await twin.series("r1", "/a:b", 0)
        with pytest.raises(NotFound, match="no past views"):
            await twin.elements(at=1)


async def test_elements_are_points_and_segments(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        elements = await twin.elements("ran")
        assert {element.id for element in elements} == {
            "ran/cell-1",
            "ran/b1",
            "ran/cell-1>ran/b1",
            "ran/b1>ran/cell-1",
        }
        (point,) = await twin.elements(kind="point", prefix="ran/b")
        assert point.attributes["peer-domain"] == "transport"
        assert {kpi.name: kpi.value for kpi in point.kpis}["one_way_delay"] == pytest.approx(0.1)


async def test_wrong_questions_get_clear_answers(federation: Federation) -> None:
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await all_connected(twin)
        with pytest.raises(NotFound, match="did you mean ran/cell-1"):
            await twin.path("ran/cell1", "edge/app")
        with pytest.raises(NoPath, match="delay of 1 ms"):
            await twin.path(
                "ran/cell-1", "edge/app", mode=PathMode.BEST, requirement=Requirement(delay_ms=1.0)
            )
        with pytest.raises(NotFound, match="no domain 'moon'"):
            await twin.views("moon")
        with pytest.raises(NotFound, match="no domain 'moon'"):
            await anext(twin.watch(domain="moon"))
        with pytest.raises(NotFound, match="no service 'x'; there are uplink"):
            await twin.services("x")
        with pytest.raises(NotFound, match="no elements are of kind 'cell'"):
            await twin.elements(kind="cell")
        with pytest.raises(OverCapacity, match="16 at most"):
            await twin.path("ran/cell-1", "edge/app", mode=PathMode.BEST, alternatives=17)
        with pytest.raises(TwinError, match="is not before"):
            await twin.service_history("uplink", 2**62)


async def test_a_domain_that_is_no_member_may_not_attach(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, member=())
    async with federation.broker() as broker, federation.agent("ran", broker) as ran:

        async def question() -> bool:
            return isinstance(ran.session and ran.session.error, NotShared)

        await until(question)
        assert ran.session is not None
        assert "no member of this federation" in str(ran.session.error)


async def test_a_port_in_use_is_named(federation: Federation) -> None:
    async with federation.broker() as broker:
        port = int(broker.address.rpartition(":")[2])
        federation.more["state"] = federation.folder / "another"
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*another process has the port"):
            async with federation.broker(port=port):
                pass


async def test_a_broker_without_a_disk_goes_on_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    federation = Federation.make(
        tmp_path, state=tmp_path / "taken" / "state", audit=AuditConfig(when_unwritable="continue")
    )
    async with federation.broker() as broker, federation.agents(broker), federation.client(broker) as twin:
        await until(lambda: _met(twin, True))
        (finding,) = [f for f in await twin.findings() if f.code == "broker.storage-unusable"]
        assert "taken" in finding.message
        history, _ = await twin.service_history("uplink", 0)
        assert history


async def test_nobody_listening_is_named(federation: Federation) -> None:
    async with federation.broker() as broker:
        pass
    async with federation.client(broker) as twin:
        with pytest.raises(Unreachable, match="is the broker running"):
            await twin.domains()


async def test_a_certificate_of_an_unknown_ca_is_named(federation: Federation, tmp_path: Path) -> None:
    other = Federation.make(tmp_path / "other")
    async with federation.broker() as broker, other.client(broker) as twin:
        twin._profile = twin._profile.model_copy(update={"root": federation.pki.roots[EXCHANGE]})  # type: ignore[union-attr]
        async with twin:
            with pytest.raises(CredentialError, match="CA"):
                await twin.domains()


async def test_watchers_are_let_go_when_the_broker_stops(federation: Federation) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with federation.broker() as broker:
            twin = await stack.enter_async_context(federation.client(broker))
            stream = twin.watch([EventKind.DEVICE])
            await stream.started()
        async with asyncio.timeout(20):
            assert [event async for event in stream] == []


async def test_a_stream_that_is_closed_ends(federation: Federation) -> None:
    async with federation.broker() as broker, federation.client(broker) as twin:
        stream = twin.watch([EventKind.DEVICE])
        await stream.started()
        collecting = asyncio.create_task(collect(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        async with asyncio.timeout(20):
            assert await collecting == []


async def collect(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


async def _met(twin: TwinClient, wanted: bool) -> bool:
    return (await service(twin)).met is wanted


async def _all_ok(twin: TwinClient) -> bool:
    answer = await twin.path("ran/cell-1", "edge/app")
    return {outcome.outcome for outcome in answer.domains} == {Outcome.OK}


async def _problem(twin: TwinClient, domain: str, text: str) -> object:
    (status,) = [status for status in await twin.domains() if status.domain == domain]
    return text in status.problem and status


async def _without_findings(twin: TwinClient, domain: str) -> bool:
    return not await twin.findings(domain)


async def _asked(federation: Federation) -> bool:
    return all(domain.budgets for domain in federation.domains.values())
