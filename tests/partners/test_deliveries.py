"""Events reach the subscriptions that ask for them: at least once, in order, signed; and nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from event_parts import ADDRESS, Pki, delivering, receiver, settings, until
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from federation.partners.record import PUBLIC, Kind


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


async def test_a_change_reaches_the_callback_as_an_event(tmp_path: Path, database_url: str, pki: Pki) -> None:
    async with delivering(tmp_path, database_url, settings(pki)) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        order = await at.order("first")
        await at.of().update(order, {**order.body, "state": "completed"})
        await until(lambda: len(hook.got) == 2)
        created, changed = hook.got
        await until(lambda: at.desk.deliveries.waiting == 0)

        assert created.path == "/cb/listener/serviceOrderCreateEvent"
        assert changed.path == "/cb/listener/serviceOrderStateChangeEvent"
        document = changed.document
        assert document["eventType"] == "ServiceOrderStateChangeEvent"
        assert document["eventTime"].endswith("Z")
        assert document["event"] == {
            "serviceOrder": {
                "id": order.id,
                "href": f"{ADDRESS}/serviceOrder/{order.id}",
                "@type": "ServiceOrder",
                "description": "first",
                "state": "completed",
            }
        }
        assert created.event_id != changed.event_id
        assert created.headers["content-type"] == "application/json;charset=utf-8"
        assert at.shown(hub)["state"] == "active"


async def test_a_signature_holds_for_just_these_octets(tmp_path: Path, database_url: str, pki: Pki) -> None:
    async with delivering(tmp_path, database_url, settings(pki)) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        await at.order("größer")
        await until(lambda: hook.got)
        [got] = hook.got
        published = [record.body["jwk"] for record in at.of(PUBLIC).list(Kind.SIGNING_KEY)]

    keys = KeySet.import_key_set({"keys": published})
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    signature = got.headers["fedtwin-signature"]
    protected = jws.deserialize_compact(signature, keys, registry=registry, payload=got.octets).headers()
    assert protected["eventId"] == got.event_id
    assert protected["hubId"] == hub.id
    assert isinstance(protected["iat"], int)
    assert "d" not in published[0]
    for place in range(0, len(got.octets), 7):
        flipped = bytearray(got.octets)
        flipped[place] ^= 1
        with pytest.raises(BadSignatureError):
            jws.deserialize_compact(signature, keys, registry=registry, payload=bytes(flipped))
