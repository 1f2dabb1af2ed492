"""Whose a controller's data is: by gNMI target, by node of its topology, and what it must not speak for."""

from __future__ import annotations

from domain_twin.model import Delete, Sync, Update, UpdateBatch
from domain_twin.southbound import controller as module
from domain_twin.southbound.controller import Attribution

NETWORK = "/ietf-network:networks/network[network-id='urn:n']"
LINK = f"{NETWORK}/ietf-network-topology:link"


def node(name):
    return f"{NETWORK}/node[node-id='urn:ndt:transport:{name}']"


def batch(*leaves, device="boss", deletes=(), sync=Sync.NONE):
    return UpdateBatch(
        "boss",
        1,
        tuple(Update(device, path, value, 1) for path, value in leaves),
        tuple(Delete(device, path, 1) for path in deletes),
        sync,
    )


def owners(attributed):
    return {update.path: update.device for update in attributed.updates}


def test_leaves_belong_to_the_target_that_the_session_names():
    given = batch(("/m:x", 1), device="warsaw")

    assert Attribution("boss", ()).attribute(given) == given


def test_node_is_the_device_of_its_id():
    point = f"{node('warsaw')}/ietf-network-topology:termination-point[tp-id='urn:a:eth0']/tp-id"
    found = owners(
        Attribution("boss", ["berlin"]).attribute(
            batch((f"{node('berlin')}/node-id", "x"), (f"{NETWORK}/network-id", "urn:n"))
        )
    )
    any_device = owners(Attribution("boss", ()).attribute(batch((point, "x"))))

    assert found == {f"{node('berlin')}/node-id": "berlin", f"{NETWORK}/network-id": "boss"}
    assert any_device == {point: "warsaw"}


def test_link_belongs_to_its_source_whatever_the_order():
    link = f"{LINK}[link-id='urn:l']"
    leaves = [
        (f"{link}/link-id", "urn:l"),
        (f"{link}/destination/dest-node", "urn:ndt:transport:berlin"),
        (f"{link}/source/source-node", "urn:ndt:transport:warsaw"),
    ]
    attribution = Attribution("boss", ())

    at_once = owners(Attribution("boss", ()).attribute(batch(*leaves)))
    first = owners(attribution.attribute(batch(*leaves[:2])))
    later = owners(attribution.attribute(batch(leaves[2])))

    assert at_once == dict.fromkeys([path for path, _ in leaves], "warsaw")
    assert first == {}
    assert later == at_once


def test_link_without_a_source_stays_with_the_controller():
    attribution = Attribution("boss", ())
    attribution.attribute(batch(sync=Sync.BEGIN))
    attribution.attribute(batch((f"{LINK}[link-id='urn:l']/link-id", "urn:l")))

    found = attribution.attribute(batch(sync=Sync.END))

    assert owners(found) == {f"{LINK}[link-id='urn:l']/link-id": "boss"}


def test_links_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    attribution = Attribution("boss", ())
    found = attribution.attribute(batch(*((f"{LINK}[link-id='urn:{n}']/link-id", n) for n in range(50))))

    assert len(found.updates) == 40


def test_device_that_is_not_allowed_is_refused_and_counted(monkeypatch):
    monkeypatch.setattr(module, "MOST_REFUSED", 3)
    attribution = Attribution("boss", ["warsaw"], taken=["own"])

    assert attribution.attribute(batch(("/m:x", 1), ("/m:y", 1), device="berlin")).updates == ()
    assert attribution.attribute(batch((f"{node('paris')}/node-id", 1))).updates == ()
    assert attribution.attribute(batch(deletes=["/m:x"], device="berlin")).deletes == ()
    assert attribution.refused == {"berlin": 3, "paris": 1}
    for number in range(10):
        attribution.attribute(batch(("/m:x", 1), device=f"invented-{number}"))
    assert len(attribution.refused) == 3
    assert list(attribution.devices) == ["boss", "warsaw"]


def test_device_with_a_session_of_its_own_is_refused_without_a_list_too():
    attribution = Attribution("boss", (), taken=["own"])

    assert attribution.attribute(batch(("/m:x", 1), device="own")).updates == ()
    assert attribution.refused == {"own": 1}


def test_delete_above_the_nodes_is_every_device_s():
    attribution = Attribution("boss", ())
    attribution.attribute(batch((f"{node('warsaw')}/node-id", 1), (f"{node('berlin')}/node-id", 1)))

    for top in ("/", "/ietf-network:networks", NETWORK):
        found = attribution.attribute(batch(deletes=[top]))
        assert {delete.device for delete in found.deletes} == {"boss", "warsaw", "berlin"}
    found = attribution.attribute(batch(deletes=[node("warsaw")]))
    assert [delete.device for delete in found.deletes] == ["warsaw"]
    found = attribution.attribute(batch(deletes=["/m:own"]))
    assert [delete.device for delete in found.deletes] == ["boss"]


def test_devices_heard_of_are_those_since_the_last_begin():
    attribution = Attribution("boss", ())
    attribution.attribute(batch(("/m:x", 1), device="warsaw"))
    attribution.attribute(batch(sync=Sync.BEGIN))
    attribution.attribute(batch(("/m:x", 1), device="berlin"))

    assert attribution.heard == {"berlin"}
    assert list(attribution.devices) == ["boss", "warsaw", "berlin"]
