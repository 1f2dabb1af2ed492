"""Fit what configuration does not say to history: train length, sizes, fixed delays, service times, buffers.

Link: delay = fixed + S + W, variance = c^2 S^2 + Var W, an M/G/1 queue (Pollaczek-Khinchine; Kleinrock 1975,
5.6-5.7). The variance does not depend on the fixed part: it says how long a train of packets takes, hence how
many packets travel together; the mean then says the fixed part. Cell: processor sharing. Station: the
utilisation law (Denning & Buzen 1978) says the service time of a packet, delay and variance those of a train.

Fits on the first three quarters of the history, judges on the rest. Reads what devices report and nothing
else; an element with too little history keeps a default, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from domain_twin.errors import NotFound
from domain_twin.model import Nanoseconds, Network
from domain_twin.simulation.calibration import Calibration, ElementFit, Traffic
from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.observed import Observations, Series, observe

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = ["calibrate", "fit"]

BLOCK = 10  # intervals averaged into one point
LEAST_BLOCKS = 4
HELD_OUT = 0.25
_LEAST_LOAD = 0.05  # links with less are ruled by probes, whose packets are unlike others
_SCVS = np.linspace(0.0, 2.0, 41)
_EARLY = 0.05  # share of elements that a fit may leave faster than measured
_PROCESSORS = ("function", "host")
_KEPT = 64  # residuals of an element
_FULL = 0.9  # utilisation from where discards tell of a full buffer
_QUIET = 0.7  # utilisation up to where losses are errors of the line


async def calibrate(
    history: History, network: Network, window: tuple[Nanoseconds, Nanoseconds]
) -> Calibration:
    """Fit `network`'s domain to what was recorded in the window. Raises NotFound: nothing was."""
    observations = await observe(history, network.domain, *window)
    return fit(observations, packet_octets=packet_octets(network))


def packet_octets(network: Network) -> float:
    """Mean size of the packets that interfaces have counted; NaN where they do not count."""
    octets = packets = 0
    for point in network.termination_points.values():
        counted = point.counters
        if counted is not None and counted.out_octets is not None and counted.out_pkts is not None:
            octets += counted.out_octets
            packets += counted.out_pkts
    return octets / packets if packets else math.nan


def fit(observations: Observations, *, packet_octets: float = math.nan) -> Calibration:
    """Fit a domain to its observations. Raises NotFound: no element reports delays."""
    said: list[str] = []
    points = {name: _blocks(series) for name, series in observations.series.items()}
    enough = {name: part for name, part in points.items() if len(part) >= LEAST_BLOCKS}
    if not any(np.isfinite(part.delay_s).any() for part in points.values()):
        raise NotFound(
            f"the history of {observations.domain} between {observations.start} and {observations.end} ns has"
            " no delay of any element; calibrate over a time in which devices were heard"
        )
    train = {name: part.part(slice(0, _split(len(part)))) for name, part in enough.items()}
    traffic = _traffic(train, packet_octets, said)
    fits: dict[str, ElementFit] = {}
    residuals: dict[str, tuple[float, ...]] = {}
    for name, series in points.items():
        if name not in enough:
            note = f"{len(series)} points of {BLOCK} intervals are too few, {LEAST_BLOCKS} are needed"
            fits[name] = ElementFit(name, series.kind, points=len(series), note=note)
            continue
        fitted = _element(train[name], traffic)
        held = series.part(slice(_split(len(series)), None))
        fits[name], errors = _judged(fitted, held, traffic)
        if errors:
            residuals[name] = errors
    if short := [name for name in fits if fits[name].note]:
        said.append(
            f"{len(short)} elements have too little history and keep defaults: {', '.join(short[:5])}"
        )
    return Calibration(
        observations.domain,
        observations.start,
        observations.end,
        sum(map(len, observations.series.values())),
        traffic,
        fits,
        residuals,
        tuple(said),
    )


def _split(points: int) -> int:
    return max(1, points - max(1, round(points * HELD_OUT)))


def _blocks(series: Series) -> Series:
    """Means over BLOCK intervals: delays by packet (the rate weighs them), all else by time."""
    order = np.isfinite(series.delay_s) & np.isfinite(series.utilisation) & (series.rate > 0)
    count = int(order.sum()) // BLOCK
    shaped = {name: getattr(series, name)[order][: count * BLOCK].reshape(count, BLOCK) for name in _COLUMNS}
    weight = shaped["rate"]
    total = weight.sum(axis=1)
    mean = (weight * shaped["delay_s"]).sum(axis=1) / total
    variance = np.nan_to_num(shaped["variance_s2"])
    square = (weight * (variance + shaped["delay_s"] ** 2)).sum(axis=1) / total
    columns = {name: values.mean(axis=1) for name, values in shaped.items()}
    columns["queue_octets"] = shaped["queue_octets"].max(axis=1, initial=-math.inf)
    columns["loss"] = (weight * np.nan_to_num(shaped["loss"])).sum(axis=1) / total
    columns |= {"delay_s": mean, "variance_s2": np.maximum(square - mean**2, 0.0)}
    return Series(series.element, series.kind, **columns)


_COLUMNS = tuple(name for name in Series.__slots__ if name not in ("element", "kind"))


# ---- laws, in mean service times --------------------------------------------------------------------------


def _link_law(load: Any, scv: Any) -> tuple[Any, Any]:
    """Sojourn and its variance, M/G/1; sizes of gamma shape: third moment (1 + c^2)(1 + 2 c^2)."""
    wait = load * (1 + scv) / (2 * (1 - load))
    variance = wait**2 + load * (1 + scv) * (1 + 2 * scv) / (3 * (1 - load))
    return 1 + wait, scv + variance


def _cell_law(load: float, scv: float) -> tuple[float, float]:
    from domain_twin.simulation.stations import shared

    sojourn, variance, _ = shared(math.inf, scv, load)
    return sojourn, variance


def _station_law(load: float, scv: float, servers: float) -> tuple[float, float]:
    from domain_twin.simulation.stations import many_servers

    wait, variance, _ = many_servers(int(servers), math.inf, scv, load)
    return 1 + wait, variance + scv


# ---- what packets look like -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What one element says of the train length, in packets, for each of _SCVS (stations: for all)."""

    weight: float
    lengths: FloatArray  # by the variance of its delay
    longest: FloatArray  # by its mean delay, which a longer train would exceed


def _traffic(train: Mapping[str, Series], octets: float, said: list[str]) -> Traffic:
    known = math.isfinite(octets) and octets > 0
    if not known:
        octets = 1000.0
        said.append("no interface counts packets; a mean packet of 1,000 octets is assumed")
    stations = [series for series in train.values() if series.kind in _PROCESSORS]
    told = [item for series in stations if (item := _station_evidence(series)) is not None]
    seen = [item for series in train.values() if (item := _queue_evidence(series, octets)) is not None]
    if not seen and not told:
        said.append("no element shows the variance of its delay under load: single packets are assumed")
        return Traffic(packet_octets=octets)
    length, scv = _length_and_scv(told, seen)
    said.append(
        f"{len(told) + len(seen)} elements show trains of {length:.3g} packets, whose sizes have a squared"
        f" coefficient of variation of {scv:.2f}"
    )
    return Traffic(octets, max(1.0, length), scv)


def _length_and_scv(told: Sequence[_Evidence], seen: Sequence[_Evidence]) -> tuple[float, float]:
    """Packets per train, and the scv of sizes.

    Stations say the length whatever the sizes; then the scv is the one by which queues say the same. Queues
    alone say a length for every scv nearly as well: the one nearest to exponential sizes is taken, of those
    that fit within a tenth of the best and leave (almost) no element faster than it was measured to be.
    """
    centre, spread, early = np.zeros(len(_SCVS)), np.zeros(len(_SCVS)), np.zeros(len(_SCVS))
    if seen:
        weight = np.array([item.weight for item in seen])
        lengths = np.log(np.array([item.lengths for item in seen]))
        centre = np.array([_median(column, weight) for column in lengths.T])
        spread = np.sqrt(np.average((lengths - centre) ** 2, axis=0, weights=weight))
        longest = np.log(np.array([item.longest for item in seen]))
        early = np.average(centre > longest + 0.02, axis=0, weights=weight)
    if told:
        length = _median(np.array([item.lengths[0] for item in told]), np.array([i.weight for i in told]))
        return length, float(_SCVS[np.abs(centre - math.log(length)).argmin()]) if seen else 1.0
    usable = spread <= 1.1 * spread.min()
    if (usable & (early <= _EARLY)).any():
        usable &= early <= _EARLY
    best = int(np.where(usable, np.abs(_SCVS - 1.0), np.inf).argmin())
    return float(np.exp(centre[best])), float(_SCVS[best])


def _station_evidence(series: Series) -> _Evidence | None:
    load, servers = float(series.utilisation.mean()), float(series.servers.mean())
    variance, mean = _weighted(series.variance_s2, series.rate), _weighted(series.delay_s, series.rate)
    if not 0 < load < _FULL or servers < 1:
        return None
    packet_s = load * servers / float(series.rate.mean())
    length = np.array([_own_service(mean, variance, load, servers)[0] / packet_s])
    return _Evidence(math.sqrt(float(series.rate.mean()) * len(series)), length, length)


def _queue_evidence(series: Series, octets: float) -> _Evidence | None:
    load = float(series.utilisation.mean())
    variance, mean = _weighted(series.variance_s2, series.rate), _weighted(series.delay_s, series.rate)
    least = 0.0 if series.kind == "cell" else _LEAST_LOAD
    if series.kind in _PROCESSORS or variance <= 0 or not least < load < _FULL:
        return None
    packet_s = octets * 8 / 1e6 / float(series.capacity_mbps.mean())
    law = _cell_law if series.kind == "cell" else _link_law
    sojourn, shape = np.array([law(load, float(scv)) for scv in _SCVS]).T
    lengths = np.sqrt(variance / np.maximum(shape, 1e-9)) / packet_s
    weight = math.sqrt(float(series.rate.mean()) * len(series))
    return _Evidence(weight, lengths, mean / sojourn / packet_s)


def _own_service(mean: float, variance: float, load: float, servers: float) -> tuple[float, float]:
    """Service time and its scv that a station's mean delay and variance ask for."""
    scvs = np.linspace(0.0, 3.0, 121)
    laws = [_station_law(load, float(scv), servers) for scv in scvs]
    misfit = [abs(spread / sojourn**2 - variance / mean**2) for sojourn, spread in laws]
    best = int(np.argmin(misfit))
    return mean / laws[best][0], float(scvs[best])


def _median(values: FloatArray, weight: FloatArray) -> float:
    order = np.argsort(values)
    reach = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reach, reach[-1] / 2)])


def _weighted(values: FloatArray, weight: FloatArray) -> float:
    return float((values * weight).sum() / weight.sum())


# ---- one element ------------------------------------------------------------------------------------------


def _element(series: Series, traffic: Traffic) -> ElementFit:
    load = float(series.utilisation.mean())
    mean = _weighted(series.delay_s, series.rate)
    known = ElementFit(series.element, series.kind, points=len(series))
    if series.kind in _PROCESSORS:
        return _station(series, traffic, known)
    train_s = traffic.train_octets * 8 / 1e6 / float(series.capacity_mbps.mean())
    law = _cell_law if series.kind == "cell" else _link_law
    expected = np.array([law(min(float(u), 0.99), traffic.size_scv)[0] for u in series.utilisation]) * train_s
    fixed = max(0.0, _weighted(series.delay_s - expected, series.rate))
    ratio = _weighted(series.variance_s2, series.rate) / (
        train_s**2 * law(min(load, 0.99), traffic.size_scv)[1]
    )
    known = replace(known, fixed_s=min(fixed, mean), variance_ratio=float(ratio))
    return known if series.kind == "cell" else _losses(series, known)


def _station(series: Series, traffic: Traffic, known: ElementFit) -> ElementFit:
    """Service by the utilisation law; its scv by the variance, or less where the mean is too small for it."""
    load, servers = float(series.utilisation.mean()), float(series.servers.mean())
    mean = _weighted(series.delay_s, series.rate)
    variance = _weighted(series.variance_s2, series.rate)
    service = load * servers / float(series.rate.mean()) * traffic.packets_per_train
    scvs = np.linspace(0.0, 3.0, 121)
    laws = np.array([_station_law(load, float(scv), servers) for scv in scvs]) * (service, service**2)
    best = int(np.abs(laws[:, 1] - variance).argmin())
    while best > 0 and laws[best, 0] > mean:
        best -= 1
    fixed = max(0.0, mean - float(laws[best, 0]))
    ratio = variance / max(float(laws[best, 1]), 1e-300)
    return replace(
        known, fixed_s=fixed, service_s=service, service_scv=float(scvs[best]), variance_ratio=ratio
    )


def _losses(series: Series, known: ElementFit) -> ElementFit:
    """Errors of the line while it is quiet; the buffer: the longest queue seen while packets were dropped."""
    quiet = series.utilisation < _QUIET
    loss = _weighted(series.loss[quiet], series.rate[quiet]) if quiet.any() else 0.0
    dropped = (series.utilisation > _FULL) & (series.loss > 2 * loss) & np.isfinite(series.queue_octets)
    buffer = float(series.queue_octets[dropped].max()) if dropped.any() else math.nan
    return replace(known, loss=min(max(loss, 0.0), 1.0), buffer_octets=buffer if buffer > 0 else math.nan)


def _judged(fitted: ElementFit, held: Series, traffic: Traffic) -> tuple[ElementFit, tuple[float, ...]]:
    """The fit with its errors on points that it has not seen, and those errors (relative)."""
    expected = np.array(
        [
            _expected(fitted, u, c, k, traffic)
            for u, c, k in zip(held.utilisation, held.capacity_mbps, held.servers, strict=True)
        ]
    )
    errors = held.delay_s / expected - 1.0
    errors = errors[np.isfinite(errors)]
    if not len(errors):
        return fitted, ()
    spread = float(((held.delay_s - held.delay_s.mean()) ** 2).sum())
    r2 = 1.0 - float(((held.delay_s - expected) ** 2).sum()) / spread if spread > 0 else math.nan
    kept = tuple(round(float(error), 6) for error in errors[-_KEPT:])
    return replace(fitted, mape=float(np.abs(errors).mean()) * 100, r2=r2), kept


def _expected(fitted: ElementFit, load: float, capacity: float, servers: float, traffic: Traffic) -> float:
    load = min(load, 0.99)
    if fitted.kind in _PROCESSORS:
        return fitted.fixed_s + fitted.service_s * _station_law(load, fitted.service_scv, servers)[0]
    train_s = traffic.train_octets * 8 / 1e6 / capacity
    law = _cell_law if fitted.kind == "cell" else _link_law
    return float(fitted.fixed_s + train_s * law(load, traffic.size_scv)[0])
