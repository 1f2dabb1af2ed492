"""A vendor's own model is a table: nothing else changes.

The invented module `acme-chassis` keeps ports in slots, gives speeds in kbit/s, has its own words for states,
and measures links in milliseconds.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from small_network import START, Leaf, delta, interface, link, link_id, node_id, point

from domain_twin.mapping.mapper import Mapper
from domain_twin.mapping.table import Kind, Row, Table, attributes, figures, is_word, real
from domain_twin.mapping.tables import TABLES, describe, mirrored_paths, modules
from domain_twin.model import DELAY, Value

PORT = "/acme-chassis:chassis/slot[number]/port[label]"


def kilobits_to_megabits(value: Value) -> float:
    """kbit/s to Mbit/s."""
    return real(value) / 1000


ACME: Table = (
    *attributes(
        PORT,
        Kind.INTERFACE,
        [
            ("shutdown", "enabled", lambda value: not value),
            ("light", "oper_up", is_word("green")),
            ("rate", "speed_mbps", kilobits_to_megabits),
        ],
        key=("label",),  # the topology names ports by label alone
    ),
    *figures("/acme-chassis:chassis/meter[link]", Kind.LINK_FIGURES, [("latency", DELAY, real)]),
)


def acme_port(device: str, label: str, light: str = "green", rate: int = 10_000_000) -> list[Leaf]:
    at = f"/acme-chassis:chassis/slot[number='3']/port[label='{label}']"
    return [(device, f"{at}/shutdown", False), (device, f"{at}/light", light), (device, f"{at}/rate", rate)]


def test_vendor_device_takes_its_place_beside_a_standard_one() -> None:
    mapper = Mapper("transport", (*TABLES, ACME))
    latency = f"/acme-chassis:chassis/meter[link='{link_id('oslo', 'p1')}']/latency"
    mapper.apply(
        delta(
            [
                *interface("warsaw", "eth0"),
                *point("warsaw", "eth0"),
                *acme_port("oslo", "p1"),
                *point("oslo", "p1"),
                *link(("oslo", "p1"), ("warsaw", "eth0")),
                ("oslo", latency, Decimal("1.25")),
            ]
        )
    )
    network = mapper.network()
    found = network.links[link_id("oslo", "p1")]
    assert network.findings == ()
    assert network.termination_points[f"{node_id('oslo')}:p1"].speed_mbps == 10_000.0
    assert (found.up, found.capacity_mbps) == (True, 10_000.0)
    assert found.kpis[DELAY].value == 1.25

    mapper.apply(delta([("oslo", f"{acme_port('oslo', 'p1')[1][1]}", "red")], 2, at=START + 1))
    assert not mapper.network().links[link_id("oslo", "p1")].up


@pytest.mark.parametrize("standard_first", [True, False])
@pytest.mark.parametrize("vendor_first", [True, False])
def test_first_table_wins_where_two_feed_one_attribute(standard_first: bool, vendor_first: bool) -> None:
    tables = (ACME, *TABLES) if vendor_first else (*TABLES, ACME)
    mapper = Mapper("transport", tables)
    said = [interface("oslo", "p1"), acme_port("oslo", "p1", rate=1_000_000)]
    for number, leaves in enumerate(said if standard_first else reversed(said), 1):
        mapper.apply(delta([*leaves, *point("oslo", "p1")], number))
        mapper.network()
    tp = f"{node_id('oslo')}:p1"
    assert mapper.network().termination_points[tp].speed_mbps == (1000.0 if vendor_first else 10_000.0)

    mapper.apply(delta(said[1 if vendor_first else 0], 3, deleted=True))  # the other's word counts now
    assert mapper.network().termination_points[tp].speed_mbps == (10_000.0 if vendor_first else 1000.0)


def test_vendor_table_adds_its_subtree_module_and_rows() -> None:
    tables = (*TABLES, ACME)
    assert mirrored_paths(tables)[-1] == "/acme-chassis:chassis"
    assert modules(tables)[-1] == "acme-chassis"
    assert (f"{PORT}/rate", "interface", "speed_mbps", "") in describe(tables)


def test_row_with_the_wrong_keys_is_refused() -> None:
    with pytest.raises(ValueError, match=r"interface is known by 1 to 1 keys.*number, label"):
        Row(f"{PORT}/rate", Kind.INTERFACE, "speed_mbps", real)
    with pytest.raises(ValueError, match="has none"):
        Row("/acme-chassis:chassis/rate", Kind.INTERFACE, "speed_mbps", real)
