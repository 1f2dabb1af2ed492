"""The what-ifs of peers that this agent has a part in: made from the live twin, kept between rounds, dropped.

Owns how many there may be and for how long, and that nothing inner is named in what a peer is told: elements
that are not shared and elements that do not exist are refused in the same words, and what went wrong inside
is for the owner's log alone. The owner's own changes come from files in a folder of the state.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.agent.session import Asked
from domain_twin.disclosure.policy import Grant
from domain_twin.disclosure.terminals import Terminal, terminals
from domain_twin.errors import ConfigError, ContractError, NotShared, OverCapacity, StaleVersion, TwinError
from domain_twin.model import Level, Network, Version
from domain_twin.model.scenario import Change, ConfigChange, NewService
from federation.wire.simulate import Figures, Prepare, Prepared, Round

if TYPE_CHECKING:
    from domain_twin.agent.corrections import InService
    from domain_twin.agent.what_if_part import PartTwin, WhatIfPart
    from domain_twin.simulation.graph import Demand, SimGraph, Variant
    from domain_twin.simulation.twin.calibration import Calibration
    from domain_twin.simulation.twin.compile import Compiled
    from domain_twin.simulation.twin.traffic import Loads

__all__ = ["ANY_QUESTION", "MOST_PARTS", "PRIVATE_FOLDER", "WhatIfJobs"]

log = logging.getLogger(__name__)

MOST_PARTS = 4
"""Parts kept for one peer; who asks for more is told to come again."""
PRIVATE_FOLDER = "what-if"
"""In the state folder: NAME.yaml holds the owner's changes for questions called NAME."""
ANY_QUESTION = "any"
_IDLE_S = 120.0
_AGAIN_S = 0.5
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$")


@dataclass(slots=True, eq=False)
class _Kept:
    """One part, and under what it was made."""

    grant: Grant
    on_behalf_of: str
    part: WhatIfPart
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    timer: asyncio.TimerHandle | None = None


class WhatIfJobs:
    """Parts by peer and job. All methods are for the agent's event loop; solving happens in threads."""

    def __init__(
        self,
        *,
        network: Callable[[], Network],
        published: Mapping[str, str],
        calibration: Callable[[], Calibration | None],
        learned: Callable[[], InService | None] = lambda: None,
        loads: Callable[[Network], Loads | None] = lambda _: None,
        private: Path | None = None,
        idle_s: float = _IDLE_S,
        most_parts: int = MOST_PARTS,
    ) -> None:
        """`loads`: what elements carry, None: as the network says; `private`: folder of the owner's changes.
        `learned`: the residual in service.

        None for `private`: there are none.
        """
        self._network = network
        self._calibration = calibration
        self._learned = learned
        self._loads = loads
        self._published = published
        self._private = private
        self._idle_s = idle_s
        self._most_parts = most_parts
        self._parts: dict[tuple[str, str], _Kept] = {}
        self._making: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._parts)

    async def prepare(self, ask: Asked, grant: Grant, step: Prepare, shown: Version) -> Prepared:
        """Round 0: pin the twin as it is. `shown` is the version of the peer's view.

        Raises NotShared, StaleVersion, OverCapacity, ContractError.
        """
        if not ask.job_id:
            raise ContractError("a what-if needs the id of its job; the ask has none")
        if grant.level is Level.NODE:
            raise NotShared(
                f"the agreement {grant.agreement!r} shows this domain as one node, and a what-if tells its"
                " ways apart; it needs the level 'mesh'"
            )
        if step.at_version is not None and _place(step.at_version) != _place(shown):
            raise StaleVersion(
                f"the view is at {_place(shown)} and {_place(step.at_version)} was asked about; ask again"
            )
        key = (str(ask.peer), ask.job_id)
        if key in self._parts or key in self._making:
            raise ContractError(f"the job {ask.job_id!r} was prepared already; end it first")
        mine = sum(peer == key[0] for peer, _ in (*self._parts, *self._making))
        if mine >= self._most_parts:
            error = OverCapacity(f"{mine} what-ifs of yours are kept here, as many as may be at once")
            error.retry_after_s = _AGAIN_S
            raise error
        self._making.add(key)
        try:
            network = self._network()
            part = await asyncio.to_thread(self._make, network, self._loads(network), step, grant, shown)
            kept = _Kept(grant, ask.on_behalf_of, part)
            prepared = await asyncio.to_thread(part.prepared)
        finally:
            self._making.discard(key)
        self._parts[key] = kept
        self._touch(key, kept)
        return prepared

    async def round(self, ask: Asked, grant: Grant, step: Round) -> Figures:
        """One round of a job. Raises StaleVersion where its part is no longer here, ContractError."""
        key = (str(ask.peer), ask.job_id)
        kept = self._parts.get(key)
        if kept is None or kept.on_behalf_of != ask.on_behalf_of:
            raise StaleVersion(
                f"nothing is kept here of the job {ask.job_id!r}: it ended, was idle for {self._idle_s:g} s,"
                " or the session was lost; ask anew"
            )
        if kept.grant != grant:
            self._drop(key)
            raise StaleVersion(f"the agreement {grant.agreement!r} was changed; ask anew")
        async with kept.busy:
            self._touch(key, kept)
            return await asyncio.to_thread(kept.part.round, step)

    def end(self, job_id: str) -> None:
        """Forget a job."""
        for key in [key for key in self._parts if key[1] == job_id]:
            self._drop(key)

    def forget(self) -> None:
        """Forget all jobs: the session that they came over is lost."""
        for key in list(self._parts):
            self._drop(key)

    # ---------------------------------------------------------------------------------------- inside

    def _touch(self, key: tuple[str, str], kept: _Kept) -> None:
        if kept.timer:
            kept.timer.cancel()
        kept.timer = asyncio.get_running_loop().call_later(self._idle_s, self._drop, key)

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._parts.pop(key, None)
        if kept and kept.timer:
            kept.timer.cancel()

    def _make(
        self, network: Network, loads: Loads | None, step: Prepare, grant: Grant, shown: Version
    ) -> WhatIfPart:
        from domain_twin.agent.what_if_part import WhatIfPart

        twin = self._twin(network, loads, step, replace(shown, observed_at=network.version.observed_at))
        return WhatIfPart(twin, precision=grant.precision, figures=grant.figures)

    def _twin(self, network: Network, loads: Loads | None, step: Prepare, version: Version) -> PartTwin:
        """What the part is computed from. Blocks."""
        from domain_twin.agent.what_if_part import PartTwin, PointNodes
        from domain_twin.simulation.solve import Engine
        from domain_twin.simulation.twin.compile import compile_network
        from domain_twin.simulation.twin.uncertainty import flow_intervals

        seen = {point.id: point for point in terminals(network, self._published)[0]}
        inner = _inner_ids(network.domain, seen, self._published)
        asked = [tuple(_inside(change, inner) for change in variant.changes) for variant in step.variants]
        own = self._own_changes(step.scenario)
        try:
            calibration = self._calibration()
            compiled = compile_network(
                network, loads=loads, calibration=calibration, published=self._published
            )
            learned = self._learned() if step.corrected else None
            correction = learned.on(compiled.graph, calibration)[0] if learned is not None else None
            intervals = None
            if calibration is not None:
                engine = Engine(compiled.graph, compiled.demand, correction=correction)
                intervals = flow_intervals(engine.solve(), calibration)
        except TwinError as error:
            log.warning("no part in a what-if", extra={"reason": str(error)})
            raise _hidden("its network cannot be computed now") from None
        points: dict[str, PointNodes] = {}
        assumptions = []
        for name, point in seen.items():
            element = inner[name]
            if element not in compiled.node_of:
                continue
            at = compiled.node_of[element]
            leaves = at
            if point.role == "cell":
                leaves = compiled.node_of.get(point.node, at)
                assumptions.append(f"ways to {name} end before its air interface: only uplink is measured")
            points[name] = PointNodes(at, leaves, border=point.border is not None)
        if learned is not None and correction is not None and correction.links:
            assumptions.append(
                "delays of links inside are corrected by what was learned of them (model"
                f" {learned.name}); --no-residual leaves it out"
            )
        if compiled.assumptions:
            assumptions.append(
                f"{len(compiled.assumptions)} things are assumed inside that were not measured; its operator"
                " sees which"
            )

        def variants(graph: SimGraph, demand: Demand) -> Sequence[Variant]:
            return _variants(_Arrays(compiled, graph, demand), step, asked, own)

        return PartTwin(
            version=version,
            graph=compiled.graph,
            demand=compiled.demand,
            points=points,
            variants=variants,
            assumptions=tuple(assumptions),
            intervals=intervals,
            private_changes=bool(own),
            correction=correction,
        )

    def _own_changes(self, scenario: str) -> tuple[Change, ...]:
        """What the owner adds to a question of this name, and to any."""
        if self._private is None:
            return ()
        from domain_twin.simulation.questions.scenario_file import load_scenario

        found: list[Change] = []
        names = [ANY_QUESTION]
        if _NAME.match(scenario) and scenario != ANY_QUESTION:
            names.append(scenario)
        for name in names:
            path = self._private / f"{name}.yaml"
            if not path.exists():
                continue
            try:
                changes = load_scenario(path).changes
                for change in changes:
                    if isinstance(change, ConfigChange | NewService):
                        raise ConfigError(
                            f"{path}: a {change.kind} change cannot be added to a peer's question; use"
                            " changes of elements and demand"
                        )
            except ConfigError as error:
                log.error("own changes not used", extra={"file": str(path), "reason": str(error)})
                raise _hidden("its owner's changes cannot be applied") from None
            found += changes
        return tuple(found)


def _variants(
    arrays: _Arrays, step: Prepare, asked: Sequence[Sequence[Change]], own: Sequence[Change]
) -> list[Variant]:
    """The question's variants as this network makes them; the owner's changes in all but the base."""
    from domain_twin.simulation.questions.changes import Elements, changed

    elements = Elements(arrays)
    made: dict[tuple[Change, ...], Variant] = {}
    found = []
    for number, (variant, changes) in enumerate(zip(step.variants, asked, strict=True)):
        every = (*changes, *(own if number else ()))
        if every not in made:
            try:
                made[every] = changed(elements, every, name="")[0]
            except TwinError as error:
                log.warning("variant refused", extra={"variant": variant.name, "reason": str(error)})
                kinds = ", ".join(sorted({f"{c.kind} of {_named(c)}" for c in variant.changes}))
                raise _hidden(f"the changes of {variant.name!r} ({kinds}) cannot be made here") from None
        found.append(replace(made[every], name=variant.name))
    return found


@dataclass(frozen=True, slots=True)
class _Arrays:
    """A compiled network with other classes and demand."""

    base: Compiled
    graph: SimGraph
    demand: Demand

    @property
    def edges_of(self) -> Mapping[str, Sequence[int]]:
        """Edge indices by element id."""
        return self.base.edges_of

    @property
    def node_of(self) -> Mapping[str, int]:
        """Node index by element id."""
        return self.base.node_of


def _inner_ids(domain: str, seen: Mapping[str, Terminal], published: Mapping[str, str]) -> dict[str, str]:
    """The element behind each point that a peer sees."""
    inner = {}
    for name, point in seen.items():
        if point.border is None:
            inner[name] = published[name.removeprefix(f"{domain}/")]
        else:
            assert point.border.inter_domain
            inner[name] = point.border.inter_domain.link_id
    return inner


def _inside(change: Change, inner: Mapping[str, str]) -> Change:
    """A peer's change under the inner names of what it names. Raises NotShared, whether or not it exists."""
    if isinstance(change, ConfigChange):
        raise NotShared(f"{change.device} is not shared with you")
    named = {
        field: name
        for field in ("element", "source", "target")
        if (name := getattr(change, field, None)) is not None
    }
    for name in named.values():
        if name not in inner:
            raise NotShared(f"{name} is not shared with you")
    if isinstance(change, NewService):
        raise ContractError(f"service {change.name!r}: its traffic comes in rounds, not as a change")
    return change.model_copy(update={field: inner[name] for field, name in named.items()})


def _named(change: Change) -> str:
    return getattr(change, "element", None) or "demand"


def _hidden(what: str) -> TwinError:
    """An error that a peer may read: it says nothing of what is inside."""
    return ConfigError(f"{what}; the domain's own operator sees why")


def _place(version: Version) -> str:
    return f"{version.epoch}/{version.sequence}"
