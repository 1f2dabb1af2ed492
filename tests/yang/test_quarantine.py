"""The stage that types batches: bad leaves are set aside, the rest goes on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.model import Delete, Sync, Update, UpdateBatch
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
OCTETS = f"{ETH0}/statistics/in-octets"


@pytest.fixture(scope="module")
def schema():
    return SchemaSet.load(
        ["ietf-interfaces", "iana-if-type", "fedtwin-performance", "ietf-l3-unicast-topology"]
    )


def batch(*leaves, sync=Sync.NONE):
    return UpdateBatch("a", 1, tuple(Update("a", path, value, 1) for path, value in leaves), sync=sync)


def test_typed_batch_passes_as_the_same_object(schema):
    given_batch = batch((OCTETS, 5), (f"{ETH0}/enabled", True))

    assert Typer(schema).type_batch(given_batch) == (given_batch, ())
    assert Typer(schema).type_batch(given_batch)[0] is given_batch


def test_wire_values_become_typed(schema):
    typed, bad = Typer(schema).type_batch(
        batch((OCTETS, "5"), ("/fedtwin-performance:performance/link[link-id='urn:a']/one-way-delay", 1.5))
    )

    assert bad == ()
    assert [update.value for update in typed.updates] == [5, Decimal("1.500")]


def test_bad_leaves_are_set_aside_and_the_rest_goes_on(schema):
    typer = Typer(schema)
    given_batch = batch(
        (OCTETS, "many"),
        (f"{ETH0}/oper-status", "sideways"),
        (f"{ETH0}/colour", "red"),
        ("/vendor:secret/leaf", 1),
        (ETH0, 1),
        (f"{ETH0}/enabled", True),
        sync=Sync.END,
    )

    typed, bad = typer.type_batch(given_batch)

    assert [update.path for update in typed.updates] == [f"{ETH0}/enabled"]
    assert typed.sync is Sync.END
    assert [(item.device, item.path) for item in bad] == [("a", u.path) for u in given_batch.updates[:5]]
    assert "of type yang:counter64" in bad[0].reason
    assert "up, down" in bad[1].reason
    assert "no such node" in bad[2].reason
    assert "module vendor is not among them" in bad[3].reason
    assert "carries no value" in bad[4].reason
    assert typer.counts == {"a": 5}


def test_deletes_pass_untouched(schema):
    given_batch = UpdateBatch("a", 1, (), (Delete("a", ETH0, 1), Delete("a", "/vendor:gone", 1)))

    assert Typer(schema).type_batch(given_batch) == (given_batch, ())


def test_presence_containers_exist_without_a_value(schema):
    path = "/ietf-network:networks/network[network-id='urn:n']/network-types"
    path += "/ietf-l3-unicast-topology:l3-unicast-topology"

    assert Typer(schema).type_batch(batch((path, None)))[1] == ()
    assert Typer(schema).type_batch(batch((path, 5)))[1] != ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([OCTETS, f"{ETH0}/enabled", f"{ETH0}/description", f"{ETH0}/none", "/x:y"]),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=5),
                st.binary(max_size=3),
                st.decimals(),
                st.tuples(st.integers()),
            ),
        ),
        max_size=10,
        unique_by=lambda leaf: leaf[0],
    )
)
def test_every_leaf_is_either_typed_or_set_aside(schema, leaves):
    typer = Typer(schema)
    typed, bad = typer.type_batch(batch(*leaves))

    assert len(typed.updates) + len(bad) == len(leaves)
    assert typer.type_batch(typed)[0] is typed
