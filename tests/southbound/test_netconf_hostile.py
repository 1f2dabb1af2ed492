"""What a device may send and must not: each is refused, set aside or bounded, by both clients."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hostile_netconf import BASE, CAPABILITIES, PUSH, SUBSCRIBED, Hostile, hello, listening, polite

from domain_twin.config import NetconfConfig
from domain_twin.errors import OperationRejected, SessionLost, Unreachable
from domain_twin.model import Sync
from domain_twin.southbound import netconf, netconf_asyncssh, netconf_ncclient, netconf_transport
from domain_twin.southbound.netconf import NetconfSession
from domain_twin.southbound.netconf_operations import get_nothing
from domain_twin.southbound.netconf_xml import LONGEST_TEXT
from domain_twin.yang.quarantine import Typer

IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
RAN = "urn:fedtwin:yang:fedtwin-ran"
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"


@pytest.fixture(params=["asyncssh", "ncclient"])
def client(request):
    return request.param


@pytest.fixture
def connect(tmp_path, client):
    """A config for a hostile server."""

    def configured(hostile, **changes):
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{hostile.port} {hostile.host_key}\n")
        (tmp_path / "password").write_text("s3cret")
        (tmp_path / "password").chmod(0o600)
        return NetconfConfig(
            address=f"127.0.0.1:{hostile.port}",
            known_hosts=tmp_path / "known_hosts",
            username="twin",
            password=f"file:{tmp_path}/password",
            client=client,
            heartbeat_s=changes.pop("heartbeat_s", 30.0),
            **changes,
        )

    return configured


@pytest.fixture
def opened(connect):
    """A bare transport to a hostile server."""

    @asynccontextmanager
    async def opening(hostile):
        async with listening(hostile):
            transport = await netconf._open("warsaw", connect(hostile))
            try:
                yield transport
            finally:
                await transport.close()
        assert hostile.failures == []

    return opening


def always(function):
    """An answer that is one call."""

    async def answer(session, message_id, rpc):
        function(session, message_id)

    return answer


LAUGHS = "".join(
    f'<!ENTITY a{n} "{"".join(f"&a{n - 1};" for _ in range(10)) if n else "ha"}">' for n in range(10)
)


@pytest.mark.parametrize(
    "prolog",
    [
        f"<!DOCTYPE x [{LAUGHS}]>",
        '<!DOCTYPE x [<!ENTITY a9 SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
        f"<!--{'late ' * 2000}--><!DOCTYPE x [<!ENTITY a9 'text'>]>",
    ],
    ids=["bomb", "external", "dtd", "late"],
)
async def test_a_document_type_ends_the_session(opened, prolog):
    reference = "&a9;" if "ENTITY" in prolog else ""
    bad = Hostile(
        answer=always(
            lambda session, message_id: session.send(
                f'{prolog}<rpc-reply xmlns="{BASE}" message-id="{message_id}">{reference}</rpc-reply>'
            )
        )
    )
    async with opened(bad) as transport:
        with pytest.raises(SessionLost, match=r"warsaw.*document type"):
            await transport.rpc(get_nothing(), 10.0)


@pytest.mark.parametrize("text", ["<a", "<<<", "<a></b>", "\x00\x01", f"{'<a>' * 300}{'</a>' * 300}"])
async def test_what_is_no_xml_ends_the_session(opened, text):
    bad = Hostile(answer=always(lambda session, message_id: session.send(text)))
    async with opened(bad) as transport:
        with pytest.raises(SessionLost, match=r"warsaw"):
            await transport.rpc(get_nothing(), 10.0)


def endless(session):
    for _ in range(200):
        session.raw(b"\n#1000\n" + b" " * 1000)


@pytest.mark.parametrize(
    ("capabilities", "octets"),
    [
        (CAPABILITIES, lambda session: session.raw(b"\n#4294967295\n" + b" " * 200_000)),
        (CAPABILITIES, lambda session: session.raw(b"\n#4294967295\n")),
        (CAPABILITIES, endless),
        (CAPABILITIES[:1], lambda session: session.raw(b" " * 200_000)),
    ],
    ids=["one-chunk", "announced", "chunks", "no-end"],
)
async def test_a_message_without_end_ends_the_session(
    opened, monkeypatch, request, client, capabilities, octets
):
    if client == "ncclient" and "announced" in request.node.callspec.id:
        pytest.skip("ncclient reads frames itself, and waits for what is announced")
    for module in (netconf_asyncssh, netconf_ncclient):
        monkeypatch.setattr(module, "LARGEST_MESSAGE", 100_000)
    bad = Hostile(hello=hello(capabilities), answer=always(lambda session, message_id: octets(session)))
    async with opened(bad) as transport:
        with pytest.raises(SessionLost, match=r"more than 100000 octets"):
            await transport.rpc(get_nothing(), 10.0)


@pytest.mark.parametrize(
    "octets",
    [b"rubbish" * 10, b"\n#0\n", b"\n#01\nx\n##\n", b"\n#-1\n", b"\n##\n", b"\n#99999999999\n", b"\n\n#1\n"],
)
async def test_malformed_frames_end_the_session_at_once(opened, octets, client):
    if client == "ncclient":
        pytest.skip("ncclient reads frames itself: it ends, or waits until the rpc's time is over")
    bad = Hostile(answer=always(lambda session, message_id: session.raw(octets)))
    async with opened(bad) as transport:
        with pytest.raises(SessionLost, match=r"RFC 6242|octets"):
            await transport.rpc(get_nothing(), 20.0)


async def test_no_answer_is_unreachable_and_the_session_goes_on(opened):
    asked = []

    async def answer(session, message_id, rpc):
        asked.append(message_id)
        if len(asked) > 1:
            session.reply(message_id)

    async with opened(Hostile(answer=answer)) as transport:
        with pytest.raises(Unreachable, match=r"warsaw: no reply to get within 0\.3 s"):
            async with asyncio.timeout(8):  # else the test would wait for ever, too
                await transport.rpc(get_nothing(), 0.3)
        assert (await transport.rpc(get_nothing(), 10.0)).get("message-id") == "2"


async def test_a_late_answer_is_dropped_and_is_never_anothers(opened, caplog):
    async def answer(session, message_id, rpc):
        if int(message_id) > 1:
            session.reply("1", "<late/>")
            session.reply(message_id)

    async with opened(Hostile(answer=answer)) as transport:
        with caplog.at_level(logging.WARNING), pytest.raises(Unreachable):
            await transport.rpc(get_nothing(), 0.3)
        second = await transport.rpc(get_nothing(), 10.0)
        await transport.rpc(get_nothing(), 10.0)

    assert second.find(f"{{{BASE}}}late") is None
    assert transport.strays["late"] == 1
    assert len([r for r in caplog.records if getattr(r, "kind", "") == "late"]) == 1


async def test_a_second_answer_is_dropped_counted_and_said_once(opened, caplog):
    def twice(session, message_id):
        session.reply(message_id)
        session.reply(message_id, "<again/>")

    async with opened(Hostile(answer=always(twice))) as transport:
        for _ in range(3):
            await transport.rpc(get_nothing(), 10.0)
        await transport.rpc(get_nothing(), 10.0)

    assert transport.strays["twice"] >= 3
    assert len([r for r in caplog.records if getattr(r, "kind", "") == "twice"]) == 1


@pytest.mark.parametrize("strange", ["999", "", "x", "-1", "１"])
async def test_another_sessions_answer_is_dropped_counted_and_said_once(opened, caplog, strange):
    def other(session, message_id):
        session.reply(strange, "<other/>")
        session.reply(strange, "<other/>")
        session.reply(message_id)

    async with opened(Hostile(answer=always(other))) as transport:
        reply = await transport.rpc(get_nothing(), 10.0)

    assert reply.find(f"{{{BASE}}}other") is None
    assert transport.strays == {"unknown": 2}
    assert len([r for r in caplog.records if getattr(r, "kind", "") == "unknown"]) == 1


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (hello(CAPABILITIES[2:]), OperationRejected, "neither base:1.0 nor base:1.1"),
        (hello(("urn:ietf:params:netconf:base:2.0",)), OperationRejected, "neither base:1.0 nor base:1.1"),
        (hello(session_id=""), OperationRejected, "no session-id"),
        (hello(session_id="<session-id>0</session-id>"), OperationRejected, "no session-id"),
        (hello(session_id="<session-id>four</session-id>"), OperationRejected, "no session-id"),
        (f"<!DOCTYPE x [{LAUGHS}]>" + hello(), Unreachable, "document type"),
        (b"SSH is all I speak\r\n", Unreachable, "did not complete|cannot be reached"),
    ],
    ids=["no-base", "other-base", "no-id", "zero-id", "word-id", "dtd", "no-hello"],
)
async def test_a_wrong_hello_is_refused(connect, monkeypatch, said, error, words):
    for module in (netconf_asyncssh, netconf_ncclient):
        monkeypatch.setattr(module, "CONNECT_S", 2.0)
    async with listening(Hostile(hello=said)) as bad:
        with pytest.raises(error, match=rf"warsaw.*({words})"):
            await netconf._open("warsaw", connect(bad))


async def test_a_server_of_base_1_0_is_understood(opened):
    async with opened(Hostile(hello=hello(CAPABILITIES[:1]))) as transport:
        for _ in range(3):
            await transport.rpc(get_nothing(), 10.0)


async def test_notifications_that_nobody_reads_hold_the_device_back(opened, monkeypatch, client):
    """asyncssh has the device wait, and an rpc is answered all the same; ncclient ends at the cap."""
    monkeypatch.setattr(netconf_transport, "HELD_BACK", 50_000)
    monkeypatch.setattr(netconf_transport, "WAITING", 8_000_000)

    def flood(session, message_id):
        for _ in range(60):
            session.notify(f'<x xmlns="urn:x">{"y" * 100_000}</x>')
        session.reply(message_id)

    async with opened(Hostile(answer=always(flood))) as transport:
        await transport.rpc(get_nothing(), 20.0)
        async with asyncio.timeout(20):
            for _ in range(60):
                await transport.notification()
        if client == "asyncssh":
            transport._waiting = 60_000
            transport._balance()
            assert transport._held
            await transport.rpc(get_nothing(), 20.0)
        transport._waiting += 8_000_000
        with pytest.raises(SessionLost, match="wait to be read"):
            await transport.rpc(get_nothing(), 20.0)


# ---- YANG-push ---------------------------------------------------------------------------------------------

ENTRY = (
    f'<interfaces xmlns="{IF}"><interface><name>eth0</name><enabled>true</enabled></interface></interfaces>'
)


def update(contents=ENTRY, subscription="7"):
    return (
        f'<push-update xmlns="{PUSH}"><id>{subscription}</id><datastore-contents>{contents}'
        "</datastore-contents></push-update>"
    )


def change(target, value="", *, operation="replace", subscription="7", more=""):
    held = f"<value>{value}</value>" if value else ""
    return (
        f'<push-change-update xmlns="{PUSH}"><id>{subscription}</id>{more}<datastore-changes><yang-patch>'
        f"<edit><edit-id>1</edit-id><operation>{operation}</operation><target>{target}</target>{held}</edit>"
        "</yang-patch></datastore-changes></push-change-update>"
    )


def leaf(name, text, namespace=IF):
    return f'<{name} xmlns="{namespace}">{text}</{name}>'


LAST = change(f"{ETH0}/description", leaf("description", "last"))


@pytest.fixture
def pushed(connect, schema):
    """Batches up to the description 'last', that session's strays, and what was quarantined."""

    async def run(*events, event_time=None, states=1):
        now = datetime.now(UTC).isoformat()

        async def answer(session, message_id, rpc):
            await polite(session, message_id, rpc)
            if "establish-subscription" in rpc:
                session.notify(update(), now)
                for event in events:
                    session.notify(event, event_time or now)
                session.notify(LAST, now)
            if "resync-subscription" in rpc:
                session.notify(update(), now)

        batches = []
        async with (
            listening(Hostile(answer=answer)) as bad,
            NetconfSession("warsaw", connect(bad), schema) as session,
            aclosing(session.subscribe(["/ietf-interfaces:interfaces", "/fedtwin-ran:gnb"])) as stream,
        ):
            async with asyncio.timeout(20):
                async for batch in stream:
                    batches.append(batch)
                    said = any(u.value == "last" for held in batches for u in held.updates)
                    if said and sum(held.sync is Sync.END for held in batches) >= states:
                        break
            strays = dict(session.strays)
        assert bad.failures == []
        typer, bad_leaves = Typer(schema), []
        for batch in batches:
            bad_leaves += typer.type_batch(batch)[1]
        return batches, strays, {item.path: item.reason for item in bad_leaves}

    return run


async def test_push_of_an_unknown_subscription_is_dropped_and_counted(pushed):
    batches, strays, quarantined = await pushed(
        update(ENTRY.replace("true", "false"), subscription="8"),
        change(f"{ETH0}/enabled", leaf("enabled", "false"), subscription="8"),
        f'<subscription-terminated xmlns="{SUBSCRIBED}"><id>8</id><reason>x</reason>'
        "</subscription-terminated>",
    )

    assert strays == {"subscription": 3}
    assert quarantined == {}
    assert not any(u.value is False for batch in batches for u in batch.updates)
    assert [batch.sync for batch in batches].count(Sync.END) == 1


@pytest.mark.parametrize(
    ("event", "path", "reason"),
    [
        (change("/nobody:knows/this", leaf("this", "1", "urn:n")), "/nobody:knows/this", "."),
        (change(f"{ETH0}/colour", leaf("colour", "red")), f"{ETH0}/colour", "no such node|colour"),
        (change("/", ""), "/", "."),
        (change("not a path at all", ""), "not a path at all", "."),
        (change(f"{ETH0}/enabled", leaf("enabled", "perhaps")), f"{ETH0}/enabled", "boolean"),
        (change(f"{ETH0}/enabled", leaf("enabled", "<x>true</x>")), f"{ETH0}/enabled", "boolean"),
        (
            change(f"{ETH0}/description", leaf("description", "<x>t</x>")),
            f"{ETH0}/description",
            "HoldsElements",
        ),
        (
            change(
                f"{ETH0}/description", leaf("description", "one") + leaf("description", "two")
            ),
            f"{ETH0}/description",
            "OccursTwice",
        ),
        (
            change(f"{ETH0}/description", leaf("description", "y" * (LONGEST_TEXT + 1))),
            f"{ETH0}/description",
            "TooLong",
        ),
        (update(ENTRY.replace("</interface>", "</interface><interface><name>eth0</name></interface>", 1)),
         f"{ETH0}/name", "OccursTwice"),
        (update(ENTRY.replace("<name>eth0</name>", "<name>eth0</name><name>eth1</name>")),
         f"{ETH0}/name", "OccursTwice"),
        (
            update(f'<interfaces xmlns="{IF}">{"<deep>" * 200}{"</deep>" * 200}</interfaces>'),
            "/ietf-interfaces:interfaces/ietf-interfaces:deep",
            ".",
        ),
        (
            update(ENTRY.replace("<name>eth0</name>", "")),
            "/ietf-interfaces:interfaces/interface[1]/enabled",
            ".",
        ),
    ],
    ids=[
        "unknown-module", "unknown-leaf", "root", "no-path", "wrong-type", "elements-in-boolean",
        "elements-in-string", "leaf-twice", "endless-text", "entry-twice", "key-twice", "deep", "no-key",
    ],
)  # fmt: skip
async def test_one_bad_value_is_quarantined_and_the_rest_goes_on(pushed, event, path, reason):
    batches, _, quarantined = await pushed(event)

    assert re.search(reason, quarantined[path])
    assert all(len(str(u.value)) < 10_000 for batch in batches for u in batch.updates)


@pytest.mark.parametrize(
    "event_time",
    ["1970-01-01T00:00:00Z", "1970-01-02T00:00:00+02:00", "9999-12-31T23:59:59Z", "yesterday", "",
     "two hours ahead"],
)  # fmt: skip
async def test_a_clock_that_cannot_be_right_is_not_believed(pushed, event_time):
    if event_time == "two hours ahead":  # the name of a test must not hold the time
        event_time = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    batches, strays, _ = await pushed(
        change(f"{ETH0}/enabled", leaf("enabled", "false")), event_time=event_time or "-"
    )

    (when,) = (u.observed_at for batch in batches for u in batch.updates if u.value is False)
    assert abs(when / 1e9 - datetime.now(UTC).timestamp()) < 60
    assert strays == {"clock": 1}


async def test_an_update_that_says_it_is_incomplete_is_followed_by_all(pushed):
    batches, _, _ = await pushed(
        change(f"{ETH0}/enabled", leaf("enabled", "true"), more="<incomplete-update/>"), states=2
    )

    assert batches[-1].sync is Sync.END
