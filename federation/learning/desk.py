"""The broker's trainings: who may join, which runs, what became of it, and the models that came of them.

A training is offered to the domains, conducted in a thread, and its model kept and delivered; a domain that
judges it worse on its own data does not use it. What runs when the broker ends is failed then, and what ran
when it was killed is found so at its next start. For one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from domain_twin.config import BrokerLearningConfig
from domain_twin.errors import ConfigError, Conflict, NotFound, TwinError, Unreachable
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.run_store import RunStore
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Task
from domain_twin.model import DomainOutcome, Finding, Nanoseconds
from federation.learning.conduct import Conducted, conduct
from federation.learning.delivery import Delivery
from federation.learning.registry import ModelRegistry
from federation.learning.session_grid import SessionCarrier, SessionOf
from federation.learning.turns import check_share, next_of

__all__ = ["LearningDesk"]

log = logging.getLogger(__name__)

ENDED_WITH_BROKER: Final = "the broker ended; start the training anew"
_LEAST_DOMAINS: Final = 2


@dataclass(slots=True)
class _Entry:
    run: Run
    stop: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: str = ""
    late: bool = False
    """It took as long as a training may."""
    delivering: bool = False


class LearningDesk:
    """Takes trainings in and runs them. Made on the event loop; `run` works until cancelled."""

    def __init__(
        self,
        config: BrokerLearningConfig,
        runs: RunStore,
        registry: ModelRegistry,
        *,
        session_of: SessionOf,
        members: Callable[[], Sequence[str]],
        operators: Mapping[str, str],
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`members` are the domains of the federation, connected or not, `operators` whose each is."""
        self.registry = registry
        self.rounds = 0
        """Rounds that were run since the broker began."""
        self.messages: Counter[tuple[str, str]] = Counter()
        """Messages of rounds by domain and outcome, since the broker began."""
        self.problem = ""
        """Why trainings cannot be written to disk."""
        self._config = config
        self._runs = runs
        self._session_of = session_of
        self._delivery = Delivery(session_of)
        self._members = members
        self._operators = operators
        self._clock = clock
        self._max_bytes = int(config.max_mb * 1e6)
        self._entries: dict[str, _Entry] = {}
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(config.runs, "learning")
        self._closing = False

    def load(self) -> None:
        """Take over what is on disk; blocks. What ran is failed: the broker ended."""
        for run in self._runs.load():
            if not run.state.ended:
                run = replace(  # noqa: PLW2901
                    run, state=RunState.FAILED, problem=ENDED_WITH_BROKER, ended_at=self._clock()
                )
                self._written(run)
            self._entries[run.id] = _Entry(run)

    # ------------------------------------------------------------ asking

    def runs(self) -> list[Run]:
        """Trainings, newest first."""
        found = [entry.run for entry in self._entries.values()]
        return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)

    def run_of(self, identity: str) -> Run:
        """One training, by its id or the beginning of it. Raises NotFound."""
        return self._entry(identity).run

    async def watch(self, identity: str) -> AsyncIterator[Run]:
        """A training now, and at every change until it has ended. Raises NotFound."""
        entry = self._entry(identity)
        while True:
            changed, run = entry.changed, entry.run
            yield run
            if run.state.ended:
                return
            await changed.wait()

    def findings(self) -> list[Finding]:
        """What the broker's operator should see."""
        return self.registry.findings()

    async def start(self, task: Task, domains: Sequence[str], owner: str) -> Run:
        """Take a training in. Raises OverCapacity, NotFound (no such domain), ConfigError, Conflict."""
        if not self._config.enabled:
            raise NotFound(
                "this broker trains nothing; set enabled = true under [learning] in its broker.toml"
            )
        members = self._members()
        if unknown := sorted(set(domains) - set(members)):
            raise NotFound(f"no domain {unknown[0]!r} in this federation; there are {', '.join(members)}")
        if 0 < len(set(domains)) < _LEAST_DOMAINS:
            raise ConfigError(
                f"{domains[0]} alone learns nothing from others; name at least {_LEAST_DOMAINS}"
            )
        open_runs = self._unended()
        if any(run.task.model == task.model for run in open_runs):
            raise Conflict(
                f"model {task.model!r} is being trained already; stop that training, or wait for it"
            )
        check_share(self._config, open_runs, owner)
        run = Run(
            id=secrets.token_hex(8),
            task=task,
            domains=tuple(dict.fromkeys(domains)),
            state=RunState.WAITING,
            created_at=self._clock(),
            owner=owner,
        )
        self._entries[run.id] = _Entry(run)
        await self._save(run)
        self.registry.record("run", run=run.id, model=task.model, task=task.to_json().decode(), by=owner)
        self._waiting.append(run.id)
        self._wake.set()
        return run

    async def stop(self, identity: str, owner: str) -> Run:
        """Have a training end without a model. Raises NotFound, Conflict: its model is being delivered."""
        entry = self._entry(identity)
        if entry.delivering and not entry.run.state.ended:
            model = entry.run.task.model
            raise Conflict(
                f"model {model!r}: a version was made and is being given to the domains, which cannot be"
                f" stopped; `fedtwin learn rollback {model} VERSION` puts an earlier one back"
            )
        if not entry.run.state.ended:
            entry.stopped_by = owner or "its owner"
            entry.stop.set()
            if entry.run.id in self._waiting:
                self._waiting.remove(entry.run.id)
                await self._end(entry, RunState.STOPPED, f"stopped by {entry.stopped_by}")
        return entry.run

    async def roll_back(self, model: str, version: int, by: str) -> tuple[Kept, list[DomainOutcome]]:
        """Put an earlier version back into service, in all domains that can be asked. Raises NotFound."""
        card, data = await self.registry.data(model, version)
        kept = await self.registry.serve(model, card.version, f"put back into service by {by}", by=by)
        connected = [domain for domain in self._members() if self._session_of(domain) is not None]
        outcomes = await self._delivery.put_back(connected, card, data)
        self.registry.record(
            "roll-back",
            model=model,
            version=card.version,
            by=by,
            domains={outcome.domain: str(outcome.outcome) for outcome in outcomes},
        )
        return kept, outcomes

    # ------------------------------------------------------------ working

    async def run(self) -> None:
        """Conduct trainings until cancelled; those under way are failed then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._config.runs):
                    tasks.create_task(self._work())
        finally:
            self._closing = True
            for entry in self._entries.values():
                entry.stop.set()
                if not entry.run.state.ended:
                    self._put(entry, state=RunState.FAILED, problem=ENDED_WITH_BROKER, ended_at=self._clock())
                    self._written(entry.run)

    async def close(self) -> None:
        """Wait for threads and sign the log; after `run` has been cancelled."""
        for entry in self._entries.values():
            entry.stop.set()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self.registry.close()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            chosen = next_of([self._entries[one].run for one in self._waiting], self._unended())
            self._waiting.remove(chosen.id)
            await self._conduct(self._entries[chosen.id])

    async def _conduct(self, entry: _Entry) -> None:
        run = entry.run
        carrier = SessionCarrier(self._session_of, run.id, run.task, max_bytes=self._max_bytes)
        ends = asyncio.get_running_loop().call_later(self._config.run_s, self._time_is_up, entry)
        try:
            await self._offer(entry, carrier)
            conducted = await self._trained(entry, carrier)
            ends.cancel()
            if entry.stopped_by or (entry.stop.is_set() and not entry.late):
                await self._end(entry, RunState.STOPPED, f"stopped by {entry.stopped_by or 'the broker'}")
                return
            if conducted.made is None:
                raise Unreachable(
                    conducted.problem or "no round was accepted: the first model is the best one"
                )
            await self._deliver(entry, carrier, conducted)
        except TwinError as error:
            why = self._took_too_long(str(error)) if entry.late else str(error)
            if entry.stopped_by:
                await self._end(entry, RunState.STOPPED, f"stopped by {entry.stopped_by}")
            else:
                await self._end(entry, RunState.FAILED, why)
        except Exception:
            log.exception("training failed", extra={"run": run.id})
            await self._end(entry, RunState.FAILED, "the broker failed on this training; its log says more")
        finally:
            ends.cancel()
            self.messages.update(carrier.outcomes)
            carrier.end()

    def _time_is_up(self, entry: _Entry) -> None:
        """End the rounds: what they have made so far is delivered."""
        entry.late = True
        entry.stop.set()

    def _took_too_long(self, said: str) -> str:
        return (
            f"it took {self._config.run_s:g} s, as long as a training may here ([learning] run_s)"
            f"{f'; {said}' if said else ''}"
        )

    async def _offer(self, entry: _Entry, carrier: SessionCarrier) -> None:
        """Find who takes part. Raises Unreachable, in everyone's words, where too few do."""
        asked = entry.run.domains or tuple(
            domain for domain in self._members() if self._session_of(domain) is not None
        )
        self._put(entry, state=RunState.RUNNING)
        refused = await carrier.offer(asked)
        for domain, why in refused.items():
            log.info("domain takes no part", extra={"domain": domain, "run": entry.run.id, "reason": why})
        if refused:
            self._log(entry, {"refused": refused})
        if len(carrier.taking_part) < _LEAST_DOMAINS:
            said = "; ".join(refused.values()) or "no other domain is connected"
            raise Unreachable(f"{len(carrier.taking_part)} domains take part, {_LEAST_DOMAINS} must: {said}")
        self._put(entry, domains=carrier.taking_part)
        await self._save(entry.run)

    async def _trained(self, entry: _Entry, carrier: SessionCarrier) -> Conducted:
        loop = asyncio.get_running_loop()

        def on_round(report: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self._on_round, entry, report)

        return await loop.run_in_executor(
            self._threads,
            lambda: conduct(
                entry.run.task,
                carrier,
                entry.run.id,
                round_s=self._config.round_s,
                explain=self._config.explain and entry.run.task.explain,
                operators=self._operators,
                stop=entry.stop,
                on_round=on_round,
            ),
        )

    def _on_round(self, entry: _Entry, report: Mapping[str, Any]) -> None:
        self.rounds += 1
        self.registry.record("round", run=entry.run.id, model=entry.run.task.model, report=report)
        if not entry.run.state.ended:
            number = report.get("round")
            self._put(entry, round=number if isinstance(number, int) else entry.run.round)
            self._log(entry, report)

    async def _deliver(self, entry: _Entry, carrier: SessionCarrier, conducted: Conducted) -> None:
        """Keep the model, have the domains judge it, and put it into service where one of them uses it."""
        assert conducted.made is not None
        entry.delivering = True
        run = entry.run
        problem = self._took_too_long(conducted.problem) if entry.late else conducted.problem
        card, data = await self.registry.add(run.task, run.id, conducted.made, above=carrier.newest)
        self._put(entry, version=card.version)
        said = await self._delivery.deliver(carrier.domains(), card, data)
        result: dict[str, Any] = {"version": card.version, "gains": dict(card.gains), "domains": said}
        if conducted.brought:
            result["brought"] = dict(conducted.brought)
        if card.privacy_spent:
            result["privacy_spent"] = dict(card.privacy_spent)
        self._log(entry, {"result": result})
        self.registry.record("delivered", run=run.id, model=card.model, version=card.version, domains=said)
        used = [domain for domain, answer in said.items() if answer["in_service"]]
        reasons = "; ".join(
            f"{domain}: {answer['reason']}" for domain, answer in said.items() if not answer["in_service"]
        )
        if used:
            await self.registry.serve(card.model, card.version, _not_used(reasons), by=run.owner)
        else:
            await self.registry.refuse(card.model, card.version, f"no domain uses it ({reasons})")
        await self._end(entry, RunState.DONE, problem)

    # ------------------------------------------------------------ entries

    def _unended(self) -> list[Run]:
        return [entry.run for entry in self._entries.values() if not entry.run.state.ended]

    async def _end(self, entry: _Entry, state: RunState, problem: str) -> None:
        if entry.run.state.ended:
            return
        self._put(entry, state=state, problem=problem, ended_at=self._clock())
        self.registry.record("run-ended", run=entry.run.id, state=state.value, problem=problem)
        await self._save(entry.run)
        ended = [one.run for one in self._entries.values() if one.run.state.ended]
        for identity in await asyncio.to_thread(self._runs.prune, ended):
            self._entries.pop(identity, None)

    def _log(self, entry: _Entry, item: Mapping[str, Any]) -> None:
        self._put(entry, log=(*entry.run.log, item))

    def _put(self, entry: _Entry, **changes: Any) -> None:
        entry.run = replace(entry.run, **changes)
        changed, entry.changed = entry.changed, asyncio.Event()
        changed.set()

    async def _save(self, run: Run) -> None:
        await asyncio.to_thread(self._written, run)

    def _written(self, run: Run) -> None:
        try:
            self._runs.save(run)
            self.problem = ""
        except OSError as error:  # it goes on all the same; a restart would forget it
            self.problem = f"trainings are not written to disk: {error}"
            log.error("training not written", extra={"why": str(error)})

    def _entry(self, identity: str) -> _Entry:
        if identity in self._entries:
            return self._entries[identity]
        found = [key for key in self._entries if identity and key.startswith(identity)]
        if len(found) == 1:
            return self._entries[found[0]]
        if found:
            raise NotFound(f"{len(found)} trainings begin with {identity!r}; write more of the id")
        raise NotFound(f"no training {identity!r} is kept here; `fedtwin learn history` lists those that are")


def _not_used(reasons: str) -> str:
    return f"not used by all ({reasons})" if reasons else ""
