"""The story, act by act. Owns the order of what is asked and shown; every number is asked, none is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from domain_twin.errors import NotFound, TwinError, Unreachable
from federation.cli.demo import files as demo_files
from federation.cli.demo import screens
from federation.cli.demo.account import Account, Phase, Reaction
from federation.cli.demo.files import OPERATORS, DemoFiles

if TYPE_CHECKING:
    from domain_twin.config import DeviceConfig
    from domain_twin.model import DomainStatus, Event, ServiceStatus
    from federation.cli.demo.change import Edit
    from federation.cli.demo.folder import DemoFolder
    from federation.cli.demo.inside import Inside, Stretch
    from federation.cli.demo.screen import Screen, Steps
    from federation.cli.demo.supervisor import Process, Supervisor
    from federation.cli.demo.watcher import Watcher
    from federation.client import TwinClient

T = TypeVar("T")
READY_S = 60.0
NEWS_S = 20.0
SETTLE_S, SETTLE_QUICK_S = 8.0, 4.0
_POLL_S = 0.05


class Story:
    """The demo's acts over one set of processes."""

    def __init__(self, folder: DemoFolder, supervisor: Supervisor, screen: Screen, account: Account) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._screen = screen
        self._account = account
        self._files = DemoFiles(folder.path, "")
        self._joined: dict[str, float] = {}
        self._insides: dict[str, Inside] = {}
        self.all_started = asyncio.Event()

    async def tell(self) -> None:
        """All acts in order. Raises TwinError when one cannot go on."""
        from federation.cli.demo.watcher import Watcher
        from federation.client import TwinClient

        self._screen.title("FedTwin", "Four operators, one end-to-end twin, and nobody shows their network.")
        await self._start()
        async with TwinClient.connect(self._files.client) as twin, Watcher(twin) as watcher:
            first = await self._first_view(twin)
            self._tell_joining(await twin.domains())
            await self._screen.pause(4)
            await self._composed(twin)
            await self._screen.pause(5)
            before = await self._service(twin, first)
            await self._screen.pause(5)
            stretch, device, began = await self._cut(twin, watcher, before)
            await self._screen.pause(5)
            await self._repair(twin, watcher, device, stretch)
            await self._screen.pause(3)
            await self._history(twin, began)
        self._screen.act("What was seen")
        screens.summary(self._screen, self._account)

    def what_next(self) -> None:
        """What to try while everything runs on."""
        screens.what_next(self._screen, self._files)

    # ---- start and join

    async def _start(self) -> None:
        agents = {f"agent of {operator.name}": operator for operator in OPERATORS}
        names = ["certificates", "emulated network", f"broker of {demo_files.BROKER_OPERATOR}", *agents]
        self._screen.act(
            "Starting",
            "Four emulated networks, one agent for each of their operators, and a broker. Every process has"
            " keys of its own; they trust each other's certificates, and nothing else.",
        )
        async with self._screen.steps(names) as steps:
            steps.begin("certificates")
            folder, seed = self._folder.path, self._account.seed
            self._files = await asyncio.to_thread(demo_files.write_all, folder, seed=seed)
            steps.done("certificates", "five operators, an authority each")
            broker = asyncio.create_task(
                self._process(steps, names[2], "broker", ["broker", str(self._files.broker)])
            )
            try:
                await self._process(steps, names[1], "emulator", ["emulate", str(self._files.network)])
                async with asyncio.TaskGroup() as group:
                    for name, operator in agents.items():
                        path = self._files.agent(operator.domain)
                        group.create_task(
                            self._process(steps, name, f"agent-{operator.domain}", ["agent", str(path)])
                        )
                await broker
            except BaseExceptionGroup as several:
                raise _first_of(several) from None
            finally:
                broker.cancel()
        self.all_started.set()

    async def _process(self, steps: Steps, title: str, name: str, arguments: list[str]) -> Process:
        steps.begin(title)
        process = await self._supervisor.start(name, arguments)
        self._folder.note([each.running for each in self._supervisor.processes], kept=False)
        await self._supervisor.ready(process, READY_S)
        steps.done(title)
        self._account.processes.append(
            {"name": name, "pid": process.child.pid, "ready_s": round(process.ready_s or 0.0, 3)}
        )
        return process

    async def _first_view(self, twin: TwinClient) -> ServiceStatus:
        """Wait until the service has a measured path across all domains."""
        wanted = [operator.domain for operator in OPERATORS]
        async with self._screen.steps([*wanted, "end-to-end view"]) as steps:
            for name in [*wanted, "end-to-end view"]:
                steps.begin(name)

            async def joined() -> ServiceStatus | None:
                for status in await twin.domains():
                    if status.connected and status.points and status.domain not in self._joined:
                        self._joined[status.domain] = self._account.elapsed()
                        steps.done(status.domain, f"joined as {status.peer}")
                if len(self._joined) < len(wanted):
                    return None
                self._account.all_joined_s = self._account.all_joined_s or self._account.elapsed()
                statuses = (await twin.services(demo_files.SERVICE)).statuses
                return statuses[0] if statuses and statuses[0].path and statuses[0].met is not None else None

            status = await until(joined, READY_S, "an end-to-end view")
            self._account.first_view_s = self._account.elapsed()
            steps.done("end-to-end view", f"{self._account.first_view_s:.1f} s after the start")
        return status

    def _tell_joining(self, domains: list[DomainStatus]) -> None:
        self._screen.act(
            "Four domains have joined",
            "Each agent dialled the broker; no operator opened a port. Who an agent is, its certificate says,"
            " and only its own operator can issue that one: in another's name, it is refused.",
        )
        self._screen.show(screens.joined(domains, self._joined))

    # ---- what is seen

    async def _composed(self, twin: TwinClient) -> None:
        from federation.cli.demo.inside import Inside
        from federation.client import TwinClient as Client

        domains = {status.domain: status for status in await twin.domains()}
        async with AsyncExitStack() as stack:
            for operator in OPERATORS:
                own = await stack.enter_async_context(Client.connect(self._files.socket(operator.domain)))
                self._insides[operator.domain] = await Inside.ask(own, operator.domain)
        refusal = await _refused(twin)
        self._screen.act(
            "What the broker sees, and what it does not",
            "Left, what each operator's own agent says to its operator. Right, all that leaves the domain:"
            " border points, published end points, and signed figures for what lies between them.",
        )
        self._screen.show(screens.composed(domains, self._insides))
        if refusal:
            self._screen.say(f"Asked for its devices, the broker answers: [dim]{refusal}[/]")
        self._account.domains = [
            {
                "domain": status.domain,
                "operator": status.operator,
                "joined_s": round(self._joined.get(status.domain, 0.0), 3),
                "points": status.points,
                "segments": status.segments,
                "hidden_nodes": status.hidden_nodes,
                "hidden_links": status.hidden_links,
                "devices_inside": self._insides[status.domain].devices,
                "leaves_mirrored": self._insides[status.domain].leaves,
            }
            for status in domains.values()
        ]

    async def _service(self, twin: TwinClient, status: ServiceStatus) -> ServiceStatus:
        self._screen.act(
            "A service across all four",
            f"[bold]{status.service.name}[/] runs from {status.service.source} to {status.service.target} and"
            f" was promised {demo_files.OBJECTIVE_MS:g} ms. The promise is split: each operator knows its own"
            " share and none of the others'.",
        )
        status, phase = await self._phase(twin, "before")
        self._screen.show(screens.service(status, phase, self._screen.width))
        self._screen.show(screens.truth(phase))
        return status

    async def _phase(self, twin: TwinClient, name: str) -> tuple[ServiceStatus, Phase]:
        """Let packets flow for some seconds, then ask the twin and count the packets of the same time."""
        from federation.cli.demo.truth import PacketTruth

        truth = PacketTruth(self._files.emulator, demo_files.SERVICE_FLOW)
        seconds = SETTLE_QUICK_S if self._screen.quick else SETTLE_S
        async with self._screen.steps(["packets"]) as steps:
            steps.begin("packets", f"timing this service's packets for {seconds:.0f} s")
            start = time.time_ns()
            await asyncio.sleep(seconds)
            end = time.time_ns()
            counted = await truth.between(start, end)
            statuses, _ = await twin.service_history(demo_files.SERVICE, start, end)
            status = (await twin.services(demo_files.SERVICE)).statuses[0]
            steps.done("packets", f"{counted.packets} packets timed, one by one")
        if status.path is None:
            raise Unreachable(f"{status.service.name} has no path; see the findings: fedtwin findings")
        told = [each.path.total.delay_ms for each in statuses if each.path] or [status.path.total.delay_ms]
        phase = Phase(
            name=name,
            delay_ms=sum(told) / len(told),
            metric=status.path.total.metric,
            budget=[
                {"domain": share.domain, "share_ms": share.share_ms, "used_ms": share.used_ms}
                for share in status.budget
            ],
            packets=counted.packets,
            packets_delay_ms=counted.delay_ms,
            packets_std_error_ms=counted.std_error_ms,
            packets_lost=counted.lost,
            packets_parts_ms=dict(counted.parts_ms),
        )
        self._account.phases.append(phase)
        return status, phase

    # ---- cut and repair

    async def _cut(
        self, twin: TwinClient, watcher: Watcher, before: ServiceStatus
    ) -> tuple[Stretch, DeviceConfig, int]:
        from domain_twin.config import load_agent
        from federation.cli.demo.inside import route_of
        from federation.client import TwinClient as Client

        async with Client.connect(self._files.socket("transport")) as own:
            route = await route_of(own, before)
        stretch = route[len(route) // 2]
        devices = {device.name: device for device in load_agent(self._files.agent("transport")).device}
        device = devices[stretch.device]
        self._screen.act(
            "A transport link is cut",
            "Which one? The broker cannot know. The transport operator's own agent does; the service crosses",
        )
        self._screen.show(screens.route(route, stretch))
        self._screen.say(
            f"An engineer of longhaul.example logs in to [bold]{device.name}[/] by NETCONF and switches off"
            f" {stretch.interface}: edit-config on the candidate, validate, commit.",
        )
        began = time.time_ns()
        _, reaction = await self._edit(watcher, before, device, stretch, enabled=False)
        self._screen.show(screens.reaction(reaction))
        status, phase = await self._phase(twin, "cut")
        self._screen.say("The new path and its budget. Only the transport operator's share has changed:")
        self._screen.show(screens.service(status, phase, self._screen.width, self._account.phases[0]))
        self._screen.show(screens.truth(phase))
        return stretch, device, began

    async def _edit(
        self,
        watcher: Watcher,
        before: ServiceStatus,
        device: DeviceConfig,
        stretch: Stretch,
        *,
        enabled: bool,
    ) -> tuple[Edit, Reaction]:
        from federation.cli.demo.change import set_enabled

        metric = before.path.total.metric if before.path else -1
        started = time.time_ns()
        edit = await asyncio.to_thread(set_enabled, device, stretch.interface, enabled)

        def rerouted(event: Event) -> bool:
            status = event.service_status
            if status is None or status.service.id != demo_files.SERVICE or status.path is None:
                return False
            return (status.path.total.metric == metric) == enabled

        arrival = await watcher.first(rerouted, since=started, timeout_s=NEWS_S, what="the new path")
        reaction = Reaction(
            "repair" if enabled else "cut",
            edit.device,
            edit.interface,
            edit.sent_at,
            edit.replied_at,
            arrival.at,
        )
        self._account.reactions.append(reaction)
        return edit, reaction

    async def _repair(
        self, twin: TwinClient, watcher: Watcher, device: DeviceConfig, stretch: Stretch
    ) -> None:
        self._screen.act(
            "The link is repaired",
            f"The same engineer switches {stretch.interface} of {device.name} on again.",
        )
        before = self._account.phases[0]
        original = (await twin.services(demo_files.SERVICE)).statuses[0]
        _, reaction = await self._edit(
            watcher, _with_metric(original, before.metric), device, stretch, enabled=True
        )
        self._screen.show(screens.reaction(reaction))
        status, phase = await self._phase(twin, "repaired")
        self._screen.show(screens.verdict_line(status))
        self._screen.show(screens.truth(phase))

    async def _history(self, twin: TwinClient, began: int) -> None:
        self._screen.act(
            "The last minute, once more",
            "The broker kept what it saw. Upright lines are the events, in the order they came.",
        )
        lead = int(6e9)
        statuses, events = await twin.service_history(demo_files.SERVICE, began - lead, time.time_ns())
        self._account.history_samples = len(statuses)
        if not statuses:
            raise NotFound("the broker has no history of the service; see its log")
        self._screen.show(screens.history(statuses, events, self._account.reactions, self._screen.width))


async def until(ask: Callable[[], Awaitable[T | None]], timeout_s: float, what: str) -> T:
    """Ask again and again until there is an answer. Raises Unreachable naming `what` after `timeout_s`."""
    trouble = ""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    answer = await ask()
                except TwinError as error:
                    answer, trouble = None, f" ({error})"
                if answer is not None:
                    return answer
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise Unreachable(f"no {what} within {timeout_s:.0f} s{trouble}; see the logs of the demo") from error


async def _refused(twin: TwinClient) -> str:
    """What the broker says when it is asked for devices."""
    try:
        await twin.devices()
    except TwinError as error:
        return str(error)
    return ""


def _with_metric(status: ServiceStatus, metric: int) -> ServiceStatus:
    from dataclasses import replace

    if status.path is None:
        return status
    return replace(status, path=replace(status.path, total=replace(status.path.total, metric=metric)))


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
