"""A run of seeded faults: make one, see it noticed, mend it, see all equal again. Owns order and verdict.

A step is one fault, two at once (`a+b`), or a second one while the first is recovered from (`a>>b`). Its name
says which, so that a step that failed can be run again alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import fault_kinds
import psutil
from fault_churn import Churn
from fault_kinds import DURING, TOGETHER, Fault, Scene, count
from fault_network import DEVICES, DOMAINS, SIGKILL, FaultNetwork, eventually
from fault_observer import Loss, Observer
from fault_truth import (
    Devices,
    Different,
    agent_equals_devices,
    agent_in_step,
    broker_equals_agents,
    broker_in_step,
    compare_elements,
    published_on,
    together,
)

from domain_twin.errors import TwinError
from domain_twin.model import Connection, EventKind
from federation.cli.demo import files as demo
from federation.client import TwinClient

EQUAL_S = 150.0
NEWS_S = 30.0
ASKED_AGAIN_S = 15.0
_ENABLED = "/ietf-interfaces:interfaces/interface[name='eth0']/enabled"


@dataclass(slots=True)
class Outcome:
    """What became of one step."""

    step: str
    problems: list[str] = field(default_factory=list)
    stale_s: list[float] = field(default_factory=list)  # from each loss until it was marked
    equal_s: float = 0.0  # from the end of the fault until all is equal
    news_s: float = 0.0  # an edit of a device, until a watcher of the broker had it
    took_s: float = 0.0


class Campaign:
    """One network and the faults that are made on it. Used as `async with Campaign.on(folder, seed) as c`."""

    def __init__(self, network: FaultNetwork, seed: int) -> None:
        self.network = network
        self.outcomes: list[Outcome] = []
        self.rng = Random(f"{seed} steps")
        self._seed = seed
        self.devices = Devices(network)
        self.churn = Churn(network, self.devices, Random(f"{seed} churn"))
        self.observer = Observer(network, self.churn, {})
        self.size: dict[str, dict[str, Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._fresh = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, folder: Path, seed: int) -> AsyncIterator[Campaign]:
        """Start a network in an empty folder, and wait until it is whole."""
        async with FaultNetwork(folder, seed) as network:
            campaign = cls(network, seed)
            await campaign.equal()
            points = {d: published_on(d, await campaign.devices.read(d)) for d in DOMAINS}
            await campaign.churn.survey()
            campaign.observer = Observer(network, campaign.churn, points)
            try:
                for work in (campaign.churn.run(), campaign.observer.run()):
                    campaign._tasks.append(asyncio.create_task(work))
                yield campaign
            finally:
                for task in campaign._tasks:
                    task.cancel()
                await asyncio.gather(*campaign._tasks, return_exceptions=True)

    async def step(self, step: str) -> Outcome:
        """Run one step; what is wrong is in its outcome."""
        outcome = Outcome(step)
        self.rng = Random(f"{self._seed} {step}")  # the same step has the same dice, alone or in a run
        self.outcomes.append(outcome)
        began = time.monotonic()
        self.observer.seen = len(self.observer.wrong)
        broker_before = self.network.processes["broker"].child.pid
        losses: list[Loss] = []
        self.churn.start()
        try:
            async with asyncio.timeout(600):
                await asyncio.sleep(self.rng.uniform(0.0, 0.4))
                wall = time.time_ns()
                await self._make(step, losses)
                await self.churn.pause()
                mended = time.monotonic()
                await self.equal()
                outcome.equal_s = time.monotonic() - mended
                outcome.news_s = await self._news()
                await self._lost_is_recorded(losses, wall)
                if self.network.processes["broker"].child.pid == broker_before:
                    await self._broker_remembers(losses, wall)
                else:
                    await self._broker_admits_its_absence(wall)
        except (AssertionError, TwinError, OSError, LookupError, TimeoutError) as error:
            outcome.problems.append(f"{type(error).__name__}: {error}")
        except BaseExceptionGroup as group:
            outcome.problems.append(f"{group!r}")
        outcome.problems += self.observer.wrong[self.observer.seen :]
        if outcome.problems:
            await self._rescue()
        outcome.stale_s = [loss.noticed - loss.began for loss in losses if loss.noticed]
        outcome.took_s = time.monotonic() - began
        return outcome

    # --- making

    async def _make(self, step: str, losses: list[Loss]) -> None:
        scene = Scene(self.network, self.observer, self.churn, self.rng)
        for number, group in enumerate(step.split(DURING)):
            faults = [fault_kinds.parse(name) for name in group.split(TOGETHER)]
            if number:
                await asyncio.sleep(self.rng.uniform(0.0, 1.2))
            async with AsyncExitStack() as stack:
                for fault in faults:
                    found = await stack.enter_async_context(_made(scene, fault))
                    losses += found
                own = [loss for loss in losses if not loss.ended]
                await self.observer.noticed(own)
                low, high = faults[0].kind.lasts_s
                await asyncio.sleep(self.rng.uniform(low, high))
                await self._change_unseen({loss.domain for loss in own})
                self.observer.regain(own)

    async def _change_unseen(self, domains: set[str]) -> None:
        """Change what cannot be seen now; half of the time nothing else changes until the fault is mended."""
        if "emulator" in self.observer.unavailable:
            return
        for domain in domains:
            with suppress(TwinError, OSError, TimeoutError):
                await self.churn.mark_now(domain)
        if domains and self.rng.random() < 0.5:
            await self.churn.pause()

    async def _rescue(self) -> None:
        """Start what a failed step has left dead, with an empty state: the next ones are not to blame."""
        for name in ("emulator", "broker", *(f"agent-{domain}" for domain in DOMAINS)):
            process = self.network.processes.get(name)
            if process is not None and process.child.returncode is None:
                continue
            if name.startswith("agent-"):
                shutil.rmtree(self.network.folder / name.removeprefix("agent-") / "state", ignore_errors=True)
            with suppress(TwinError, AssertionError):
                await self.network.start(name)

    # --- what must hold afterwards

    async def equal(self) -> None:
        """Return when agents equal devices, and the composed twin the agents. Raises AssertionError."""

        async def all_equal() -> bool:
            await together(
                self._in_step(domain) for domain in DOMAINS
            )  # cheap, and most often what is missing
            async with self.network.broker() as broker:
                broker_in_step(await broker.domains())
            await together(self._agent_equal(domain) for domain in DOMAINS)
            async with self.network.broker() as broker:
                await broker_equals_agents(self.network, broker)
            return True

        await eventually(all_equal, within_s=EQUAL_S, what="equality")

    async def _in_step(self, domain: str) -> None:
        async with self.network.agent(domain) as twin:
            agent_in_step(domain, await twin.devices())

    async def _agent_equal(self, domain: str) -> None:
        async with self.network.agent(domain) as twin:
            await agent_equals_devices(self.devices, domain, twin)

    async def _news(self) -> float:
        """How long a change on a device takes to a watcher of the broker. Raises AssertionError: for ever."""
        domain = self.rng.choice(DOMAINS)
        marker = self.churn.markers[domain]
        async with self.network.broker() as broker, self.network.agent(domain) as agent:
            stream, own = broker.watch(kinds=[EventKind.VIEW], domain=domain), agent.watch(domain=domain)
            await stream.started()
            await own.started()
            began = time.monotonic()
            value = await self.churn.mark(domain)
            try:
                async with asyncio.timeout(NEWS_S):
                    async for _ in own:
                        break
                    async for _ in stream:
                        point = (await broker.views(domain))[0].points[marker.point]
                        if point.metric == value and not point.stale:
                            break
            except TimeoutError:
                raise AssertionError(f"no news of an edit of {marker.device} within {NEWS_S:g} s") from None
            finally:
                await stream.aclose()
                await own.aclose()
            return time.monotonic() - began

    async def _lost_is_recorded(self, losses: Sequence[Loss], wall: int) -> None:
        """While a device was not heard, its agent's history knows no value: a gap."""
        now_ns, now = time.time_ns(), time.monotonic()
        for loss in losses:
            if not loss.noticed:
                continue
            start = now_ns - int((now - loss.began - 0.8) * 1e9)
            end = now_ns - int((now - loss.ended) * 1e9)
            if end - start < 300_000_000:
                continue
            if loss.device is None and not loss.unheard:
                continue  # the agent heard its devices all the time
            device = loss.device or next(iter(self.network.devices(loss.domain)))
            async with self.network.agent(loss.domain) as twin:
                samples = await twin.series(device, _ENABLED, start, end, 100_000_000)
            if samples:
                raise AssertionError(
                    f"{loss.what} was lost for {(end - start) / 1e9:.2f} s, and its history has"
                    f" {len(samples)} values of {device} in that time"
                )

    async def _broker_remembers(self, losses: Sequence[Loss], wall: int) -> None:
        """The broker's history says that a domain was lost, and that it came back."""
        for loss in losses:
            if loss.device is not None or not loss.noticed:
                continue
            async with self.network.broker() as broker:
                _, events = await broker.service_history(demo.SERVICE, wall)
            said = [e.text for e in events if e.kind is EventKind.DOMAIN and e.domain == loss.domain]
            if not any("lost" in text for text in said) or not any("back" in text for text in said):
                raise AssertionError(f"{loss.what} was lost and came back; its history says {said}")

    async def _broker_admits_its_absence(self, wall: int) -> None:
        """A broker that was started anew says since when nothing was recorded."""
        async with self.network.broker() as broker:
            _, events = await broker.service_history(demo.SERVICE, wall)
        if not any(event.kind is EventKind.GAP for event in events):
            raise AssertionError("the broker was away, and its history does not say so")

    # --- fresh starts

    async def fresh_agent(self, domain: str) -> None:
        """Start another agent with an empty state on the same devices; it must say the same."""
        self._fresh += 1
        await self.churn.pause()
        name = f"agent-{domain}-fresh"
        state = f"fresh-{self._fresh}"
        config = self.network.folder / domain / f"{state}.toml"
        config.write_text(self.network.agent_toml(domain, state, alone=True), encoding="utf-8")
        await self.network.start(name, config=config)
        socket = self.network.folder / domain / state / "agent.sock"
        try:
            async with TwinClient.connect(socket, timeout_s=5) as fresh, self.network.agent(domain) as live:

                async def same() -> bool:
                    if any(s.connection is not Connection.SYNCHRONISED for s in await fresh.devices()):
                        raise Different(f"{domain}: the fresh agent is not in step")
                    before, counts = await _elements(live), {s.name: s.leaves for s in await live.devices()}
                    told, fresh_counts = (
                        await _elements(fresh),
                        {s.name: s.leaves for s in await fresh.devices()},
                    )
                    compare_elements(domain, told, [before, await _elements(live)])
                    if counts != fresh_counts:
                        raise Different(f"{domain}: leaves {counts}, and {fresh_counts} after a fresh start")
                    kinds = [
                        {(f.code, f.element) for f in await t.findings() if not f.code.startswith("budget.")}
                        for t in (live, fresh)
                    ]
                    if kinds[0] != kinds[1]:
                        raise Different(f"{domain}: findings {kinds[0]}, and {kinds[1]} after a fresh start")
                    return True

                await eventually(same, within_s=EQUAL_S, what="equality with a fresh agent")
        finally:
            await self.network.end(name, SIGKILL)

    async def fresh_broker(self) -> None:
        """Lead all agents to another broker with an empty state; it must compose the same. Then back."""
        await self.churn.pause()
        address, config = await self.network.other_broker()
        profile = self.network.folder / "fresh-client.toml"
        profile.write_text(demo.client_toml(address), encoding="utf-8")
        async with self.network.broker() as broker:
            before = await broker.views()
            findings = await _settled_findings(broker)
        await self.network.start("broker-fresh", config=config)
        try:
            self.network.aim(address)
            async with TwinClient.connect(profile, timeout_s=5) as fresh:

                async def same() -> bool:
                    await broker_equals_agents(self.network, fresh)
                    now = {(f.code, f.domain, f.element) for f in await fresh.findings()}
                    views = {view.domain: view for view in await fresh.views()}
                    for view in before:
                        if set(view.points) != set(views[view.domain].points) or set(view.segments) != set(
                            views[view.domain].segments
                        ):
                            raise Different(f"{view.domain}: another view after a fresh start")
                    if now != findings:
                        raise Different(f"findings {findings}, and {now} after a fresh start")
                    return True

                await eventually(same, within_s=EQUAL_S, what="equality with a fresh broker")
        finally:
            self.network.aim(self.network.files.broker_address)
            await self.network.end("broker-fresh", SIGKILL)
        await self.equal()

    # --- size

    def measure(self) -> dict[str, dict[str, Any]]:
        """Memory (MB), descriptors and threads of each process that lives now, by name and process."""
        for name in self.network.processes:
            try:
                ps = self.network.ps(name)
                now = {
                    "rss_mb": round(ps.memory_info().rss / 1e6, 1),
                    "fds": ps.num_fds(),
                    "threads": ps.num_threads(),
                }
            except psutil.NoSuchProcess:
                continue
            held = self.size.setdefault(
                f"{name}/{ps.pid}", {"first": now, "at": time.monotonic(), "looks": 0}
            )
            held["last"], held["looks"] = now, held["looks"] + 1
            held["age_s"] = round(time.monotonic() - held["at"], 1)
        return self.size

    def grown(self) -> list[str]:
        """Processes that hold more than at first, beyond what a bounded buffer may take."""
        found = []
        for name, held in self.measure().items():
            first, last = held["first"], held["last"]
            # Connections that a fault swallowed stay open at a device until it misses its peer.
            unheard = 4 * sum(map(len, DEVICES.values())) if name.startswith("emulator/") else 0
            limits = {
                "rss_mb": 1.4 * first["rss_mb"] + 48,
                "fds": first["fds"] + 40 + unheard,
                "threads": first["threads"] + 12,
            }
            found += [
                f"{name}: {what} grew from {first[what]} to {last[what]} in {held['age_s']} s"
                for what, limit in limits.items()
                if last[what] > limit
            ]
        return found

    def summary(self) -> dict[str, Any]:
        """The run as one document."""
        kinds: dict[str, dict[str, Any]] = defaultdict(lambda: {"faults": 0, "stale_s": [], "equal_s": []})
        faults = 0
        for outcome in self.outcomes:
            names = outcome.step.replace(DURING, TOGETHER).split(TOGETHER)
            faults += count(outcome.step)
            for name in names:
                held = kinds[name.partition(":")[0]]
                held["faults"] += 1
                if len(names) == 1:
                    held["stale_s"] += outcome.stale_s
                    held["equal_s"].append(outcome.equal_s)
        failed = [o for o in self.outcomes if o.problems]
        return {
            "steps": len(self.outcomes),
            "faults": faults,
            "failed": [{"step": o.step, "problems": o.problems} for o in failed],
            "stale_s": _spread([s for o in self.outcomes for s in o.stale_s]),
            "equal_s": _spread([o.equal_s for o in self.outcomes if not o.problems]),
            "news_s": _spread([o.news_s for o in self.outcomes if not o.problems]),
            "edits": self.churn.edits,
            "looks": self.observer.looks,
            "kinds": {
                name: {
                    "faults": held["faults"],
                    "stale_s": _spread(held["stale_s"]),
                    "equal_s": _spread(held["equal_s"]),
                }
                for name, held in sorted(kinds.items())
            },
            "size": {name: held for name, held in self.size.items() if held["looks"] > 1},
            "cpus": os.cpu_count(),
        }


@asynccontextmanager
async def _made(scene: Scene, fault: Fault) -> AsyncIterator[tuple[Loss, ...]]:
    async with fault.kind.act(scene, fault.target) as losses:
        scene.observer.lose(losses)
        try:
            yield losses
        finally:
            scene.observer.regain(loss for loss in losses if not loss.ended)


async def _settled_findings(broker: TwinClient) -> set[tuple[str, str, str]]:
    """The findings, once those of a moment ago had time to go: domains are asked about their shares again."""
    end = time.monotonic() + ASKED_AGAIN_S
    while True:
        findings = {(f.code, f.domain, f.element) for f in await broker.findings()}
        if time.monotonic() > end or not findings:
            return findings
        await asyncio.sleep(0.2)


async def _elements(twin: TwinClient) -> dict[str, Any]:
    return {f"{e.kind} {e.id}": e for e in await twin.elements()}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {"n": len(ordered), "p50": at(0.5), "p95": at(0.95), "max": at(1.0)}
