"""The numbers of a what-if across domains: what enters each of them, round by round, and what a way does.

Arrays only; no I/O. A flow's packets that survive one domain are what enters the next, so the domains' losses
are a fixed point. Delay adds over the domains, delay variance adds (parts of different domains are taken as
independent) plus size_scv * (sum of service times over the whole way)^2, because a packet keeps its size
(simulation.md 5); loss composes as 1 - prod(1 - p).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from domain_twin.simulation.graph import FloatArray, TrafficClass
from domain_twin.simulation.learned.flow_error import across
from federation.whatif_routes import Leg
from federation.wire.simulate import Figures

__all__ = ["Flows", "KeyNames", "Rounds", "WholeWay"]

KeyNames: TypeAlias = tuple[int, str, str, int]
"""Variant, ingress point, egress point, class."""


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Who sends what: F flows in V variants. Rates are packets/s, 0 where a flow is only asked about.

    `square` is the sum of squared rates of the independent flows that a row stands for.
    """

    traffic_class: Sequence[int]  # [F]
    rate: FloatArray  # [V, F]
    square: FloatArray  # [V, F]


@dataclass(frozen=True, slots=True, eq=False)
class WholeWay:
    """What flows meet from end to end, [V, F]; NaN where a domain did not say, or there is no way."""

    loss: FloatArray
    delay_s: FloatArray
    variance_s2: FloatArray
    fixed_s: FloatArray  # the part of the delay that never changes
    size_s: FloatArray  # mean sum of service times on links
    interval_s: FloatArray


class Rounds:
    """Flows over their legs: `keys` by domain in the order of its rows; rates in, figures out."""

    def __init__(
        self, flows: Flows, legs: Sequence[Sequence[Sequence[Leg] | None]], classes: Sequence[TrafficClass]
    ) -> None:
        """`legs[v][f]` is the way of flow f in variant v; None where there is none."""
        self.keys: dict[str, list[KeyNames]] = {}
        self.routed = np.array([[way is not None for way in row] for row in legs], dtype=bool)
        self._flows = flows
        self._classes = tuple(classes)
        rows: dict[tuple[str, KeyNames], int] = {}
        hops: list[list[tuple[int, int]]] = []  # by position on the way: (flow in all variants, row)
        count = len(flows.traffic_class)
        for variant, row in enumerate(legs):
            for flow, way in enumerate(row):
                for position, leg in enumerate(way or ()):
                    key = (variant, leg.source, leg.target, flows.traffic_class[flow])
                    place = rows.get((leg.domain, key))
                    if place is None:
                        place = rows[leg.domain, key] = len(rows)
                        self.keys.setdefault(leg.domain, []).append(key)
                    if position == len(hops):
                        hops.append([])
                    hops[position].append((variant * count + flow, place))
        self._hops = [np.array(hop, dtype=np.int64).reshape(-1, 2).T for hop in hops]
        self._rows = len(rows)
        order: dict[str, list[int]] = {domain: [] for domain in self.keys}
        for (domain, _), place in rows.items():
            order[domain].append(place)
        self._place = {domain: np.array(places, dtype=np.int64) for domain, places in order.items()}
        self._loss = np.zeros(self._rows)
        self.settled = False
        """Whether no loss moved any more in the last round: by more than a millionth of itself and 1e-11."""

    def offered(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """What enters each domain at the losses known so far: rates and squared rates, by row."""
        rate = np.zeros(self._rows)
        square = np.zeros(self._rows)
        flow_rate = self._flows.rate.ravel()
        flow_square = self._flows.square.ravel()
        left = np.ones_like(flow_rate)
        survival = 1.0 - np.nan_to_num(self._loss, nan=0.0)
        for flow, row in self._hops:
            np.add.at(rate, row, flow_rate[flow] * left[flow])
            np.add.at(square, row, flow_square[flow] * left[flow] ** 2)
            left[flow] *= survival[row]
        return {domain: (rate[place], square[place]) for domain, place in self._place.items()}

    def learn(self, losses: Mapping[str, FloatArray | None], *, damping: float = 0.0) -> float:
        """Take over the domains' losses; None: this domain does not say any more. Returns the change.

        `damping` is the share of the old value that stays.
        """
        before = self._loss.copy()
        for domain, place in self._place.items():
            loss = losses.get(domain)
            if loss is None:
                self._loss[place] = np.nan
                continue
            old = np.where(np.isnan(self._loss[place]), loss, self._loss[place])
            self._loss[place] = damping * old + (1.0 - damping) * loss
        now = np.nan_to_num(self._loss)
        moved = np.abs(now - np.nan_to_num(before))
        self.settled = bool((moved <= _SETTLED * now + _SETTLED_ABSOLUTE).all())
        return float(moved.max(initial=0.0))

    def whole_way(self, figures: Mapping[str, Figures | None]) -> WholeWay:
        """End to end, from the domains' final figures; None: this domain did not say."""
        shape = self._flows.rate.shape
        rows = {name: np.full(self._rows, np.nan) for name in _NAMES}
        for domain, place in self._place.items():
            told = figures.get(domain)
            if told is not None:
                for name in _NAMES:
                    rows[name][place] = getattr(told, name)
        sums = {name: np.zeros(self._flows.rate.size) for name in _NAMES}
        kept, squares = np.ones(self._flows.rate.size), np.zeros(self._flows.rate.size)
        for flow, row in self._hops:
            kept[flow] *= 1.0 - rows["loss"][row]
            for name in _ADDING:
                sums[name][flow] += rows[name][row]
            sums["interval_s"][flow] += rows["interval_s"][row] ** 2
            squares[flow] += rows["delay_s"][row] ** 2
        scv = np.array([kind.size_scv for kind in self._classes])
        own = np.tile(scv[np.asarray(self._flows.traffic_class, dtype=np.int64)], shape[0])
        variance = sums["variance_s2"] + own * sums["service_s"] ** 2
        nothing = ~self.routed.ravel()

        def shown(values: FloatArray) -> FloatArray:
            return np.where(nothing, np.nan, values).reshape(shape)

        return WholeWay(
            loss=shown(1.0 - kept),
            delay_s=shown(sums["delay_s"]),
            variance_s2=shown(variance),
            fixed_s=shown(sums["fixed_s"]),
            size_s=shown(sums["service_s"]),
            interval_s=shown(
                across(
                    sums["interval_s"],
                    sums["delay_s"],
                    squares,
                    variance_s2=variance,
                    arrivals_per_s=self._flows.rate.ravel() * kept,
                )
            ),
        )

    def leg_figure(
        self, figures: Mapping[str, Figures | None], domain: str, name: str
    ) -> dict[KeyNames, float]:
        """One figure of every row of a domain, by key; empty where it did not say."""
        told = figures.get(domain)
        if told is None:
            return {}
        return dict(zip(self.keys[domain], getattr(told, name).tolist(), strict=True))


_SETTLED = 1e-6
_SETTLED_ABSOLUTE = 1e-11
_ADDING = ("delay_s", "variance_s2", "service_s", "fixed_s")
_NAMES = ("loss", *_ADDING, "interval_s")
