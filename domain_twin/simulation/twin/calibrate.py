"""Fit what configuration does not say to history: train length, sizes, fixed delays, service times, buffers.

Link: delay = fixed + S + W, variance = c^2 S^2 + Var W, an M/G/1 queue (Pollaczek-Khinchine; Kleinrock 1975,
5.6-5.7). The variance does not depend on the fixed part: it says how long a train of packets takes, hence how
many packets travel together; the mean then says the fixed part. Cell: processor sharing. Station: the
utilisation law (Denning & Buzen 1978) says the service time of a packet, delay and variance those of a train.

Judged on the last quarter of the history by a fit on the rest, then fitted on all of it. Reads what devices
report and nothing else; an element with too little history keeps a default, and says so. A point is the mean
of ten intervals, of fewer where the history is short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from domain_twin.errors import NotFound
from domain_twin.model import Nanoseconds, Network
from domain_twin.simulation.graph import FloatArray
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic
from domain_twin.simulation.twin.observed import Observations, Series, observe
from domain_twin.simulation.twin.packet_size import ASSUMED_OCTETS, packet_octets
from domain_twin.simulation.twin.packet_size import told as told_size

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = [
    "FOLDS", "LEAST_BLOCKS", "block_of", "calibrate", "element_of", "expected_s", "fit",
    "link_law", "points_of", "traffic_of",
]  # fmt: skip

FOLDS = 4
BLOCK = 10  # intervals averaged into one point
LEAST_BLOCKS = 4
SHORTEST_BLOCK = 3  # of a history with less than LEAST_BLOCKS of BLOCK intervals
HELD_OUT = 0.25
_LEAST_LOAD = 0.05  # links with less are ruled by probes, whose packets are unlike others
_SCVS = np.linspace(0.0, 2.0, 41)
_AS_GOOD = 0.01  # of the logarithm of a length
_EARLY = 0.05  # share of elements that a fit may leave faster than measured
_BURSTY = 1.5  # times the variance of Poisson arrivals that is worth a word
_PROCESSORS = ("function", "host")
_KEPT = 64  # residuals of an element
_FULL = 0.9  # utilisation from where discards tell of a full buffer
_QUIET = 0.7  # utilisation up to where losses are errors of the line


async def calibrate(
    history: History, network: Network, window: tuple[Nanoseconds, Nanoseconds]
) -> Calibration:
    """Fit `network`'s domain to what was recorded in the window. Raises NotFound: nothing was."""
    from domain_twin.mapping.mapper import Mapper

    observations = await observe(history, network.domain, *window)
    mapper = Mapper(network.domain)
    mapper.apply((await history.state_at(window[0])).as_delta())
    return fit(observations, packet_octets=packet_octets(network, mapper.network()))


def fit(observations: Observations, *, packet_octets: float = math.nan) -> Calibration:
    """Fit a domain to its observations. Raises NotFound: no element reports delays, or for long enough."""
    said: list[str] = []
    block = block_of(observations)
    points = {name: points_of(series, block) for name, series in observations.series.items()}
    if not any(np.isfinite(series.delay_s).any() for series in observations.series.values()):
        raise NotFound(
            f"the history of {observations.domain} between {observations.start} and {observations.end} ns has"
            " no delay of any element; calibrate over a time in which devices were heard"
        )
    enough = {name: part for name, part in points.items() if len(part) >= LEAST_BLOCKS}
    if not enough:
        step = _step(observations)
        raise NotFound(
            f"the history of {observations.domain} holds {max(map(len, observations.series.values()))}"
            f" figures of an element at most, and a fit needs {LEAST_BLOCKS} points of {SHORTEST_BLOCK}:"
            f" calibrate over {math.ceil(LEAST_BLOCKS * SHORTEST_BLOCK * step) + 1} s or more in which"
            " devices were heard"
        )
    traffic = traffic_of(enough, packet_octets, said)
    fits = {
        name: ElementFit(
            name,
            series.kind,
            points=len(series),
            note=f"{len(series)} points of {block} intervals are too few, {LEAST_BLOCKS} are needed",
        )
        for name, series in points.items()
    }
    for name, series in enough.items():
        judged = _judged(element_of(series, traffic), series, traffic)
        whole = math.nan if observations.thinned else _dispersion(observations.series[name], traffic)
        fits[name] = replace(judged, dispersion=whole)
    if block < BLOCK:
        said.append(
            f"the history is short: points are means of {block} intervals instead of {BLOCK}, and intervals"
            " rest on few of them; calibrate again later"
        )
    if burst := _bursts(fits, enough):
        said.append(burst)
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
        _held_out(enough, packet_octets),
        block * _step(observations),
        tuple(said),
    )


def _dispersion(series: Series, traffic: Traffic) -> float:
    """Variance of what arrives in an interval over that of Poisson arrivals; differences leave drift out."""
    good = np.isfinite(series.rate) & (series.rate > 0)
    rate, at = series.rate[good], series.at[good]
    if series.kind in _PROCESSORS or len(rate) < BLOCK:
        return math.nan
    octets = rate * 1e6 / 8 * float(np.median(np.diff(at)))
    variance = float((np.diff(octets) ** 2).mean()) / 2
    return variance / (float(octets.mean()) * traffic.train_octets * (1 + traffic.size_scv))


def _bursts(fits: Mapping[str, ElementFit], points: Mapping[str, Series]) -> str:
    """What a person should know of bursts as long as a measuring interval; empty: there are none."""
    known = [(fits[name].dispersion, float(points[name].rate.mean())) for name in points]
    known = [item for item in known if math.isfinite(item[0])]
    if not known:
        return ""
    middle = _median(*np.array(known).T)
    if middle <= _BURSTY:
        return ""
    return (
        f"rates vary {middle:.1f} times as much as those of Poisson arrivals; the waits of bursts count at"
        " the load of this history, and grow with load less than they should"
    )


def _step(observations: Observations) -> float:
    """Seconds between two figures of an element, as a rule."""
    steps = [
        float(np.median(np.diff(series.at))) for series in observations.series.values() if len(series) > 1
    ]
    return float(np.median(steps)) if steps else 1.0


def _held_out(points: Mapping[str, Series], packet_octets: float) -> dict[str, tuple[float, ...]]:
    """Relative errors of predicting each fold of the time from the others, by element and block.

    Predicted as a scenario would: the delay at the mean load of the other folds; NaN where nothing is known.
    Cross-conformal (Vovk 2015): errors of all folds count together.
    """
    last = int(max((series.at.max() for series in points.values()), default=-1.0))
    found = {name: np.full(last + 1, np.nan) for name in points}
    for fold in range(FOLDS):
        edges = [round((last + 1) * k / FOLDS) for k in (fold, fold + 1)]
        away = {name: (series.at >= edges[0]) & (series.at < edges[1]) for name, series in points.items()}
        rest = {name: series.where(~away[name]) for name, series in points.items()}
        usable = {name: series for name, series in rest.items() if len(series) >= LEAST_BLOCKS // 2}
        traffic = traffic_of(usable, packet_octets, [])
        for name, series in usable.items():
            held = points[name].where(away[name])
            if not len(held):
                continue
            load = _weighted(series.utilisation, series.rate)
            fitted = element_of(series, traffic)
            capacity, servers = float(held.capacity_mbps.mean()), float(held.servers.mean())
            expected = expected_s(fitted, load, capacity, servers, traffic)
            found[name][held.at.astype(int)] = held.delay_s / expected - 1.0
    return {name: tuple(float(round(x, 6)) for x in row[-_KEPT:]) for name, row in found.items()}


def block_of(observations: Observations) -> int:
    """How many intervals make a point: BLOCK, and fewer where too few points would come of that."""
    longest = max(map(len, observations.series.values()), default=0)
    return min(BLOCK, max(SHORTEST_BLOCK, longest // LEAST_BLOCKS))


def points_of(series: Series, block: int) -> Series:
    """Means over `block` intervals; `at` counts them. Delays are weighed by the rate, all else by time."""
    good = np.isfinite(series.delay_s) & np.isfinite(series.utilisation) & (series.rate > 0)
    if not good.any():
        return series.where(good)
    step = float(np.median(np.diff(series.at))) if len(series) > 1 else 1.0
    part = series.where(good)
    number = np.floor(part.at / (block * max(step, 1e-9)) + 1e-6).astype(int)
    kept, place, count = np.unique(number, return_inverse=True, return_counts=True)

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(place, weights=values, minlength=len(kept)).astype(np.float64)

    weight = total(part.rate)
    mean = total(part.rate * part.delay_s) / weight
    variance = np.nan_to_num(part.variance_s2)
    square = total(part.rate * (variance + part.delay_s**2)) / weight
    columns = {name: total(getattr(part, name)) / count for name in _COLUMNS}
    longest = np.full(len(kept), -np.inf)
    np.maximum.at(longest, place, np.nan_to_num(part.queue_octets, nan=-np.inf))
    columns |= {
        "at": kept.astype(np.float64),
        "queue_octets": longest,
        "loss": total(part.rate * np.nan_to_num(part.loss)) / weight,
        "delay_s": mean,
        "variance_s2": np.maximum(square - mean**2, 0.0),
    }
    return Series(series.element, series.kind, **columns).where(count >= block / 2)


_COLUMNS = tuple(name for name in Series.__slots__ if name not in ("element", "kind"))


# ---- laws, in mean service times --------------------------------------------------------------------------


def link_law(load: Any, scv: Any) -> tuple[Any, Any]:
    """Sojourn and its variance, M/G/1; sizes of gamma shape: third moment (1 + c^2)(1 + 2 c^2)."""
    wait = load * (1 + scv) / (2 * (1 - load))
    variance = wait**2 + load * (1 + scv) * (1 + 2 * scv) / (3 * (1 - load))
    return 1 + wait, scv + variance


def _cell_law(load: float, scv: float) -> tuple[float, float]:
    from domain_twin.simulation.laws.stations import shared

    sojourn, variance, _ = shared(math.inf, scv, load)
    return sojourn, variance


def _station_law(load: float, scv: float, servers: float) -> tuple[float, float]:
    from domain_twin.simulation.laws.stations import many_servers

    wait, variance, _ = many_servers(int(servers), math.inf, scv, load)
    return 1 + wait, variance + scv


# ---- what packets look like -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What one element says of the train length, in packets, for each of _SCVS (stations: for all)."""

    weight: float
    lengths: FloatArray  # by the variance of its delay
    longest: FloatArray  # by its mean delay, which a longer train would exceed


def traffic_of(train: Mapping[str, Series], octets: float, said: list[str]) -> Traffic:
    """What packets look like by the points of all elements; `octets`: their size, NaN where none counts.

    What a reader should know of it is added to `said`.
    """
    counted = math.isfinite(octets) and octets > 0
    octets = octets if counted else ASSUMED_OCTETS
    said.append(told_size(octets, counted))
    stations = [series for series in train.values() if series.kind in _PROCESSORS]
    told = [item for series in stations if (item := _station_evidence(series)) is not None]
    seen = [item for series in train.values() if (item := _queue_evidence(series, octets)) is not None]
    if not seen and not told:
        said.append("no element shows the variance of its delay under load: single packets are assumed")
        return Traffic(octets, octets_counted=counted)
    length, scv = _length_and_scv(told, seen)
    said.append(
        f"{len(told) + len(seen)} elements show trains of {length:.3g} packets, whose sizes have a squared"
        f" coefficient of variation of {scv:.2f}"
    )
    return Traffic(octets, max(1.0, length), scv, octets_counted=counted)


def _length_and_scv(told: Sequence[_Evidence], seen: Sequence[_Evidence]) -> tuple[float, float]:
    """Packets per train, and the scv of sizes.

    Stations say the length whatever the sizes; then the scv is the one by which queues say the same. Queues
    alone say a length for every scv nearly as well: the one nearest to exponential sizes is taken, of those
    that fit about as well as the best and leave (almost) no element faster than it was measured to be.
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
    usable = spread <= 1.1 * spread.min() + _AS_GOOD
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
    law = _cell_law if series.kind == "cell" else link_law
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


def element_of(series: Series, traffic: Traffic) -> ElementFit:
    """One element's fit to its points."""
    load = float(series.utilisation.mean())
    mean = _weighted(series.delay_s, series.rate)
    known = ElementFit(series.element, series.kind, points=len(series))
    if series.kind in _PROCESSORS:
        return _station(series, traffic, known)
    train_s = traffic.train_octets * 8 / 1e6 / float(series.capacity_mbps.mean())
    law = _cell_law if series.kind == "cell" else link_law
    expected = np.array([law(min(float(u), 0.99), traffic.size_scv)[0] for u in series.utilisation]) * train_s
    fixed = max(0.0, _weighted(series.delay_s - expected, series.rate))
    ratio = _weighted(series.variance_s2, series.rate) / (
        train_s**2 * law(min(load, 0.99), traffic.size_scv)[1]
    )
    busy = np.minimum(series.utilisation, 0.99)
    turns = _weighted(busy / (1.0 - busy), series.rate)
    known = replace(known, fixed_s=min(fixed, mean), variance_ratio=float(ratio), load=turns / (1.0 + turns))
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


def _judged(fitted: ElementFit, series: Series, traffic: Traffic) -> ElementFit:
    """The fit with the errors that one on the first three quarters makes on the last."""
    split = max(1, len(series) - max(1, round(len(series) * HELD_OUT)))
    early, held = series.where(slice(0, split)), series.where(slice(split, None))
    judged = element_of(early, traffic)
    columns = zip(held.utilisation, held.capacity_mbps, held.servers, strict=True)
    expected = np.array([expected_s(judged, load, speed, k, traffic) for load, speed, k in columns])
    errors = held.delay_s / expected - 1.0
    if not np.isfinite(errors).all():
        return fitted
    spread = float(((held.delay_s - held.delay_s.mean()) ** 2).sum())
    r2 = 1.0 - float(((held.delay_s - expected) ** 2).sum()) / spread if spread > 0 else math.nan
    return replace(fitted, mape=float(np.abs(errors).mean()) * 100, r2=r2)


def expected_s(fitted: ElementFit, load: float, capacity: float, servers: float, traffic: Traffic) -> float:
    """The mean delay of an element at a utilisation, by its fit; `capacity` in Mbit/s, of links and cells."""
    load = min(load, 0.99)
    if fitted.kind in _PROCESSORS:
        return fitted.fixed_s + fitted.service_s * _station_law(load, fitted.service_scv, servers)[0]
    train_s = traffic.train_octets * 8 / 1e6 / capacity
    law = _cell_law if fitted.kind == "cell" else link_law
    return float(fitted.fixed_s + train_s * law(load, traffic.size_scv)[0])
