"""Events as they happen: a tenant's own, resumed where they are at hand, a gap said where they are not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from joserfc.jwk import KeySet
from partners_http import Running, client, running
from token_parts import PUBLIC as ADDRESS
from token_parts import api_config, claims

from federation.partners.record import PUBLIC, Body, Kind, News, Record
from federation.partners.signing import EventKey
from twin_api.client import ApiError, PartnerClient
from twin_api.events import DOCUMENT, EventFeed, routes
from twin_api.issuer import TrialIssuer
from twin_api.read_model import ReadModel
from twin_api.tmf import APIS, presenter


@dataclass
class Listener:
    """What came over one stream, as a browser would understand it."""

    lines: AsyncIterator[str]
    last: str = ""
    comments: list[str] = field(default_factory=list)

    async def event(self) -> tuple[str, Any]:
        """The next event; ("", None) when the stream is over."""
        name, data = "", ""
        async with asyncio.timeout(20):
            async for line in self.lines:
                if line.startswith("id: "):
                    self.last = line[4:]
                elif line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
                elif line.startswith(":"):
                    self.comments.append(line)
                elif not line and data:
                    return name, json.loads(data)
        return "", None

    async def comment(self) -> str:
        """The next comment."""
        async with asyncio.timeout(20):
            async for line in self.lines:
                if line.startswith("id: "):
                    self.last = line[4:]
                if line.startswith(":"):
                    return line
        return ""


@dataclass
class Served:
    at: Running
    issuer: TrialIssuer
    feed: EventFeed
    model: ReadModel
    sequence: int = 0
    held: dict[tuple[str, Kind, str], Body] = field(default_factory=dict)

    def change(self, body: Body, *, tenant: str = "acme", kind: Kind = Kind.SERVICE_ORDER) -> None:
        """What the broker's stream sends for a change."""
        self.sequence += 1
        record = Record(tenant, kind, str(body["id"]), 1, self.sequence, body, time.time_ns())
        self.model.take(News((record,), "epoch", self.sequence, complete=True))

    def remove(self, identity: str, *, tenant: str = "acme") -> None:
        self.sequence += 1
        record = Record(tenant, Kind.SERVICE_ORDER, identity, 1, self.sequence, {}, time.time_ns())
        self.model.take(News((record,), "epoch", self.sequence, complete=True))

    def begin(self, *records: Record) -> None:
        self.model.take(News(records, "epoch", self.sequence, complete=True, begins_anew=True))

    def token(self, tenant: str = "acme", **more: Any) -> str:
        return self.issuer.sign(claims(time.time(), **{"tenant": tenant, "scope": "ndt.events", **more}))

    @asynccontextmanager
    async def listening(
        self, tenant: str = "acme", *, after: str = "", query: str = "", **more: Any
    ) -> AsyncIterator[Listener]:
        headers = {"last-event-id": after} if after else {}
        async with (
            client(self.at, self.token(tenant, **more)) as http,
            http.stream("GET", f"/events{query}", headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            listener = Listener(answer.aiter_lines())
            assert await listener.comment() == ": listening"
            yield listener


@asynccontextmanager
async def serving(folder: Path, **more: Any) -> AsyncIterator[Served]:
    config, issuer = api_config(folder)
    model, feed = ReadModel(presenter(ADDRESS, APIS)), EventFeed(ADDRESS, **more)
    model.on_news = feed.take
    async with running(config, routes=routes(feed, model)) as at:
        served = Served(at, issuer, feed, model)
        served.begin()
        try:
            yield served
        finally:
            feed.close()


async def test_changes_are_told_as_they_happen(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, api.listening() as listener:
        api.change({"id": "o 1", "state": "acknowledged"})
        api.change({"id": "o 1", "state": "completed"})
        api.change({"id": "o 1", "state": "completed", "note": "x"})
        api.remove("o 1")
        told = [await listener.event() for _ in range(4)]

    assert [name for name, _ in told] == [
        "ServiceOrderCreateEvent",
        "ServiceOrderStateChangeEvent",
        "ServiceOrderAttributeValueChangeEvent",
        "ServiceOrderDeleteEvent",
    ]
    name, document = told[1]
    assert document["eventType"] == name
    assert document["event"]["serviceOrder"] == {
        "id": "o 1",
        "href": f"{ADDRESS}/tmf-api/serviceOrdering/v4/serviceOrder/o%201",
        "@type": "ServiceOrder",
        "state": "completed",
    }
    assert len({document["eventId"] for _, document in told}) == 4


async def test_nobody_hears_of_another_tenant(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, api.listening() as acme, api.listening("globex") as globex:
        for number in range(5):
            api.change({"id": f"theirs {number}"}, tenant="globex")
        api.change({"id": "mine"})
        api.change({"id": "everybody's"}, tenant=PUBLIC, kind=Kind.SERVICE_SPECIFICATION)
        _, mine = await acme.event()
        _, public = await acme.event()
        theirs = [(await globex.event())[1] for _ in range(5)]

    assert mine["event"]["serviceOrder"]["id"] == "mine"
    assert mine["eventId"].endswith("-1")  # nor how much happened there
    assert public["event"]["serviceSpecification"]["id"] == "everybody's"
    assert {each["event"]["serviceOrder"]["id"] for each in theirs} == {f"theirs {n}" for n in range(5)}


async def test_a_listener_goes_on_where_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        async with api.listening() as listener:
            before = listener.last
            api.change({"id": "1"})
            await listener.event()
            after_one = listener.last
        for number in (2, 3):
            api.change({"id": str(number)})
        for after, expected in ((after_one, ["2", "3"]), (before, ["1", "2", "3"])):
            async with api.listening(after=after) as again:
                told = [await again.event() for _ in expected]
                assert [document["event"]["serviceOrder"]["id"] for _, document in told] == expected


@pytest.mark.parametrize("after", ["nonsense", "0123456789abcdef-1", "none of ours", "-1"])
async def test_a_gap_is_said_where_events_are_not_at_hand(tmp_path: Path, after: str) -> None:
    async with serving(tmp_path) as api:
        api.change({"id": "1"})
        async with api.listening(after=after) as listener:
            assert (await listener.event())[0] == "gap"
            api.change({"id": "2"})
            assert (await listener.event())[1]["event"]["serviceOrder"]["id"] == "2"


async def test_a_gap_is_said_where_too_much_happened_and_where_the_broker_began_anew(tmp_path: Path) -> None:
    async with serving(tmp_path, kept=3) as api:
        async with api.listening() as listener:
            before = listener.last
        for number in range(4):
            api.change({"id": str(number)})
        async with api.listening(after=before) as listener:
            assert (await listener.event())[0] == "gap"
            api.begin(Record("acme", Kind.SERVICE_ORDER, "0", 1, api.sequence, {"id": "0"}, 0))
            assert (await listener.event())[0] == "gap"  # the state is no event
            api.change({"id": "0", "state": "completed"})
            assert (await listener.event())[0] == "ServiceOrderStateChangeEvent"


async def test_what_is_sent_twice_is_told_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, api.listening() as listener:
        api.change({"id": "1"})
        api.sequence -= 1
        api.change({"id": "1"})
        api.change({"id": "2"})
        told = [(await listener.event())[1]["event"]["serviceOrder"]["id"] for _ in range(2)]

    assert told == ["1", "2"]


async def test_a_query_chooses_among_events(tmp_path: Path) -> None:
    query = "?eventType=ServiceOrderStateChangeEvent&serviceOrder.state=completed"
    async with serving(tmp_path) as api, api.listening(query=query) as listener:
        for state in ("acknowledged", "inProgress", "completed"):
            api.change({"id": "1", "state": state})
        _, document = await listener.event()
        assert document["event"]["serviceOrder"]["state"] == "completed"
        async with client(api.at, api.token()) as http:
            bad = await http.get("/events?limit=3")
        assert bad.status_code == 400
        assert bad.json()["code"] == "invalidQuery"


async def test_silence_is_filled_and_the_end_of_the_token_ends_it(tmp_path: Path) -> None:
    async with serving(tmp_path, heartbeat_s=0.05) as api:
        async with api.listening() as listener:
            assert await listener.comment() == ": still here"
        end = time.time() + 2
        async with api.listening(exp=int(end)) as listener:
            assert await listener.event() == ("", None)
            assert time.time() >= int(end)
            assert listener.comments[-1] == ": the end"


async def test_a_tenant_listens_so_many_times_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, listeners=2) as api:
        async with api.listening(), api.listening():
            async with client(api.at, api.token()) as http:
                refused = await http.get("/events")
            assert refused.status_code == 429
            assert refused.headers["retry-after"]
            async with api.listening("globex"):
                pass
        async with asyncio.timeout(20):
            while api.feed.listeners:  # noqa: ASYNC110 - the server notices by itself
                await asyncio.sleep(0.01)
        async with api.listening():
            pass


async def test_listening_needs_the_scope(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, client(api.at, api.token(scope="ndt.order")) as http:
        assert (await http.get("/events")).status_code == 403
        async with client(api.at) as nobody:
            assert (await nobody.get("/events")).status_code == 401


async def test_who_does_not_read_costs_a_bounded_memory_and_then_has_a_gap(tmp_path: Path) -> None:
    async with serving(tmp_path, kept=50) as api:
        frames = api.feed.follow("acme", until=time.time() + 60)
        await anext(frames)
        api.change({"id": "0"})
        first = await anext(frames)
        for number in range(1, 500):
            api.change({"id": str(number), "filling": "x" * 1000})
        rest = await anext(frames)
        assert len(api.feed._tenants["acme"].events) == 50
        await frames.aclose()

    assert b"ServiceOrderCreateEvent" in first
    assert b"event: gap" in rest


async def test_a_stop_ends_all_listening(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, api.listening() as listener:
        api.feed.close()
        assert await listener.event() == ("", None)


async def test_the_keys_of_signatures_are_there_for_everybody(tmp_path: Path) -> None:
    key = EventKey.load(tmp_path)
    async with serving(tmp_path) as api, client(api.at) as http:
        api.change({"id": key.kid, "jwk": key.public}, tenant=PUBLIC, kind=Kind.SIGNING_KEY)
        answer = await http.get("/.well-known/jwks.json")

    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert [each.kid for each in KeySet.import_key_set(answer.json()).keys] == [key.kid]
    assert all("d" not in each for each in answer.json()["keys"])


async def test_lines_in_a_body_make_no_frame_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, api.listening() as listener:
        api.change({"id": "1\n\nevent: forged", "note": "a\r\n\r\ndata: {}\u2028"})
        name, document = await listener.event()

    assert name == "ServiceOrderCreateEvent"
    assert document["event"]["serviceOrder"]["note"] == "a\r\n\r\ndata: {}\u2028"


async def test_the_client_hears_events_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, PartnerClient(api.at.address, api.token()) as partner:
        async with asyncio.timeout(20), aclosing(partner.events()) as events:
            first = asyncio.create_task(anext(events))
            while not api.feed.listeners:  # noqa: ASYNC110 - it is heard from then on
                await asyncio.sleep(0.01)
            api.change({"id": "1", "state": "acknowledged"})
            event = await first
        api.change({"id": "1", "state": "completed"})
        async with asyncio.timeout(20), aclosing(partner.events(after=event.place)) as events:
            missed = await anext(events)

    assert (event.type, event.resource.id, event.gap) == ("ServiceOrderCreateEvent", "1", False)
    assert (missed.type, missed.resource.text("state")) == ("ServiceOrderStateChangeEvent", "completed")
    assert event.id
    assert event.happened_at.endswith("Z")


async def test_the_client_filters_and_is_told_of_a_gap(tmp_path: Path) -> None:
    wanted = {"eventType": "ServiceOrderStateChangeEvent", "serviceOrder.state": "completed"}
    async with serving(tmp_path) as api, PartnerClient(api.at.address, api.token()) as partner:
        async with asyncio.timeout(20), aclosing(partner.events(after="long ago", **wanted)) as events:
            gap = await anext(events)
            for state in ("acknowledged", "inProgress", "completed"):
                api.change({"id": "1", "state": state})
            event = await anext(events)
        with pytest.raises(ApiError, match="limit"):
            await anext(partner.events(limit="3"))

    assert gap.gap
    assert "missed" in gap.description
    assert event.resource.text("state") == "completed"


async def test_the_client_comes_back_with_another_token_when_one_ends(tmp_path: Path) -> None:
    tokens: list[str] = []

    async with serving(tmp_path) as api:

        def token() -> str:
            tokens.append(api.token(exp=int(time.time()) + (2 if not tokens else 600)))
            return tokens[-1]

        async with (
            PartnerClient(api.at.address, token) as partner,
            asyncio.timeout(30),
            aclosing(partner.events()) as events,
        ):
            first = asyncio.create_task(anext(events))
            while not api.feed.listeners:  # noqa: ASYNC110 - it is heard from then on
                await asyncio.sleep(0.01)
            while api.feed.listeners:  # noqa: ASYNC110 - until the first token ends
                await asyncio.sleep(0.01)
            api.change({"id": "1"})  # while nobody listens
            event = await first

    assert event.resource.id == "1"
    assert len(tokens) == 2


async def test_what_is_sent_is_what_the_document_says(tmp_path: Path) -> None:
    key = EventKey.load(tmp_path)
    async with serving(tmp_path) as api, client(api.at) as http, api.listening(after="long ago") as listener:
        api.change({"id": key.kid, "jwk": key.public}, tenant=PUBLIC, kind=Kind.SIGNING_KEY)
        api.change({"id": "1", "state": "completed"})
        (_, gap), (_, event) = [await listener.event() for _ in range(2)]
        document = (await http.get(DOCUMENT)).json()
        answers = {path: await http.get(path) for path in document["paths"]}
        async with client(api.at, api.token()) as known:
            bad = await known.get("/events?limit=3")

    def fits(name: str, value: object) -> bool:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        return jsonschema.Draft4Validator(schema).is_valid(value)

    assert set(document["paths"]) == {"/events", "/.well-known/jwks.json"}
    assert document["servers"] == [{"url": ADDRESS}]
    assert [fits("Gap", gap), fits("Event", event), fits("Event", gap), fits("Gap", event)] == [1, 1, 0, 0]
    assert fits("Error", bad.json())
    for path, answer in answers.items():
        operation = document["paths"][path]["get"]
        assert (answer.status_code == 200) == (operation.get("security") == []), path
        told = operation["responses"][str(answer.status_code)]
        (kind,) = told["content"]
        assert answer.headers["content-type"].startswith(kind)
        assert fits(told["content"][kind]["schema"]["$ref"].rpartition("/")[2], answer.json())
