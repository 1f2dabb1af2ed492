"""The partner's client against what networks and servers may do: cut, refuse, grow, redirect."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_api import Answer, Asked, scripted

from domain_twin.errors import ConfigError, Conflict, CredentialError, NotFound, Unreachable
from twin_api.client import ApiError, NoAnswer, Order, PartnerClient, Run, Threshold, Twin
from twin_api.client.partner import PAGE
from twin_api.client.stream import Frame, frames

TOKEN = "header.claims.signature"
ORDER = {"id": "o1", "state": "acknowledged", "serviceOrderItem": [{"id": "1", "action": "add"}]}
CATALOGUE = [{"id": "s1", "name": "NdtTwin", "lifecycleStatus": "Active"}]


def client(url: str, patience_s: float = 3.0) -> PartnerClient:
    return PartnerClient(url, TOKEN, patience_s=patience_s)


def error(status: int, **body: str) -> Answer:
    return Answer(status, {"code": str(status), "reason": "no", "message": "", **body})


async def test_a_creation_that_was_cut_off_is_sent_again_under_the_same_key() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(200, CATALOGUE)
        return Answer(0) if len([a for a in script.asked if a.method == "POST"]) < 3 else Answer(201, ORDER)

    async with scripted(answer) as script, client(script.url) as partner:
        order = await partner.order_twin("mine")

    posted = [asked for asked in script.asked if asked.method == "POST"]
    assert order.id == "o1"
    assert len(posted) == 3
    assert len({asked.headers["idempotency-key"] for asked in posted}) == 1
    assert len({asked.body for asked in posted}) == 1


async def test_a_patch_that_was_cut_off_is_not_sent_again() -> None:
    async with scripted([Answer(0)]) as script, client(script.url) as partner:
        with pytest.raises(NoAnswer):
            await partner.suspend("t1")

    assert len(script.asked) == 1


async def test_a_patch_is_sent_again_where_it_was_not_taken_up() -> None:
    answers = [error(429), Answer(200, {"id": "t1", "state": "inactive"})]
    async with scripted(answers) as script, client(script.url) as partner:
        twin = await partner.suspend("t1")

    assert twin.state == "inactive"
    assert len(script.asked) == 2
    assert script.asked[1].headers["content-type"] == "application/merge-patch+json"


async def test_waiting_takes_what_the_api_asks_for_and_no_longer_than_it_may() -> None:
    busy = Answer(429, {"code": "429", "reason": "too many"}, {"Retry-After": "60"})
    async with scripted([busy]) as script, client(script.url) as partner:
        with pytest.raises(ApiError) as refused:
            await partner.twin("t1")

    assert len(script.asked) == 1
    assert (refused.value.status, refused.value.retry_after_s) == (429, 60.0)


async def test_a_removal_that_may_have_had_its_effect_is_done() -> None:
    async with scripted([Answer(0), error(404)]) as script, client(script.url) as partner:
        await partner.remove("/tmf-api/serviceTestManagement/v4/serviceTestSpecification", "d1")

    assert len(script.asked) == 2


async def test_a_removal_of_nothing_is_refused() -> None:
    async with scripted([error(404)]) as script, client(script.url) as partner:
        with pytest.raises(ApiError, match="no"):
            await partner.remove("/x", "d1")

    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(403, reason="NotShared", message="ran shares nothing"), "NotShared: ran shares nothing"),
        (Answer(502, b"<html>bad gateway</html>"), "HTTP 502: <html>bad gateway"),
        (Answer(500, [1]), "HTTP 500"),
        (Answer(400), "HTTP 400"),
    ],
)
async def test_an_error_says_what_the_api_said_whatever_its_body(answer: Answer, words: str) -> None:
    async with scripted([answer]) as script, client(script.url, patience_s=0.0) as partner:
        with pytest.raises(ApiError) as refused:
            await partner.order("o1")

    assert refused.value.status == answer.status
    assert words in str(refused.value)


async def test_an_answer_that_is_not_json_is_an_error() -> None:
    async with scripted([Answer(200, b"<p>hello")]) as script, client(script.url) as partner:
        with pytest.raises(ApiError, match="not JSON"):
            await partner.order("o1")


async def test_nobody_there_is_unreachable_and_says_where() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    async with client(url, patience_s=0.0) as partner:
        with pytest.raises(Unreachable, match=url):
            await partner.order("o1")


async def test_a_token_is_not_carried_to_where_an_answer_points() -> None:
    async with scripted([Answer(200, {"id": "o1"})]) as other:
        there = Answer(302, None, {"Location": f"{other.url}/stolen"})
        async with scripted([there]) as script, client(script.url) as partner:
            with pytest.raises(ApiError) as refused:
                await partner.order("o1")

    assert refused.value.status == 302
    assert other.asked == []


@pytest.mark.parametrize("url", ["http://twins.example", "http://10.0.0.1:80", "ftp://x", "twins.example"])
def test_a_token_goes_in_the_clear_to_this_machine_only(url: str) -> None:
    with pytest.raises(ConfigError, match=r"in the clear|no address"):
        PartnerClient(url, TOKEN)


@pytest.mark.parametrize("token", ["", "two words", "a\nX-Other: b"])
async def test_a_token_that_would_break_the_header_is_refused(token: str) -> None:
    async with scripted([Answer(200, {})]) as script, PartnerClient(script.url, token) as partner:
        with pytest.raises(CredentialError, match="token"):
            await partner.order("o1")

    assert script.asked == []


async def test_an_id_stays_within_its_segment_of_the_path() -> None:
    async with scripted([Answer(200, {"id": "x"})]) as script, client(script.url) as partner:
        await partner.order("../../serviceInventory/v4/service?limit=1#")

    assert script.asked[0].path.endswith(
        "/serviceOrder/..%2F..%2FserviceInventory%2Fv4%2Fservice%3Flimit%3D1%23"
    )


async def test_pages_are_followed_and_nothing_is_told_twice() -> None:
    """One order comes in front between two pages, which moves the last of the first page to the second."""
    everything = [{"id": f"o{number}"} for number in range(PAGE + 20)]

    def answer(asked: Asked) -> Answer:
        query = parse_qs(urlsplit(asked.path).query)
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        held = everything if not offset else [{"id": "new"}, *everything]
        return Answer(200, held[offset : offset + limit], {"X-Total-Count": str(len(held))})

    async with scripted(answer) as script, client(script.url) as partner:
        told = [order.id async for order in partner.orders(state="completed")]

    assert told == [each["id"] for each in everything]
    assert all("state=completed" in asked.path for asked in script.asked)


async def test_an_empty_page_ends_a_collection_that_says_it_is_longer() -> None:
    def answer(asked: Asked) -> Answer:
        first = parse_qs(urlsplit(asked.path).query)["offset"] == ["0"]
        return Answer(200, [{"id": "o1"}] if first else [], {"X-Total-Count": "1000000"})

    async with scripted(answer) as script, client(script.url) as partner:
        assert [order.id async for order in partner.orders()] == ["o1"]

    assert len(script.asked) == 2


async def test_waiting_hears_each_change_once_and_survives_an_api_that_is_gone() -> None:
    states = iter(["acknowledged", "acknowledged", "", "inProgress", "completed"])

    def answer(_: Asked) -> Answer:
        state = next(states)
        return Answer(200, {**ORDER, "state": state}) if state else Answer(0)

    told: list[str] = []
    async with scripted(answer) as script, client(script.url, patience_s=0.0) as partner:
        order = await partner.settled(Order(ORDER), told=lambda now: told.append(now.state))

    assert order.state == "completed"
    assert told == ["acknowledged", "inProgress", "completed"]


async def test_waiting_ends_with_its_time_and_says_how_it_stands() -> None:
    async with scripted([Answer(200, ORDER)]) as script, client(script.url) as partner:
        with pytest.raises(TimeoutError, match="still acknowledged"):
            await partner.settled(Order(ORDER), timeout_s=0.2)


async def test_a_twin_that_ends_instead_is_not_waited_for() -> None:
    ended = Answer(200, {"id": "t1", "state": "terminated"})
    async with scripted([ended]) as script, client(script.url) as partner:
        with pytest.raises(Conflict, match="terminated"):
            await partner.reached("t1", "active", timeout_s=5)


async def test_what_is_ordered_says_only_what_was_asked_for() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(200, CATALOGUE) if asked.method == "GET" else Answer(201, ORDER)

    async with scripted(answer) as script, client(script.url) as partner:
        await partner.order_twin("mine", end_points=["ran/cell-1"], freshness_s=2.5, external_id="7")

    sent = json.loads(script.asked[-1].body)
    (item,) = sent["serviceOrderItem"]
    assert sent["externalId"] == "7"
    assert item["action"] == "add"
    assert item["service"]["serviceSpecification"]["id"] == "s1"
    assert {each["name"]: each["value"] for each in item["service"]["serviceCharacteristic"]} == {
        "endPoints": ["ran/cell-1"],
        "freshness": 2.5,
    }


async def test_a_specification_that_nobody_offers_is_named() -> None:
    retired = [{**CATALOGUE[0], "lifecycleStatus": "Retired"}]
    async with scripted([Answer(200, retired)]) as script, client(script.url) as partner:
        with pytest.raises(NotFound, match="NdtTwin"):
            await partner.order_twin("mine")


async def test_the_token_of_a_profile_is_read_anew_for_every_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    token.chmod(0o600)
    async with scripted([Answer(200, {"id": "o1"})]) as script:
        profile = tmp_path / "partner.toml"
        profile.write_text(f'url = "{script.url}"\ntoken = "file:token"\n')
        async with PartnerClient.connect(profile) as partner:
            await partner.order("o1")
            token.write_text("second\n")
            await partner.order("o1")

    assert [asked.headers["authorization"] for asked in script.asked] == ["Bearer first", "Bearer second"]


async def test_a_profile_whose_token_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "token").chmod(0o644)
    profile = tmp_path / "partner.toml"
    profile.write_text('url = "http://127.0.0.1:1"\ntoken = "file:token"\n')
    async with PartnerClient.connect(profile) as partner:
        with pytest.raises(ConfigError, match="chmod 600"):
            await partner.order("o1")


def test_a_profile_that_is_missing_says_where_one_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDTWIN_API", "nowhere.toml")

    with pytest.raises(NotFound, match=r"nowhere\.toml.*--api or FEDTWIN_API"):
        PartnerClient.connect()


async def test_a_client_is_cancelled_while_it_waits() -> None:
    async with scripted([Answer(200, ORDER)]) as script, client(script.url) as partner:
        waiting = asyncio.create_task(partner.settled(Order(ORDER)))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_documents_are_read_whatever_is_missing_or_odd() -> None:
    odd = {"serviceOrderItem": [None, {"service": 3}], "errorMessage": "x", "milestone": {}, "state": 4}

    assert Order(odd).twins == Order(odd).problems == Order(odd).milestones == ()
    assert Order(odd).state == ""
    assert Twin.of([]).parts == ()
    assert Run.of({"testMeasure": [{"value": 3, "ruleViolation": [7]}]}).measures[0].value is None


def test_a_run_passes_only_where_a_verdict_says_so() -> None:
    measure = {"metricName": "delay", "value": {"name": "a > b", "value": 12.5}, "unitOfMeasure": "ms"}
    broken = {**measure, "ruleViolation": [{"name": "delay threshold", "description": "too slow"}]}

    def run(state: str, verdict: str = "", **body: object) -> Run:
        told = [{"name": "verdict", "value": verdict}] if verdict else []
        return Run({"state": state, "characteristic": told, **body})

    assert run("completed", testMeasure=[measure]).passed
    assert run("completed", testMeasure=[broken]).verdict == "fail"
    assert run("completed", testMeasure=[broken]).violations[0].text == "too slow"
    assert not run("completed", "inconclusive", testMeasure=[measure]).passed
    assert run("inProgress", testMeasure=[measure]).verdict == ""
    assert run("completed", testMeasure=[measure]).measures[0].value == 12.5


def test_thresholds_are_kept_to_the_last_digit() -> None:
    from twin_api.client.documents import Definition
    from twin_api.client.partner import _measured

    wanted = (Threshold("delay", upper=0.1 + 0.2, unit="ms"), Threshold("throughput", lower=1e-9))
    read = Definition({"testMeasureDefinition": [_measured(each) for each in wanted]}).thresholds

    assert read == wanted


def streamed(data: bytes, status: int = 200) -> Answer:
    return Answer(status, data, {"Content-Type": "text/event-stream; charset=utf-8"})


async def test_a_stream_that_is_cut_is_followed_behind_the_last_event() -> None:
    cut = streamed(b'retry: 10\nid: e-1\ndata: {"eventId":"1"}\n\nid: e-2\n: here\n\nid: e-9\ndata: {"event')
    rest = streamed(b'id: e-3\ndata: {"eventId":\ndata: "3"}\n\n')
    answers = [cut, Answer(0), error(503), rest]
    async with (
        scripted(answers) as script,
        client(script.url) as partner,
        asyncio.timeout(20),
        aclosing(partner.events(eventType="x")) as events,
    ):
        told = [await anext(events) for _ in range(2)]

    assert [(event.id, event.place) for event in told] == [("1", "e-1"), ("3", "e-3")]
    assert [asked.headers.get("last-event-id") for asked in script.asked] == [None, "e-2", "e-2", "e-2"]
    assert all(asked.path == "/events?eventType=x" for asked in script.asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, [], {"Content-Type": "application/json"}), "this is application/json"),
        (error(403, message="no ndt.events"), "no ndt.events"),
        (error(401, message="expired"), "expired"),
        (streamed(b"data: nothing\n\n"), "no JSON object"),
        (streamed(b"data: 1\n\n"), "no JSON object"),
        (error(503, message="not yet"), "not yet"),
        (Answer(0), "does not answer"),
    ],
)
async def test_what_is_no_stream_ends_the_listening(answer: Answer, words: str) -> None:
    async with scripted([answer]) as script, client(script.url, patience_s=0.0) as partner:
        with pytest.raises(ApiError, match=words):
            await anext(partner.events())

    assert len(script.asked) == 1


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@given(st.lists(st.integers(0, 200), max_size=8), st.sampled_from(["\n", "\r", "\r\n"]))
async def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int], end: str) -> None:
    lines = [
        "\ufeffid: 1",
        "data: a\u2028b\x85",
        "data:c:d",
        "event: e",
        "",
        ": hm",
        "",
        "id: 2",
        "retry: 5",
        "x",
        "",
    ]
    octets = "".join(f"{line}{end}" for line in [*lines, "data: half"]).encode()
    places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]

    parts = [octets[start:end] for start, end in itertools.pairwise(places)]
    found = [frame async for frame in frames(pieces(*parts))]

    assert found == [
        Frame("e", "a\u2028b\x85\nc:d", "1"),
        Frame(),
        Frame(id="2", retry_s=0.005),
    ]


@pytest.mark.parametrize("octet", [b"x", b"data:\n"])
async def test_an_event_without_end_is_refused(octet: bytes) -> None:
    large = octet * ((1 << 20) // len(octet))
    with pytest.raises(ApiError, match="larger than"):
        _ = [frame async for frame in frames(pieces(*[large] * 9))]
