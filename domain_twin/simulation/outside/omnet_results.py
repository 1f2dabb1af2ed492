"""Result files of OMNeT++ (.sca, .vec; text, versions 2 and 3), read line by line. Owns the format.

The format is that of the simulation manual's appendix on result files. Values of vectors are folded into
moments as they come, so that a file may be larger than memory. Every fault names file and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from domain_twin.errors import ConfigError
from domain_twin.simulation.outside.flow_rows import FlowRow

__all__ = ["Results", "Run", "Scalar", "Statistic", "Vector", "flow_figures", "read_results"]

_VERSIONS = ("2", "3")
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^\s"\\]|\\.)+)')
_ESCAPE = re.compile(r"\\(.)")
_CONTROL = {"n": "\n", "t": "\t", "r": "\r"}
_FLOW = re.compile(r"(?:^|\.)flow\[(\d+)\]$")
_LONGEST_LINE = 1 << 20
_RUN_WORDS = ("attr", "itervar", "config", "param")


@dataclass(slots=True)
class Run:
    """One simulation run: how it was made."""

    id: str
    attributes: dict[str, str] = field(default_factory=dict)
    iteration: dict[str, str] = field(default_factory=dict)
    config: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[tuple[str, str], str] = field(default_factory=dict)  # by module and name


@dataclass(slots=True)
class Scalar:
    """One recorded number."""

    run: str
    module: str
    name: str
    value: float
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Statistic:
    """A summary: fields such as count, mean and stddev, and the bins of a histogram by their lower bound."""

    run: str
    module: str
    name: str
    fields: dict[str, float] = field(default_factory=dict)
    bins: list[tuple[float, float]] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """The value that a share of the observations stays below, linear within a bin; NaN without bins.

        The first bin is the underflow where it begins at minus infinity, the last is the overflow: a quantile
        in either is bounded by the fields min and max, where they are.
        """
        total = math.fsum(count for _, count in self.bins)
        if not total > 0:
            return math.nan
        wanted, below = share * total, 0.0
        for i, (low, count) in enumerate(self.bins):
            high = self.bins[i + 1][0] if i + 1 < len(self.bins) else self.fields.get("max", math.nan)
            if below + count >= wanted and count > 0:
                start = self.fields.get("min", math.nan) if math.isinf(low) else low
                return start + (high - start) * (wanted - below) / count
            below += count
        return math.nan


@dataclass(slots=True)
class Vector:
    """A series over time, as moments: variance of the population, and mean |v_i - v_(i-1)| of neighbours."""

    run: str
    module: str
    name: str
    columns: str
    attributes: dict[str, str] = field(default_factory=dict)
    count: int = 0
    mean: float = math.nan
    variance: float = math.nan
    least: float = math.nan
    most: float = math.nan
    jitter: float = math.nan
    _last: float = math.nan
    _time: float = -math.inf

    def take(self, time: float, value: float) -> None:
        """Fold one value in (Welford 1962)."""
        if self.count == 0:
            self.mean = self.least = self.most = value
            self.variance = self.jitter = 0.0
        else:
            off = value - self.mean
            jump = abs(value - self._last)
            self.jitter += (jump - self.jitter) / self.count
            self.mean += off / (self.count + 1)
            self.variance += (off * (value - self.mean) - self.variance) / (self.count + 1)
            self.least, self.most = min(self.least, value), max(self.most, value)
        self.count += 1
        self._last, self._time = value, time


@dataclass(slots=True)
class Results:
    """What one or several files hold."""

    runs: dict[str, Run] = field(default_factory=dict)
    scalars: list[Scalar] = field(default_factory=list)
    statistics: list[Statistic] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)


def read_results(
    paths: Iterable[Path], *, each: Callable[[Vector, float, float], None] | None = None
) -> Results:
    """Read .sca and .vec files; `each` hears all values of vectors, with their times. Raises ConfigError."""
    results = Results()
    for path in paths:
        _Reader(path, results, each).read()
    return results


@dataclass
class _Reader:
    path: Path
    results: Results
    each: Callable[[Vector, float, float], None] | None
    _line: int = 0
    _version: str = ""
    _run: Run | None = None
    _item: Scalar | Statistic | Vector | None = None
    _vectors: dict[str, Vector] = field(default_factory=dict)

    def read(self) -> None:
        try:
            with self.path.open(encoding="utf-8") as lines:
                while line := lines.readline(_LONGEST_LINE):
                    self._line += 1
                    if len(line) >= _LONGEST_LINE:
                        raise self._fault("a line of more than a megabyte; this is no result file")
                    self._take(line)
        except UnicodeDecodeError as error:
            raise self._fault(
                f"no text (byte {error.start}); SQLite results are exported by `opp_scavetool`"
            ) from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error
        if not self._version:
            raise ConfigError(
                f"{self.path}: empty, or without `version`; name a .sca or .vec file of OMNeT++"
            )

    def _fault(self, why: str) -> ConfigError:
        return ConfigError(f"{self.path}, line {self._line}: {why}")

    def _take(self, line: str) -> None:
        head = line.split(None, 1)
        if not head or head[0].startswith("#"):
            return
        word = head[0]
        if word.isdigit():  # by far the most lines of a .vec file
            self._value(line.split())
            return
        tokens = self._tokens(line)
        if word == "version":
            self._read_version(tokens)
            return
        if not self._version:
            raise self._fault(f"{word!r} where `version` is expected; name a .sca or .vec file of OMNeT++")
        if word == "run":
            self._begin(tokens)
        elif self._run is None:
            raise self._fault(f"{word!r} before any `run`")
        elif word in ("scalar", "statistic", "histogram", "vector"):
            self._declare(word, tokens, self._run)
        elif word in ("field", "bin"):
            self._detail(word, tokens)
        elif word in _RUN_WORDS or word == "par":
            self._describe(word, tokens, self._run)
        else:
            raise self._fault(f"{word!r} is no entry of versions {' and '.join(_VERSIONS)}")

    def _tokens(self, line: str) -> list[str]:
        tokens, end = [], 0
        for match in _TOKEN.finditer(line):
            if line[end : match.start()].strip():
                break
            quoted, bare = match.groups()
            tokens.append(_ESCAPE.sub(lambda m: _CONTROL.get(m[1], m[1]), quoted if bare is None else bare))
            end = match.end()
        if line[end:].strip():
            raise self._fault("a quote that does not end")
        return tokens

    def _read_version(self, tokens: Sequence[str]) -> None:
        if len(tokens) != 2 or tokens[1] not in _VERSIONS:
            raise self._fault(
                f"version {' '.join(tokens[1:])!r}; {' and '.join(_VERSIONS)} are read (OMNeT++ 4 to 6)"
            )
        self._version = tokens[1]

    def _begin(self, tokens: Sequence[str]) -> None:
        if len(tokens) != 2:
            raise self._fault("`run` takes one id")
        self._run = self.results.runs.setdefault(tokens[1], Run(tokens[1]))
        self._item = None
        self._vectors = {}

    def _number(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise self._fault(f"{text!r} is no number") from None

    def _declare(self, word: str, tokens: Sequence[str], run: Run) -> None:
        if word == "scalar":
            if len(tokens) != 4:
                raise self._fault("`scalar` takes module, name and value")
            self._item = Scalar(run.id, tokens[1], tokens[2], self._number(tokens[3]))
            self.results.scalars.append(self._item)
        elif word == "vector":
            if len(tokens) not in (4, 5) or not tokens[1].isdigit():
                raise self._fault("`vector` takes a number, module, name, and columns")
            columns = tokens[4] if len(tokens) == 5 else "TV"
            if sorted(columns) not in (["T", "V"], ["E", "T", "V"]):
                raise self._fault(f"columns {columns!r}; T, V and perhaps E are expected")
            if tokens[1] in self._vectors:
                raise self._fault(f"vector {tokens[1]} is declared twice in this run")
            self._item = self._vectors[tokens[1]] = Vector(run.id, tokens[2], tokens[3], columns)
            self.results.vectors.append(self._item)
        else:
            if len(tokens) != 3:
                raise self._fault(f"`{word}` takes module and name")
            self._item = Statistic(run.id, tokens[1], tokens[2])
            self.results.statistics.append(self._item)

    def _detail(self, word: str, tokens: Sequence[str]) -> None:
        if len(tokens) != 3:
            raise self._fault(f"`{word}` takes two words")
        if not isinstance(self._item, Statistic):
            raise self._fault(f"`{word}` without a statistic before it")
        if word == "field":
            self._item.fields[tokens[1]] = self._number(tokens[2])
            return
        low, count = self._number(tokens[1]), self._number(tokens[2])
        if math.isnan(low) or not count >= 0:
            raise self._fault(f"a bin from {tokens[1]} with {tokens[2]} observations")
        if self._item.bins and low <= self._item.bins[-1][0]:
            raise self._fault(f"bins have to rise; {tokens[1]} follows {self._item.bins[-1][0]:g}")
        self._item.bins.append((low, count))

    def _describe(self, word: str, tokens: Sequence[str], run: Run) -> None:
        if word == "par":
            if len(tokens) != 4:
                raise self._fault("`par` takes module, name and value")
            run.parameters[tokens[1], tokens[2]] = tokens[3].strip('"')
            self._item = Scalar(run.id, tokens[1], tokens[2], math.nan)  # takes the attributes that follow
            return
        if len(tokens) != 3:
            raise self._fault(f"`{word}` takes a name and a value")
        if word == "attr":
            (self._item or run).attributes[tokens[1]] = tokens[2]
        elif word == "itervar":
            run.iteration[tokens[1]] = tokens[2]
        else:
            run.config.append((tokens[1], tokens[2]))

    def _value(self, tokens: Sequence[str]) -> None:
        vector = self._vectors.get(tokens[0])
        if vector is None:
            raise self._fault(f"a value of vector {tokens[0]}, which this run does not declare")
        if len(tokens) != len(vector.columns) + 1:
            raise self._fault(f"{len(tokens) - 1} columns; vector {tokens[0]} has {vector.columns}")
        time = self._number(tokens[1 + vector.columns.index("T")])
        value = self._number(tokens[1 + vector.columns.index("V")])
        if not time >= vector._time:
            raise self._fault(f"time {time} of vector {tokens[0]} lies before {vector._time}")
        vector.take(time, value)
        if self.each:
            self.each(vector, time, value)


def flow_figures(
    results: Results, flows: Sequence[tuple[str, str, str]] = (), *, run: str | None = None
) -> list[FlowRow]:
    """What each flow got, for results of networks that `omnet.export` wrote: modules `flow[i]`.

    `flows` names them by index (source, target, class), as the recorded parameters do otherwise. Variance is
    of the population; percentiles are read off the histogram, jitter off the vector. Raises ConfigError.
    """
    chosen = _one_run(results, run)
    found: dict[int, _Seen] = {}
    for scalar in results.scalars:
        if scalar.run == chosen.id and (match := _FLOW.search(scalar.module)):
            found.setdefault(int(match[1]), _Seen(scalar.module)).scalars[scalar.name] = scalar.value
    for statistic in results.statistics:
        if statistic.run == chosen.id and (match := _FLOW.search(statistic.module)):
            seen = found.setdefault(int(match[1]), _Seen(statistic.module))
            if statistic.name.startswith("delay") and (seen.delay is None or statistic.bins):
                seen.delay = statistic
    for vector in results.vectors:
        if (
            vector.run == chosen.id
            and vector.name.startswith("delay")
            and (match := _FLOW.search(vector.module))
        ):
            found.setdefault(int(match[1]), _Seen(vector.module)).vector = vector
    if not found:
        raise ConfigError(
            f"run {chosen.id}: no module flow[i]; results of networks exported by FedTwin are expected"
        )
    return [_row(chosen, i, found[i], flows) for i in sorted(found)]


@dataclass(slots=True)
class _Seen:
    module: str
    scalars: dict[str, float] = field(default_factory=dict)
    delay: Statistic | None = None
    vector: Vector | None = None


def _one_run(results: Results, wanted: str | None) -> Run:
    if wanted is not None and wanted in results.runs:
        return results.runs[wanted]
    if wanted is not None or len(results.runs) != 1:
        names = ", ".join(results.runs) or "none"
        raise ConfigError(f"run {wanted or '(which?)'}: name one of the runs in these files: {names}")
    return next(iter(results.runs.values()))


def _row(run: Run, index: int, seen: _Seen, flows: Sequence[tuple[str, str, str]]) -> FlowRow:
    if index < len(flows):
        source, target, traffic_class = flows[index]
    else:
        words = ("source", "target", "trafficClass")
        source, target, traffic_class = (
            run.parameters.get((seen.module, word), f"flow[{index}]") for word in words
        )
    sent = _first(seen.scalars, "sent:count", "sent")
    received = _first(seen.scalars, "received:count", "received")
    mean, variance = _moments(seen)
    p90, p95, p99 = (seen.delay.quantile(q) * 1e3 if seen.delay else math.nan for q in (0.9, 0.95, 0.99))
    return FlowRow(
        source,
        target,
        traffic_class,
        math.nan,
        mean * 1e3,
        variance * 1e6,
        1 - received / sent if sent > 0 else math.nan,
        math.nan,
        p90,
        p95,
        p99,
        jitter_ms=seen.vector.jitter * 1e3 if seen.vector else math.nan,
    )


def _moments(seen: _Seen) -> tuple[float, float]:
    if seen.delay is not None and "mean" in seen.delay.fields:
        count = seen.delay.fields.get("count", math.nan)
        sample = seen.delay.fields.get("stddev", math.nan) ** 2  # of a sample: over n - 1
        return seen.delay.fields["mean"], sample * (count - 1) / count if count > 1 else math.nan
    if seen.vector is not None:
        return seen.vector.mean, seen.vector.variance
    return seen.scalars.get("delay:mean", math.nan), math.nan


def _first(values: Mapping[str, float], *names: str) -> float:
    return next((values[name] for name in names if name in values), math.nan)
