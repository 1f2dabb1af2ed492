"""A what-if across domains: prepare, route, iterate to the fixed point, compose. Owns the order of the steps.

Domains are asked through `Part`s; what crosses the seam is only what `wire.simulate` has words for. A domain
that refuses, or leaves on the way, costs the flows that cross it their figures (NaN), never the answer: its
outcome says why.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from domain_twin.errors import ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.model import DomainOutcome, Outcome, Version, View
from domain_twin.simulation.graph import TrafficClass
from federation.whatif_changes import Case, Sight
from federation.whatif_flows import Known, KnownFlows, known_flows
from federation.whatif_rounds import Flows, Rounds, WholeWay
from federation.whatif_routes import Leg, RouteFinder, Ways
from federation.wire.refusals import outcome_of
from federation.wire.simulate import Figures, Keys, Prepare, Prepared, Round

__all__ = ["Forecast", "Part", "Question", "predict"]

log = logging.getLogger(__name__)

MOST_ROUNDS = 60
MOST_FLOWS = 400_000
"""In all variants together."""
_TRIES = 5
_PAUSE_S = 0.1  # before a busy domain is asked again that does not say when

Progress = Callable[[float, str], None]


class Part(Protocol):
    """One domain's part of one job, wherever it is computed."""

    @property
    def domain(self) -> str:
        """Whose part it is."""

    async def prepare(self, ask: Prepare) -> Prepared:
        """Round 0. Raises what a refusal stands for."""

    async def round(self, ask: Round) -> Figures:
        """One round. Raises what a refusal stands for."""

    def end(self) -> None:
        """Nothing more will be asked: the domain may forget."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: variants (the base first), whose flows, and what each domain must be at."""

    cases: Sequence[Case]
    known: Sequence[Known]
    sight: Sight
    name: str = ""
    at_versions: Mapping[str, Version] = field(default_factory=dict)
    corrected: bool = True
    """By the residual that domains learned together, where one is in service."""


@dataclass(slots=True)
class Forecast:
    """What was found: flows by variant, what each domain said, and what the numbers rest on."""

    flows: KnownFlows
    legs: list[list[tuple[Leg, ...] | None]]  # [variant][flow]
    unsure: np.ndarray[Any, np.dtype[np.bool_]]  # [V, F] no way was found, and a domain did not say
    way: WholeWay
    leg_delay_s: Mapping[str, Mapping[tuple[int, str, str, int], float]]
    link_use: Mapping[tuple[int, str], float]
    """How busy the way out at a border point is, by variant."""
    outcomes: tuple[DomainOutcome, ...]
    assumptions: tuple[str, ...]
    rounds: int
    converged: bool


async def predict(
    question: Question,
    parts: Sequence[Part],
    *,
    missing: Mapping[str, TwinError],
    views: Mapping[str, View],
    progress: Progress = lambda *_: None,
    deadline: float = math.inf,
) -> Forecast:
    """Ask the domains until their answers agree, and compose them.

    `missing` are domains that are not asked, and why; `views` what is known of them. `deadline` is on the
    clock of the loop: domains that have not answered then are left out. Raises TwinError only where no domain
    answers at all.
    """
    talk = _Talk(parts, deadline, dict(missing))
    try:
        progress(0.02, "the domains apply the changes")
        prepared = await talk.prepare(question)
        if not prepared:
            raise next(iter(talk.failed.values()), Unreachable("no domain of the federation is connected"))
        flows, legs, rounds = await asyncio.to_thread(_laid_out, question, prepared, views)
        unsure = np.array([[way is None and bool(talk.failed) for way in row] for row in legs], dtype=bool)
        unsure = unsure.reshape(len(legs), len(flows.pairs))
        keys = {
            domain: _keys(rounds.keys[domain], prepared[domain], flows.classes)
            for domain in rounds.keys
            if domain in prepared
        }
        count, converged = await _iterate(talk, rounds, keys, progress)
        progress(0.9, "the domains say what they found")
        figures = await talk.round(rounds, keys, final=True)
        delays = {domain: rounds.leg_figure(figures, domain, "delay_s") for domain in rounds.keys}
        return Forecast(
            flows,
            legs,
            unsure,
            await asyncio.to_thread(rounds.whole_way, figures),
            delays,
            dict(_link_use(figures, prepared)),
            talk.outcomes(prepared, rounds.keys.keys()),
            (*flows.assumptions, *talk.assumptions(prepared)),
            count,
            converged and not any(told.unsettled for told in figures.values() if told),
        )
    finally:
        talk.end()


def _prepare(question: Question, domain: str) -> Prepare:
    """What a domain is asked in round 0. Blocks for large sweeps."""
    variants = tuple(case.part(domain, question.sight) for case in question.cases)
    return Prepare(variants, question.name, question.at_versions.get(domain), question.corrected)


def _laid_out(
    question: Question, prepared: Mapping[str, Prepared], views: Mapping[str, View]
) -> tuple[KnownFlows, list[list[tuple[Leg, ...] | None]], Rounds]:
    """The flows, their ways in every variant, and the rows of the rounds. Blocks."""
    finders = _finders(question, prepared, views)
    flows = known_flows(question.known, question.cases, prepared, finders[0])
    if len(finders) * len(flows.pairs) > MOST_FLOWS:
        raise OverCapacity(
            f"{len(finders)} variants of {len(flows.pairs)} flows are asked for; at most {MOST_FLOWS} in all"
            " at once: ask in smaller pieces"
        )
    legs = [[finder.legs(*pair) for pair in flows.pairs] for finder in finders]
    return flows, legs, Rounds(Flows(flows.kinds, flows.rate, flows.square), legs, flows.classes)


def _link_use(
    figures: Mapping[str, Figures | None], prepared: Mapping[str, Prepared]
) -> Iterator[tuple[tuple[int, str], float]]:
    for domain, told in figures.items():
        if told is not None:
            points = prepared[domain].points
            columns = (told.link_variant, told.link_point, told.link_utilisation)
            for variant, point, use in zip(*(each.tolist() for each in columns), strict=True):
                if point < len(points):
                    yield (variant, points[point]), use


async def _iterate(
    talk: _Talk, rounds: Rounds, keys: Mapping[str, Keys], progress: Progress
) -> tuple[int, bool]:
    """Rounds until no loss moves any more; how many, and whether that was reached."""
    damping, before = 0.0, math.inf
    for number in range(1, MOST_ROUNDS + 1):
        told = await talk.round(rounds, keys, keys_too=number == 1)
        losses = {domain: answer.loss if answer else None for domain, answer in told.items()}
        change = rounds.learn(losses, damping=damping)
        progress(0.1 + 0.8 * (1.0 - 0.5**number), f"round {number}: losses moved by {change:.1e}")
        if rounds.settled:
            return number, True
        if talk.late:
            return number, False
        if change > 0.9 * before:
            damping = 0.5
        before = change
    return MOST_ROUNDS, False


class _Talk:
    """The conversation with all parts: who failed, and why; nobody is asked again after that."""

    def __init__(self, parts: Sequence[Part], deadline: float, failed: dict[str, TwinError]) -> None:
        self.failed = failed
        self._parts = {part.domain: part for part in parts}
        self._deadline = deadline
        self._crossed: set[str] = set()

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return asyncio.get_running_loop().time() >= self._deadline

    async def prepare(self, question: Question) -> dict[str, Prepared]:
        """Round 0 with everybody."""

        async def one(part: Part) -> Prepared:
            ask = await asyncio.to_thread(_prepare, question, part.domain)
            prepared = await part.prepare(ask)
            _check(prepared, part.domain, len(question.cases))
            return prepared

        found = await self._all({domain: partial(one, part) for domain, part in self._parts.items()})
        return {domain: prepared for domain, prepared in found.items() if prepared is not None}

    async def round(
        self, rounds: Rounds, keys: Mapping[str, Keys], *, keys_too: bool = False, final: bool = False
    ) -> dict[str, Figures | None]:
        """One round with all who are crossed; None: failed."""
        offered = rounds.offered()

        async def one(domain: str) -> Figures:
            rate, square = offered[domain]
            ask = Round(rate, square, keys[domain] if keys_too else None, final)
            told = await self._parts[domain].round(ask)
            wanted = {"loss": True} | dict.fromkeys(_FINAL, final)
            for name, needed in wanted.items():
                if needed and len(getattr(told, name)) != len(rate):
                    raise ContractError(
                        f"{domain}: {len(getattr(told, name))} rows of {name} came, not {len(rate)}"
                    )
            return told

        self._crossed = set(keys)
        found = await self._all({domain: partial(one, domain) for domain in keys})
        return {domain: found.get(domain) for domain in rounds.keys}

    def outcomes(self, prepared: Mapping[str, Prepared], crossed: Any) -> tuple[DomainOutcome, ...]:
        """Every domain's part in the answer."""
        told = []
        for domain in sorted({*self._parts, *self.failed}):
            version = prepared[domain].version if domain in prepared else None
            error = self.failed.get(domain)
            if error is not None:
                told.append(DomainOutcome(domain, outcome_of(error), version, str(error)))
            else:
                reason = "" if domain in crossed else "no flow that is reported crosses it"
                told.append(DomainOutcome(domain, Outcome.OK, version, reason))
        return tuple(told)

    def assumptions(self, prepared: Mapping[str, Prepared]) -> tuple[str, ...]:
        """What the domains said that their numbers rest on."""
        said = []
        for domain, answer in sorted(prepared.items()):
            said += [f"{domain}: {sentence}" for sentence in answer.assumptions]
            if answer.private_changes:
                said.append(f"{domain}: its owner made changes of its own as well, which are not shown here")
        for domain in sorted(self.failed.keys() & self._crossed):
            said.append(f"{domain}: what it loses is not known; what crossed it is taken to arrive whole")
        return tuple(said)

    def end(self) -> None:
        """Let every domain forget."""
        for part in self._parts.values():
            part.end()

    async def _all(self, asks: Mapping[str, Callable[[], Awaitable[Any]]]) -> dict[str, Any]:
        """Ask all that did not fail yet, at once; who fails is noted and left out."""

        async def guarded(domain: str, ask: Callable[[], Awaitable[Any]]) -> Any:
            try:
                async with asyncio.timeout_at(self._deadline if math.isfinite(self._deadline) else None):
                    return await _patient(ask)
            except TimeoutError as error:
                late = Unreachable(f"{domain}: it did not answer before the deadline of the job")
                self.failed[domain] = error if isinstance(error, TwinError) else late
            except TwinError as error:
                self.failed[domain] = error
            log.info("domain left out", extra={"domain": domain, "reason": str(self.failed[domain])})
            return None

        left = [domain for domain in asks if domain not in self.failed]
        answers = await asyncio.gather(*(guarded(domain, asks[domain]) for domain in left))
        return dict(zip(left, answers, strict=True))


async def _patient(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again a domain that says it is busy, as often as it is likely to pass."""
    for attempt in range(_TRIES):
        try:
            return await ask()
        except OverCapacity as error:
            if attempt == _TRIES - 1:
                raise
            await asyncio.sleep(error.retry_after_s or _PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _check(prepared: Prepared, domain: str, variants: int) -> None:
    """Refuse an answer that speaks of other domains' points, or not of every variant."""
    for point in prepared.points:
        if point.partition("/")[0] != domain:
            raise ContractError(f"{domain}: names {point!r}, a point that is not its own")
    if len(prepared.table_of) != variants:
        raise ContractError(
            f"{domain}: says ways for {len(prepared.table_of)} variants where {variants} were asked about"
        )


def _keys(
    names: Sequence[tuple[int, str, str, int]], prepared: Prepared, classes: tuple[TrafficClass, ...]
) -> Keys:
    place = {name: index for index, name in enumerate(prepared.points)}
    columns = np.array(
        [(variant, place[source], place[target], kind) for variant, source, target, kind in names],
        dtype=np.uint32,
    ).reshape(-1, 4)
    return Keys(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], classes)


def _finders(
    question: Question, prepared: Mapping[str, Prepared], views: Mapping[str, View]
) -> list[RouteFinder]:
    """Ways of all domains in every variant; variants with the same ways share one."""
    tables = {
        domain: [_ways(answer, table) for table in range(len(answer.tables))]
        for domain, answer in prepared.items()
    }
    shown = {domain: ways_of(view) for domain, view in views.items() if domain not in prepared}
    crossings = question.sight.crossings
    order = sorted(prepared)
    found: dict[tuple[int, ...], RouteFinder] = {}
    finders = []
    for variant in range(len(question.cases)):
        mark = tuple(int(prepared[domain].table_of[variant]) for domain in order)
        if mark not in found:
            ways = {domain: tables[domain][table] for domain, table in zip(order, mark, strict=True)}
            found[mark] = RouteFinder(shown | ways, crossings)
        finders.append(found[mark])
    return finders


def _ways(prepared: Prepared, table: int) -> Ways:
    found: dict[str, dict[str, float]] = {}
    columns = prepared.tables[table]
    for source, target, metric in zip(
        columns.source.tolist(), columns.target.tolist(), columns.metric.tolist(), strict=True
    ):
        found.setdefault(prepared.points[source], {})[prepared.points[target]] = metric
    return found


def ways_of(view: View) -> Ways:
    """The ways of a domain that does not answer, as its view last showed them: which way, not how fast."""
    found: dict[str, dict[str, float]] = {}
    for (source, target), segment in view.segments.items():
        there = view.points.get(target)
        if segment.current is not None and there is not None and there.up:
            found.setdefault(source, {})[target] = float(segment.current.metric + there.metric)
    return found


_FINAL = ("delay_s", "variance_s2", "service_s", "fixed_s", "interval_s")
