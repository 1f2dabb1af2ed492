"""What a process shows of itself: declared figures, filled in when somebody looks. Owns names and bounds.

An instrument is declared once, with its meaning; docs/metrics.md is made from these declarations. Values are
read at the moment of a scrape from the counters that the product keeps anyway.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

__all__ = ["LATENCY_BUCKETS_S", "Distribution", "Instrument", "Kind", "Sheet"]

MAX_SERIES: Final = 10_000
"""Label sets of one instrument; what comes beyond is left out and counted."""
MAX_LABEL: Final = 120
"""Characters of a label's value."""
LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OMITTED: Final = "fedtwin_metrics_omitted_series"
_NAME = re.compile(r"fedtwin(_[a-z0-9]+)+")


class Kind(StrEnum):
    """What may happen to a figure: a counter only grows, a gauge goes both ways, a histogram counts sizes."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One figure by its Prometheus name; a counter's ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: a name is fedtwin_…, and that of a counter ends in _total")


class Distribution:
    """Counts observed sizes by bucket. `bounds` are upper ends, ascending. For one thread."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS_S) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """For each upper bound, and for +Inf, how many values were not above it."""
        total, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Sheet:
    """One look at a process: values for declared instruments, each with its labels."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._instruments = {item.name: item for item in instruments}
        self._values: dict[str, dict[tuple[str, ...], float | Distribution]] = {
            name: {} for name in self._instruments
        }
        self._omitted = 0

    def put(self, name: str, value: float | Distribution, *labels: object) -> None:
        """Show `value`, with a value for each of the instrument's labels. Raises KeyError, ValueError."""
        instrument = self._instruments[name]
        if len(labels) != len(instrument.labels):
            raise ValueError(f"{name}: has the labels {instrument.labels}, and {len(labels)} values came")
        series = self._values[name]
        key = tuple(str(label)[:MAX_LABEL] for label in labels)
        if key not in series and len(series) >= MAX_SERIES:
            self._omitted += 1
            return
        series[key] = value

    def families(self) -> Iterator[Metric]:
        """All instruments with their values, as prometheus_client writes them; those without a value too."""
        if OMITTED in self._instruments:
            self.put(OMITTED, self._omitted)
        for name, instrument in self._instruments.items():
            yield _family(instrument, self._values[name])


def _family(
    instrument: Instrument, series: dict[tuple[str, ...], float | Distribution]
) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    name, labels = instrument.name, list(instrument.labels)
    if instrument.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, instrument.help, labels=labels)
        for key, value in series.items():
            assert isinstance(value, Distribution)
            histogram.add_metric(list(key), value.cumulative(), value.sum)
        return histogram
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(name, instrument.help, labels=labels)
    for key, value in series.items():
        assert not isinstance(value, Distribution)
        family.add_metric(list(key), value)
    return family
