"""Candidate states: edits over a base, checked by YANG, mapped; compared with devices edited for real."""

from __future__ import annotations

from typing import Any

import pytest
from candidate_domain import Devices, mapped, schema
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.datastore.candidate import Candidate, make_candidate
from domain_twin.errors import ConfigError, NotFound
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import CELL_RATE, Network, Origin, StateKind
from domain_twin.model.scenario import ConfigChange

TRANSPORT = Devices("transport")
RAN = Devices("ran")
CORE = Devices("core")
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
CELL = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"


def candidate(devices: Devices, *edits: ConfigChange) -> Candidate:
    places = [(f"changes[{number}]", edit) for number, edit in enumerate(edits)]
    return make_candidate(devices.snapshot(), places, lambda device: schema())


def network(devices: Devices, *edits: ConfigChange) -> Network:
    """The network of a candidate: that of the base, then the overlay's delta."""
    found = candidate(devices, *edits)
    mapper = Mapper(devices.domain)
    mapper.apply(found.base.as_delta())
    mapper.apply(found.delta())
    return mapper.network()


def change(device: str, path: str, value: Any = None, *, delete: bool = False) -> ConfigChange:
    return ConfigChange(device=device, path=path, value=value, delete=delete)


def metric_path(link: str) -> str:
    return (
        "/ietf-network:networks/network[network-id='urn:ndt:transport']"
        f"/ietf-network-topology:link[link-id='{link}']"
        "/ietf-l3-unicast-topology:l3-link-attributes/metric1"
    )


def bearing(found: Network) -> dict[str, Any]:
    """What routing and queues depend on."""
    return {
        "links": {k: (v.up, v.metric, v.capacity_mbps) for k, v in found.links.items()},
        "borders": {k: (v.up, v.inter_domain) for k, v in found.termination_points.items() if v.inter_domain},
        "cells": {k: v.up for k, v in found.cells.items()},
        "functions": {k: (v.up, v.workers) for k, v in found.functions.items()},
    }


def test_a_metric_is_edited_before_it_is_mapped() -> None:
    base = mapped("transport", TRANSPORT.snapshot())
    link = next(iter(sorted(base.links)))

    edited = network(TRANSPORT, change(base.links[link].device, metric_path(link), 77))

    assert edited.links[link].metric == 77
    assert {k: v for k, v in edited.links.items() if k != link} == {
        k: v for k, v in base.links.items() if k != link
    }


def test_a_candidate_holds_the_edits_and_not_the_tree() -> None:
    base = TRANSPORT.snapshot()
    device = sorted(base.devices)[0]
    edits = [("changes[0]", change(device, f"{ETH0}/description", "to be moved"))]

    found = make_candidate(base, edits, lambda _: schema())

    assert found.base is base
    assert found.kind is StateKind.CANDIDATE
    assert found.version == base.version
    assert [list(leaves) for leaves in found.overlay.values()] == [[f"{ETH0}/description"]]
    leaf = found.get(device, f"{ETH0}/description")
    assert leaf is not None
    assert leaf.origin is Origin.SYNTHETIC  # never taken for a measurement
    assert base.devices[device].get(f"{ETH0}/description") is None
    assert dict(found.leaves(device)).keys() - base.devices[device].keys() == {f"{ETH0}/description"}


def knobs() -> list[tuple[str, str, str, Any]]:
    """Edits that emulated devices take, as (domain, device, path, value)."""
    found: list[tuple[str, str, str, Any]] = []
    base = mapped("transport", TRANSPORT.snapshot())
    for link in sorted(base.links)[:6]:
        found.append(("transport", base.links[link].device, metric_path(link), 9))
    for device in sorted(TRANSPORT.snapshot().devices)[:6]:
        found.append(("transport", device, f"{ETH0}/enabled", False))
    found.append(("ran", "gnb-1", f"{CELL}/administrativeState", "LOCKED"))
    upf = next(iter(CORE.names("upf")))
    found.append(("core", upf, "/fedtwin-core:network-function/workers", 1))
    found.append(("core", upf, "/fedtwin-core:network-function/administrativeState", "LOCKED"))
    return found


@settings(max_examples=8, deadline=None)
@given(chosen=st.lists(st.sampled_from(knobs()), min_size=1, max_size=3, unique_by=lambda knob: knob[1:3]))
def test_a_candidate_maps_to_what_devices_report_once_they_are_edited(
    chosen: list[tuple[str, str, str, Any]],
) -> None:
    domain = chosen[0][0]
    own = [knob for knob in chosen if knob[0] == domain]
    real = Devices(domain)
    predicted = network(real, *(change(device, path, value) for _, device, path, value in own))

    for _, device, path, value in own:
        real.edit(device, path, str(value) if path.endswith("metric1") else value)

    assert bearing(predicted) == bearing(mapped(domain, real.snapshot()))


def test_an_interface_that_is_enabled_again_comes_up() -> None:
    real = Devices("transport")
    device = sorted(real.snapshot().devices)[0]
    before = bearing(mapped("transport", real.snapshot()))
    real.edit(device, f"{ETH0}/enabled", False)
    assert bearing(mapped("transport", real.snapshot())) != before

    found = candidate(real, change(device, f"{ETH0}/enabled", True))

    leaf = found.get(device, f"{ETH0}/oper-status")
    assert leaf is not None
    assert leaf.value == "up"
    assert any("oper-status is taken to follow" in said for said in found.assumed)


def test_a_cells_rate_goes_with_its_share_of_resource_blocks() -> None:
    real = Devices("ran")
    real.put("gnb-1", f"{CELL}/performance/cell-rate", 120.5)
    base = mapped("ran", real.snapshot())
    cell = next(key for key, value in base.cells.items() if (value.device, value.local_id) == ("gnb-1", 1))

    edited = network(real, change("gnb-1", f"{CELL}/prb-share", "0.5"))

    assert base.cells[cell].kpis[CELL_RATE].value == pytest.approx(120.5)
    assert edited.cells[cell].kpis[CELL_RATE].value == pytest.approx(60.25)


def test_a_deleted_entry_is_gone_and_a_deleted_leaf_has_its_default() -> None:
    base = mapped("transport", TRANSPORT.snapshot())
    link = next(iter(sorted(base.links)))
    device = base.links[link].device
    entry = metric_path(link).partition("/ietf-l3-unicast")[0]

    gone = network(TRANSPORT, change(device, entry, delete=True))
    default = candidate(TRANSPORT, change(device, f"{ETH0}/enabled", delete=True))

    assert base.links.keys() - gone.links.keys() == {link}
    leaf = default.get(device, f"{ETH0}/enabled")
    assert leaf is not None
    assert leaf.value is True


def test_an_entry_can_be_made_by_its_key_first() -> None:
    device = sorted(TRANSPORT.snapshot().devices)[0]
    new = "/ietf-interfaces:interfaces/interface[name='lo0']"

    found = candidate(
        TRANSPORT, change(device, f"{new}/name", "lo0"), change(device, f"{new}/description", "loopback")
    )

    assert set(found.overlay[device]) == {f"{new}/name", f"{new}/description"}


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (
            change("gdansk-9", f"{ETH0}/enabled", False),
            NotFound,
            r"changes\[0\]: no device 'gdansk-9'; close",
        ),
        (change("gdansk", "/ietf-interfaces:interfaces/interfase", 1), ConfigError, "no node 'interfase'"),
        (change("gdansk", f"{ETH0}/enabled", "maybe"), ConfigError, "is not of type boolean"),
        (change("gdansk", f"{ETH0}/enabled", 1), ConfigError, "is not of type boolean"),
        (change("gdansk", f"{ETH0}/oper-status", "down"), ConfigError, "this is state"),
        (change("gdansk", f"{ETH0}/name", "eth9"), ConfigError, "list's key cannot be edited"),
        (change("gdansk", f"{ETH0}/name", delete=True), ConfigError, "list's key cannot be edited"),
        (change("gdansk", ETH0, "x"), ConfigError, "a list has no value; name a leaf"),
        (change("gdansk", "interfaces/eth0", "x"), ConfigError, "not an instance identifier"),
        (change("gdansk", "/", delete=True), ConfigError, "whole configuration"),
        (
            change("gdansk", "/ietf-interfaces:interfaces/interface/enabled", True),
            ConfigError,
            "without its keys name",
        ),
        (
            change("gdansk", "/ietf-interfaces:interfaces/interface", delete=True),
            ConfigError,
            "a list without its keys name",
        ),
        (
            change("gdansk", f"{ETH0.replace('eth0', 'eth77')}/enabled", True),
            NotFound,
            r"has no .*eth77.*there are eth0, eth1.*set its key",
        ),
        (
            change("gdansk", f"{ETH0.replace('eth0', 'eth77')}/description", delete=True),
            NotFound,
            "nothing there to delete",
        ),
    ],
)
def test_what_cannot_be_edited_is_refused_by_place(
    edit: ConfigChange, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        candidate(TRANSPORT, edit)

    assert str(caught.value).startswith("changes[0]: ")


def test_of_several_edits_the_wrong_one_is_named() -> None:
    good = change("gdansk", f"{ETH0}/description", "x")
    with pytest.raises(ConfigError, match=r"^changes\[1\]: device 'gdansk': "):
        candidate(TRANSPORT, good, change("gdansk", f"{ETH0}/enabled", 3))


def test_what_an_edit_deleted_cannot_be_edited_any_more() -> None:
    with pytest.raises(NotFound, match=r"changes\[1\].*the device has no"):
        candidate(
            TRANSPORT,
            change("gdansk", ETH0, delete=True),
            change("gdansk", f"{ETH0}/description", "still there?"),
        )
