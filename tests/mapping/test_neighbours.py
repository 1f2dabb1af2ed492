"""Topology of devices without RFC 8345: ports, LLDP neighbours that agree, contradict, or nobody knows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from small_network import Leaf, delta, interface, link, node_id, point

from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Network, Severity

NODE = "urn:ndt:transport"


def port(device: str, name: str, *, up: bool = True, speed: str = "SPEED_10GB", mac: str = "") -> list[Leaf]:
    at = f"/openconfig-interfaces:interfaces/interface[name='{name}']"
    ethernet = f"{at}/openconfig-if-ethernet:ethernet/state"
    said: list[Leaf] = [
        (device, f"{at}/state/name", name),
        (device, f"{at}/state/enabled", True),
        (device, f"{at}/state/oper-status", "UP" if up else "DOWN"),
        (device, f"{ethernet}/port-speed", f"openconfig-if-ethernet:{speed}"),
    ]
    return [*said, (device, f"{ethernet}/mac-address", mac)] if mac else said


def system(device: str, name: str = "", chassis: str = "") -> list[Leaf]:
    at = "/openconfig-lldp:lldp/state"
    said: list[Leaf] = [(device, f"{at}/system-name", name)] if name else []
    return [*said, (device, f"{at}/chassis-id", chassis)] if chassis else said


def hears(device: str, here: str, who: str, there: str, *, entry: str = "1", chassis: str = "") -> list[Leaf]:
    at = f"/openconfig-lldp:lldp/interfaces/interface[name='{here}']/neighbors/neighbor[id='{entry}']/state"
    said: list[Leaf] = [(device, f"{at}/port-id", there)]
    said += [(device, f"{at}/system-name", who)] if who else []
    return [*said, (device, f"{at}/chassis-id", chassis)] if chassis else said


def mapped(*leaves: list[Leaf]) -> Network:
    mapper = Mapper("transport")
    mapper.apply(delta([leaf for part in leaves for leaf in part]))
    return mapper.network()


def codes(network: Network) -> list[str]:
    return [f.code for f in network.findings]


TWO = [*port("a", "p1"), *port("a", "p2"), *port("b", "p1"), *port("b", "p2")]


@pytest.mark.parametrize("sides", ["a", "b", "ab"])
def test_neighbours_become_a_link_each_way_whoever_reports_them(sides: str) -> None:
    said = {"a": hears("a", "p1", "b", "p2"), "b": hears("b", "p2", "a", "p1")}
    network = mapped(TWO, *(said[side] for side in sides))

    assert set(network.links) == {f"{NODE}:a:p1:out", f"{NODE}:b:p2:out"}
    found = network.links[f"{NODE}:a:p1:out"]
    assert (found.device, found.source_node, found.dest_node) == ("a", f"{NODE}:a", f"{NODE}:b")
    assert (found.source_tp, found.dest_tp) == (f"{NODE}:a:p1", f"{NODE}:b:p2")
    assert (found.up, found.capacity_mbps) == (True, 10_000.0)
    assert codes(network) == []


@pytest.mark.parametrize(
    ("who", "there", "chassis"),
    [
        ("router-b.example.net", "p2", ""),
        ("ROUTER-B.example.net", "p2", ""),
        ("", "p2", "AA-BB-CC-00-00-01"),
        ("b", "p2", "aa:bb:cc:00:00:01"),
        ("b.other.example", "p2", ""),
        ("b", "AA:BB:CC:00:00:02", ""),
    ],
)
def test_neighbour_is_known_by_name_chassis_and_mac(who: str, there: str, chassis: str) -> None:
    network = mapped(
        port("a", "p1"),
        port("b", "p2", mac="aa:bb:cc:00:00:02"),
        system("b", "router-b.example.net", "aa:bb:cc:00:00:01"),
        hears("a", "p1", who, there, chassis=chassis),
    )

    assert network.links[f"{NODE}:a:p1:out"].dest_tp == f"{NODE}:b:p2"
    assert codes(network) == []


def test_unknown_neighbour_is_told_and_makes_no_link() -> None:
    network = mapped(TWO, hears("a", "p1", "customer-7", "eth0"))

    (finding,) = network.findings
    assert network.links == {}
    assert (finding.code, finding.severity, finding.element) == (
        "neighbour.unknown",
        Severity.INFO,
        "a p1",
    )
    assert "customer-7" in finding.message
    assert finding.remedy


def test_unknown_port_of_a_known_neighbour_is_told() -> None:
    network = mapped(TWO, hears("a", "p1", "b", "p99"))

    assert network.links == {}
    assert codes(network) == ["neighbour.unknown-port"]
    assert "p99" in network.findings[0].message


def test_claims_that_contradict_each_other_make_no_link() -> None:
    network = mapped(TWO, port("c", "p1"), hears("a", "p1", "b", "p1"), hears("b", "p1", "c", "p1"))

    assert network.links == {}
    assert codes(network) == ["neighbour.conflict"]
    assert network.findings[0].element == "b p1"
    assert "a p1 hears b p1" in network.findings[0].message
    assert "b p1 hears c p1" in network.findings[0].message


def test_what_both_sides_say_outweighs_an_old_claim_of_a_third() -> None:
    network = mapped(
        TWO,
        port("c", "p1"),
        hears("a", "p1", "b", "p1"),
        hears("b", "p1", "a", "p1"),
        hears("c", "p1", "b", "p1"),
    )

    assert set(network.links) == {f"{NODE}:a:p1:out", f"{NODE}:b:p1:out"}
    assert codes(network) == ["neighbour.conflict"]
    assert "a p1 is taken, as both say so" in network.findings[0].message


def test_name_of_two_devices_is_never_guessed() -> None:
    network = mapped(
        TWO, port("c", "p1"), system("b", "twin"), system("c", "twin"), hears("a", "p1", "twin", "p1")
    )

    assert network.links == {}
    assert codes(network) == ["neighbour.ambiguous"]
    assert "b or c" in network.findings[0].message


def test_port_that_hears_itself_is_a_loop() -> None:
    network = mapped(TWO, hears("a", "p1", "a", "p1"))

    assert network.links == {}
    assert codes(network) == ["neighbour.itself"]


def test_device_that_states_its_topology_is_left_to_it() -> None:
    stated = [*interface("a", "p1"), *point("a", "p1"), *port("a", "p1"), *port("a", "p9")]
    network = mapped(stated, port("b", "p2"), hears("b", "p2", "a", "p1"), hears("a", "p1", "b", "p2"))

    assert set(network.termination_points) == {f"{node_id('a')}:p1", f"{NODE}:b:p2"}
    assert set(network.links) == {f"{NODE}:b:p2:out"}  # the other way is a's own to state
    assert network.links[f"{NODE}:b:p2:out"].dest_tp == f"{node_id('a')}:p1"


def test_names_become_part_of_uris() -> None:
    network = mapped(port("lab router", "Gi0/0/1"), port("lab router", "p[1]"))

    assert set(network.nodes) == {f"{NODE}:lab%20router"}
    assert set(network.termination_points) == {
        f"{NODE}:lab%20router:Gi0/0/1",
        f"{NODE}:lab%20router:p%5B1%5D",
    }


def test_unknown_speed_is_no_speed_and_a_strange_one_a_finding() -> None:
    network = mapped(port("a", "p1", speed="SPEED_UNKNOWN"), port("a", "p2", speed="FAST"))

    assert network.termination_points[f"{NODE}:a:p1"].speed_mbps == 0.0
    assert codes(network) == ["leaf.not-usable"]


def test_network_does_not_depend_on_the_order_in_which_leaves_come_and_go() -> None:
    rng = random.Random(7)
    everything = [
        *TWO,
        *port("c", "p1", mac="00:00:00:00:00:0c"),
        *system("a", "router-a", "aa:aa"),
        *system("b", "b"),
        *system("c", "b"),
        *hears("a", "p1", "b", "p1"),
        *hears("b", "p1", "router-a", "p1"),
        *hears("c", "p1", "router-a", "p1"),
        *hears("a", "p2", "c", "00:00:00:00:00:0c"),
        *hears("b", "p2", "who", "x"),
        *interface("c", "p1"),
        *point("c", "p1"),
        *link(("c", "p1"), ("a", "p2")),
    ]
    for _ in range(60):
        mapper, held = Mapper("transport"), {}
        for number in range(1, rng.randint(3, 9)):
            some = rng.sample(everything, rng.randint(1, len(everything)))
            gone = rng.random() < 0.4
            mapper.apply(delta(some, number, deleted=gone))
            for device, path, value in some:
                if gone:
                    held.pop((device, path), None)
                else:
                    held[device, path] = value
            if rng.random() < 0.7:
                mapper.network()
        scratch = Mapper("transport")
        scratch.apply(delta([(device, path, value) for (device, path), value in held.items()]))
        found, expected = mapper.network(), scratch.network()
        assert replace(found, version=expected.version) == expected
