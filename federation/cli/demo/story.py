"""The story, act by act. Owns the order of what is asked and shown; every number is asked, none is made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, TwinError, Unreachable
from federation.cli.demo import files as demo_files
from federation.cli.demo import screens
from federation.cli.demo.account import Account, Phase, Reaction
from federation.cli.demo.files import OPERATORS, SERVICE, DemoFiles
from federation.cli.demo.phase import look, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from domain_twin.config import DeviceConfig
    from domain_twin.model import DomainStatus, Event, ServiceStatus
    from federation.cli.demo.dependence import Said
    from federation.cli.demo.folder import DemoFolder
    from federation.cli.demo.inside import Inside, Stretch
    from federation.cli.demo.prediction import Prediction
    from federation.cli.demo.screen import Screen, Steps
    from federation.cli.demo.supervisor import Supervisor
    from federation.cli.demo.watcher import Watcher
    from federation.client import TwinClient

READY_S = 90.0
NEWS_S = 20.0
COMPILED_S = 120.0
SETTLE_S, SETTLE_QUICK_S = 8.0, 4.0
LEAD_NS = 6_000_000_000


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
        self._warmed = asyncio.Event()
        self.all_started = asyncio.Event()

    async def tell(self) -> None:
        """All acts in order. Raises TwinError when one cannot go on."""
        from federation.cli.demo.watcher import Watcher
        from federation.client import TwinClient

        self._screen.title("FedTwin", "Four operators, one end-to-end twin, and nobody shows their network.")
        await self._start()
        async with (
            TwinClient.connect(self._files.client) as twin,
            Watcher(twin) as watcher,
            in_background(self._warm(twin)),
        ):
            self._tell_joining(await twin.domains())
            await self._screen.pause(4)
            await self._composed(twin)
            await self._screen.pause(5)
            before = await self._service(twin)
            await self._screen.pause(5)
            stretch, prediction = await self._foresee(twin, before)
            await self._screen.pause(4)
            said, services = await self._dependents(twin, stretch)
            await self._screen.pause(4)
            device, began = await self._cut(twin, watcher, before, stretch)
            await self._compare(twin, prediction)
            await self._changed(twin, said, services)
            await self._screen.pause(5)
            await self._repair(twin, watcher, device, stretch)
            await self._screen.pause(3)
            await self._partner()
            await self._screen.pause(4)
            await self._learn()
            await self._screen.pause(4)
            await self._outage(twin, watcher)
            await self._screen.pause(3)
            await self._history(twin, began)
            await self._screen.pause(3)
        await self._evidence()
        self._screen.act("What was seen")
        screens.summary(self._screen, self._account)

    def what_next(self) -> None:
        """What to try while everything runs on."""
        screens.what_next(self._screen, self._files)

    # ---- start and join

    async def _start(self) -> None:
        agents = {operator.domain: f"{operator.domain}, {operator.name}" for operator in OPERATORS}
        broker = f"broker, {demo_files.BROKER_OPERATOR}"
        api = "service APIs, for partners"
        names = ["certificates", "emulated network", broker, api, *agents.values(), "end-to-end view"]
        self._screen.act(
            "Four operators start",
            "Four emulated networks, one twin agent for each of their operators, and a broker. Every process"
            " has keys of its own; they trust each other's certificates, and nothing else.",
        )
        async with self._screen.steps(names) as steps:
            steps.begin("certificates")
            folder, seed = self._folder.path, self._account.seed
            self._files = await asyncio.to_thread(demo_files.write_all, folder, seed=seed)
            steps.done("certificates", "five operators, an authority each")
            try:
                async with asyncio.TaskGroup() as group:
                    serving = group.create_task(self._serve_broker(steps, broker))
                    group.create_task(self._serve_domains(steps, agents))
                    await serving
                    group.create_task(self._serve_api(steps, api))
                    await self._join(steps, agents)
                self.all_started.set()
            except BaseExceptionGroup as several:
                raise _first_of(several) from None

    async def _serve_broker(self, steps: Steps, title: str) -> None:
        steps.begin(title, "starting")
        await self._process("broker", ["broker", str(self._files.broker)])
        steps.done(title, "serves, over mTLS")

    async def _serve_api(self, steps: Steps, title: str) -> None:
        steps.begin(title, "starting")
        await self._process("api", ["api", str(self._files.api)])
        steps.done(title, "serve, over HTTP")

    async def _serve_domains(self, steps: Steps, agents: dict[str, str]) -> None:
        steps.begin("emulated network", "starting")
        await self._process("emulator", ["emulate", str(self._files.network)])
        steps.done("emulated network", "devices answer NETCONF and gNMI")
        async with asyncio.TaskGroup() as group:
            for domain, title in agents.items():
                steps.begin(title, "agent is starting")
                path = str(self._files.agent(domain))
                group.create_task(self._process(f"agent-{domain}", ["agent", path]))

    async def _process(self, name: str, arguments: list[str]) -> None:
        process = await self._supervisor.start(name, arguments)
        self._folder.note([each.running for each in self._supervisor.processes], kept=False)
        await self._supervisor.ready(process, READY_S)
        took = round(process.ready_s or 0.0, 3)
        self._account.processes.append({"name": name, "pid": process.child.pid, "ready_s": took})

    async def _join(self, steps: Steps, agents: dict[str, str]) -> None:
        """Wait until all domains have joined, and until the service has a measured path across them."""
        from federation.client import TwinClient

        steps.begin("end-to-end view", "waiting for all four")
        async with TwinClient.connect(self._files.client) as twin:

            async def seen() -> ServiceStatus | None:
                for status in await twin.domains():
                    if status.connected and status.points and status.domain not in self._joined:
                        self._joined[status.domain] = self._account.elapsed()
                        steps.done(agents[status.domain], "joined the twin")
                if len(self._joined) < len(agents):
                    return None
                self._account.all_joined_s = self._account.all_joined_s or self._account.elapsed()
                found = (await twin.services(SERVICE)).statuses
                return found[0] if found and found[0].path and found[0].met is not None else None

            await until(seen, READY_S, "end-to-end view")
        self._account.first_view_s = self._account.elapsed()
        steps.done("end-to-end view", f"{self._account.first_view_s:.1f} s after the start")

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
        self._screen.act(
            "What the broker sees, and what it does not",
            "Left, what each operator's own agent says to its operator. Right, all that leaves the domain:"
            " border points, published end points, and signed figures for what lies between them.",
        )
        self._screen.show(screens.composed(domains, self._insides))
        if refusal := await _refusal(twin):
            self._screen.say(f"Asked for the devices, the broker answers: [dim]{refusal}[/]")
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

    async def _service(self, twin: TwinClient) -> ServiceStatus:
        service = (await twin.services(SERVICE)).statuses[0].service
        self._screen.act(
            "A service across all four",
            f"[bold]{service.name}[/] runs from {service.source} to {service.target} and was promised"
            f" {demo_files.OBJECTIVE_MS:g} ms. The promise is split: each operator knows its own share, and"
            " none of the others'.",
        )
        status, phase = await self._phase(twin, "before")
        self._screen.show(screens.service(status, phase, self._screen.width))
        self._screen.show(screens.truth(phase))
        return status

    async def _phase(self, twin: TwinClient, name: str) -> tuple[ServiceStatus, Phase]:
        seconds = SETTLE_QUICK_S if self._screen.quick else SETTLE_S
        async with self._screen.steps(["packets"]) as steps:
            steps.begin("packets", f"timing this service's packets for {seconds:.0f} s")
            status, phase = await look(twin, self._files.emulator, name, seconds)
            steps.done("packets", f"{phase.packets} packets of this service, timed one by one")
        self._account.phases.append(phase)
        return status, phase

    # ---- predict, cut and repair

    async def _foresee(self, twin: TwinClient, before: ServiceStatus) -> tuple[Stretch, Prediction]:
        """Choose the link to cut, and ask beforehand what the service will get without it."""
        from federation.cli.demo.prediction import foresee

        route = await self._route(before)
        stretch = _chosen(route)
        self._screen.act(
            "What if a link were cut?",
            "Which one? The broker cannot know. The transport operator's own agent does; the service crosses",
        )
        self._screen.show(screens.route(route, stretch))
        self._screen.say(
            "Nothing is touched yet. Its operator notes the cut in a file of its own agent. Then the broker"
            " is asked what the service would get: every agent computes its part, and transport's alone knows"
            " of the cut.",
        )
        phase = self._account.phases[0]
        async with self._screen.steps(["what if"]) as steps:
            steps.begin("what if", "the engine is compiled, once on this machine")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPILED_S):
                    await self._warmed.wait()
            steps.begin("what if", "routes, loads and queues without that link")
            own = self._files.socket("transport")
            prediction = await foresee(own, twin, before, phase, stretch.link)
            steps.done("what if", "answered" if prediction.made else "no prediction; the story goes on")
        self._screen.show(screens.prediction(prediction))
        return stretch, prediction

    async def _dependents(self, twin: TwinClient, stretch: Stretch) -> tuple[Said, Sequence[ServiceStatus]]:
        """Ask who depends on the link that will be cut; the services as they stand before it."""
        from federation.cli.demo.dependence import dependents

        self._screen.act(
            "Who depends on this link?",
            "The same link as a question of meaning. Transport's agent follows its own graph from the link to"
            " the segments that it shows; the broker goes on from those to services, slices and customers."
            " Neither knows the other's half.",
        )
        services = (await twin.services()).statuses
        async with self._screen.steps(["dependence"]) as steps:
            steps.begin("dependence", "followed inside transport, then across the four")
            said = await dependents(self._files.socket("transport"), self._files.client, stretch.link)
            steps.done("dependence", "answered" if said.impact else "no answer; the story goes on")
        self._screen.show(screens.dependents(said, services))
        return said, services

    async def _changed(self, twin: TwinClient, said: Said, before: Sequence[ServiceStatus]) -> None:
        """Who was said to depend on the link, beside whose path has changed."""
        from federation.cli.demo.dependence import compare

        compared = compare(said, before, (await twin.services()).statuses)
        self._account.impacts.append(compared)
        if said.impact:
            self._screen.say("And who had been said to depend on it?")
            self._screen.show(screens.compared(compared, before))

    async def _compare(self, twin: TwinClient, prediction: Prediction) -> None:
        """What was said before the cut, beside what came."""
        from federation.cli.demo.prediction import judge

        status = (await twin.services(SERVICE)).statuses[0]
        taken = screens.routers(await self._route(status))
        verdict = judge(prediction, self._account.phases[1], taken)
        self._account.predictions.append(verdict)
        if prediction.made:
            self._screen.say("And what had been said of it, before it was cut?")
            self._screen.show(screens.verdict_on(verdict))

    async def _warm(self, twin: TwinClient) -> None:
        """Have the engine ready when it counts, while other acts are told: it is compiled when first used."""
        from federation.cli.demo.prediction import compile_engine, warm

        try:
            await compile_engine()
            status = (await twin.services(SERVICE)).statuses[0]
            link = _chosen(await self._route(status)).link
            await warm(self._files.socket("transport"), twin, status, link)
        finally:
            self._warmed.set()

    async def _cut(
        self, twin: TwinClient, watcher: Watcher, before: ServiceStatus, stretch: Stretch
    ) -> tuple[DeviceConfig, int]:
        from domain_twin.config import load_agent

        devices = {device.name: device for device in load_agent(self._files.agent("transport")).device}
        device = devices[stretch.device]
        self._screen.act(
            "The link is cut",
            f"An engineer of longhaul.example logs in to [bold]{device.name}[/] by NETCONF and switches off"
            f" {stretch.interface}: edit-config on the candidate, validate, commit.",
        )
        began = time.time_ns()
        reaction = await self._edit(watcher, before, device, stretch, enabled=False)
        self._screen.show(screens.reaction(reaction))
        status, phase = await self._phase(twin, "cut")
        first = self._account.phases[0]
        self._screen.say(
            "From outside the path is the same: the same four domains. What it costs is not, and whose part"
            f" that is can be seen at once: [bold]{screens.most_changed(first, phase)}[/].",
        )
        self._screen.show(screens.service(status, phase, self._screen.width, first))
        self._screen.show(screens.truth(phase))
        self._screen.say("Inside transport, for its own operator only, the traffic now takes")
        self._screen.show(screens.route(await self._route(status)))
        return device, began

    async def _route(self, status: ServiceStatus) -> Sequence[Stretch]:
        from federation.cli.demo.inside import route_of
        from federation.client import TwinClient as Client

        async with Client.connect(self._files.socket("transport")) as own:
            return await route_of(own, status)

    async def _edit(
        self,
        watcher: Watcher,
        status: ServiceStatus,
        device: DeviceConfig,
        stretch: Stretch,
        *,
        enabled: bool,
    ) -> Reaction:
        """Edit the device; wait for the service on another path than `status` has, with its delay."""
        from federation.cli.demo.change import set_enabled

        old = status.path.total.metric if status.path else -1
        started = time.time_ns()
        edit = await asyncio.to_thread(set_enabled, device, stretch.interface, enabled)

        def rerouted(event: Event) -> bool:
            new = event.service_status
            return bool(new and new.service.id == SERVICE and new.path and new.path.total.metric != old)

        def measured(event: Event) -> bool:
            new = event.service_status
            return rerouted(event) and new is not None and new.met is not None

        path = await watcher.first(rerouted, since=started, timeout_s=NEWS_S, what="the new path")
        known = await watcher.first(measured, since=started, timeout_s=NEWS_S, what="the new path's delay")
        name = "repair" if enabled else "cut"
        reaction = Reaction(
            name, edit.device, edit.interface, edit.sent_at, edit.replied_at, known.at, path_at=path.at
        )
        self._account.reactions.append(reaction)
        return reaction

    async def _repair(
        self, twin: TwinClient, watcher: Watcher, device: DeviceConfig, stretch: Stretch
    ) -> None:
        self._screen.act(
            "The link is repaired",
            f"The same engineer switches {stretch.interface} of {device.name} on again.",
        )
        during = (await twin.services(SERVICE)).statuses[0]
        reaction = await self._edit(watcher, during, device, stretch, enabled=True)
        self._screen.show(screens.reaction(reaction))
        status, phase = await self._phase(twin, "repaired")
        self._screen.show(screens.service(status, phase, self._screen.width, self._account.phases[1]))
        self._screen.show(screens.truth(phase))

    async def _partner(self) -> None:
        from federation.cli.demo import partner_screen
        from federation.cli.demo.partner_files import GUEST
        from federation.cli.demo.partnering import STEPS, be_partner

        self._screen.act(
            "A partner orders a twin",
            f"{GUEST.name}, belongs to none of the four. It has an address and an access token, and"
            " speaks TM Forum's APIs. It orders a twin of its own, from radio cells to the edge; each"
            " domain decides by its own agreement. Then it cuts a link in it, and touches no network.",
        )
        async with self._screen.steps(STEPS) as steps:
            told = await be_partner(self._files, steps)
        self._account.partners.append(told)
        partner_screen.show(self._screen, told)

    async def _learn(self) -> None:
        from federation.cli.demo import learning_screen
        from federation.cli.demo.learning import STEPS, learn_together
        from federation.cli.demo.learning_files import LIAR

        self._screen.act(
            "Learning together",
            "What will each link carry in some seconds? The four train one forecaster: each on what its own"
            " agent has recorded in this demo, and only changes of the model leave it. Then the operator of"
            f" {LIAR} puts a file of its own into its agent, which sends poison.",
        )
        async with self._screen.steps(STEPS) as steps:
            told = await learn_together(self._files, steps)
        self._account.trainings.append(told)
        learning_screen.show(self._screen, told)

    async def _outage(self, twin: TwinClient, watcher: Watcher) -> None:
        from federation.cli.demo.outage import suffer

        self._screen.act(
            "A process dies",
            "kill -9 of the transport operator's agent, without a warning to anybody. The last view stays,"
            " marked stale: an answer that rests on it says so. Then the agent is started again.",
        )
        name = "agent-transport"
        (process,) = [each for each in self._supervisor.processes if each.name == name]

        async def restart() -> None:
            await self._process(name, ["agent", str(self._files.agent("transport"))])

        async with self._screen.steps([name]) as steps:
            steps.begin(name, "killed; waiting for the end-to-end twin to be whole again")
            happened = await suffer(twin, watcher, process, self._files.socket("transport"), restart)
            steps.done(name, "died, was started again, and is in step")
        self._account.outages.append(happened)
        self._screen.show(screens.outage(happened))
        self._screen.say(
            f"The agent holds {happened.values:,} values again, and its network is what it was, element for"
            f" element. The broker's alarm has come and gone: [dim]{happened.alarm.text}[/]"
        )

    async def _history(self, twin: TwinClient, began: int) -> None:
        self._screen.act(
            "The same minute, once more",
            "The broker kept what it saw: the service's delay over time, and what changed it. Upright lines"
            " are the moments at which the watcher knew.",
        )
        statuses, events = await twin.service_history(SERVICE, began - LEAD_NS, time.time_ns())
        self._account.history_samples = len(statuses)
        if not statuses:
            raise NotFound("the broker has no history of the service; see its log")
        self._screen.show(screens.history(statuses, events, self._account.reactions, self._screen.width))

    async def _evidence(self) -> None:
        from federation.cli.demo.evidence import forge, gather

        self._screen.act(
            "Who asked what, and what was said",
            "Every process wrote down what it disclosed, before it left, and what it refused: each record"
            " holds the hash of the one before.",
        )
        agents = [self._files.socket(operator.domain).parent for operator in OPERATORS]
        folders = [state / "audit" for state in (*agents, self._files.broker.parent / "state")]
        found = [await asyncio.to_thread(gather, folder) for folder in folders]
        self._account.audits = found
        self._screen.show(screens.evidence(found))
        forged = await asyncio.to_thread(forge, folders[1])
        if forged.fault:
            self._screen.say(
                "One figure changed in a copy of transport's audit, and `fedtwin audit verify` says:"
                f" [dim]line {forged.fault.line}: {forged.fault.what}[/]"
            )


def _chosen(route: Sequence[Stretch]) -> Stretch:
    """The link that is cut: in the middle of the route."""
    return route[len(route) // 2]


@asynccontextmanager
async def in_background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do `work` meanwhile, as far as it gets; what goes wrong with it is nobody's concern."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _refusal(twin: TwinClient) -> str:
    """What the broker says when it is asked for devices."""
    try:
        await twin.devices()
    except Unreachable:
        raise
    except TwinError as error:
        return str(error)
    return ""


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
