"""Packets that count as one: traffic keeps its octets and its packets when another domain's laws take it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.simulation.graph import Arrivals, TrafficClass
from domain_twin.simulation.grouping import as_here, packets_together

TRAINS = TrafficClass("measured", (93_000.0,), exponential=True, packets=93.0, measured=True)
SMOOTH = TrafficClass("measured", (103_760.0,), packets=103.76, measured=True)
BURSTS = replace(SMOOTH, name="measured-bursty", arrivals=Arrivals.ON_OFF, on_s=1.0, off_s=1.0)
CAMERA = TrafficClass("camera", (1200.0,), arrivals=Arrivals.ON_OFF, on_s=0.2, off_s=0.2)


@given(st.floats(1.0, 1e4), st.floats(0.1, 1e4), st.floats(60.0, 9000.0))
def test_other_packets_keep_their_octets_and_travel_as_those_measured_here(
    here: float, there: float, octets: float
) -> None:
    own = replace(SMOOTH, packets=here)
    asked = TrafficClass("s", (octets * there,), packets=there)

    kind, arrivals = as_here(asked, [own, TrafficClass("other", packets=7.0)])

    assert kind.packets == pytest.approx(here)
    assert arrivals * kind.mean_octets == pytest.approx(asked.mean_octets)
    assert arrivals * kind.packets == pytest.approx(asked.packets)
    assert (kind.name, kind.arrivals) == (asked.name, asked.arrivals)


def test_measured_traffic_is_what_its_own_domain_takes_it_for() -> None:
    kind, arrivals = as_here(TRAINS, [CAMERA, SMOOTH, BURSTS])

    assert kind is SMOOTH
    assert arrivals == pytest.approx(93_000 / 103_760)
    assert as_here(replace(TRAINS, arrivals=Arrivals.ON_OFF), [SMOOTH, BURSTS])[0] is BURSTS
    assert as_here(BURSTS, [TRAINS])[0] is TRAINS


def test_networks_without_measured_traffic_take_classes_as_they_are() -> None:
    assert as_here(CAMERA, [TrafficClass("bulk")]) == (CAMERA, 1.0)
    assert as_here(TRAINS, [TrafficClass("bulk")]) == (TRAINS, 1.0)
    assert packets_together([TrafficClass("bulk", packets=50.0)]) == 1.0
    assert packets_together([CAMERA, TRAINS, SMOOTH]) == 103.76
