"""Operators whose agents train together: real histories, real agents' jobs, sessions and a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from federation_parts import EXCHANGE, OPERATORS, Federation, Pki, local
from what_if_parts import BROKER, networks

from domain_twin.agent.auditor import Auditor
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.learning import Learning
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.session import Asked, BrokerSession
from domain_twin.config import AccessConfig, AuditConfig, ClientConfig, LearningConfig
from domain_twin.datastore.history import History
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.learning.run import Run
from domain_twin.learning.task import Feature, Task, Window
from domain_twin.model import Change, Delta, Network, Origin, Version
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.learning_client import LearningClient
from federation.v1 import fedtwin_pb2 as pb

MINUTE = 60_000_000_000
END = 1_790_000_000_000_000_000 // MINUTE * MINUTE
"""The end of what is recorded, as every domain's clock has it."""
STEPS = 240
ACTIONS = frozenset({Action.VIEW, Action.DESCRIBE, Action.TRAIN})
TASK = Task(
    "demand",
    features=(Feature("ndt:carried_rate", "Mbit/s"),),
    lags=6,
    rounds=2,
    epochs=5,
    batch=64,
    learning_rate=1e-2,
    window=Window(length_s=STEPS * 60.0),
    settings={"hidden": 4},
)


def waves(seed: int, links: int, steps: int = STEPS) -> np.ndarray:
    """[links, steps]: noisy waves of an hour around a level of the domain's own, Mbit/s."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (links, 1))
    wave = np.sin(2 * np.pi * np.arange(steps) / 60 + phase)
    return np.asarray(100.0 * (seed + 1) * (1 + 0.5 * wave + rng.normal(0, 0.1, (links, steps))))


def link_path(link: str, leaf: str = "carried-rate") -> str:
    return f"/fedtwin-performance:performance/link[link-id='{link}']/{leaf}"


async def recorded(folder: Path, network: Network, seed: int, steps: int = STEPS) -> History:
    """A history in which every link carries its wave, a value a minute."""
    history = await History.open(folder, retention_days=36_500.0, raw_days=36_500.0, clock=lambda: END)
    links = sorted(network.links.values(), key=lambda link: link.id)
    values = waves(seed, len(links), steps)
    for step in range(steps):
        at = END - (steps - step) * MINUTE
        changes = tuple(
            Change(link.device, link_path(link.id), float(values[place, step]), at, at, Origin.MEASURED)
            for place, link in enumerate(links)
        )
        history.append(Delta(Version("e", step), Version("e", step + 1, at), changes))
    await history.flush()
    return history


async def _nothing(_: pb.LearnAsk) -> None: ...


class LearningDomain:
    """The handler of one agent: real jobs that train from a real history."""

    def __init__(self, network: Network, folder: Path, seed: int) -> None:
        self.network = network
        self.folder = folder
        self.seed = seed
        self.settings: dict[str, Any] = {}
        self.terms: dict[str, Any] = {}
        self.steps = STEPS
        self.now = END
        self.before: Callable[[pb.LearnAsk], Awaitable[None]] = _nothing
        self.asked: list[pb.LearnAsk] = []
        self.answers: list[pb.LearnAnswer] = []
        self.session: BrokerSession | None = None
        self.learning: Learning
        self.jobs: Jobs
        self.audit: AuditLog

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """With an open history, jobs and an audit."""
        history = await recorded(self.folder / "history", self.network, self.seed, self.steps)
        self.audit = AuditLog(self.folder / "audit", who="test", config=AuditConfig(sync="interval"))
        publisher = Publisher(
            network=lambda: self.network,
            published={},
            interval_s=0.0,
            figures_interval_s=0.0,
            send=lambda delta: self.session.publish(delta) if self.session else None,
        )
        self.jobs = Jobs(
            domain=self.network.domain,
            agreements=[Agreement("exchange", BROKER, **{"actions": ACTIONS, **self.terms})],
            published={},
            publisher=publisher,
            auditor=Auditor(self.audit),
        )
        self.learning = self.jobs.learning = Learning(
            LearningConfig(**{"idle_s": 60.0, **self.settings}),
            self.folder / "learning",
            domain=self.network.domain,
            network=lambda: self.network,
            history=history,
            clock=lambda: self.now,
        )
        try:
            yield
        finally:
            await self.learning.aclose()
            await history.close()
            self.audit.close()

    def configure(self, **settings: Any) -> None:
        """Give the domain another policy: what stands in agent.toml, as after a new start."""
        self.learning._config = config = LearningConfig(**settings)
        self.learning._max_bytes = int(config.max_mb * 1e6)

    def restart(self) -> None:
        """Forget the runs under way, as a new process would."""
        self.learning._runs.clear()

    def recover(self) -> None:
        """Be as at first."""
        self.configure()
        self.before, self.now = _nothing, END
        self.asked.clear()
        self.answers.clear()

    async def learn(self, ask: Asked, body: pb.LearnAsk) -> pb.LearnAnswer:
        """As the jobs do, with a copy of all that crosses the border; `before` may hold it up or fail it."""
        self.asked.append(body)
        await self.before(body)
        answer = await self.jobs.learn(ask, body)
        self.answers.append(answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["jobs"], name)


class LearningFederation:
    """Three operators, or as many as `domains` names."""

    def __init__(self, folder: Path, **more: Any) -> None:
        (folder / "pki").mkdir(parents=True)
        self.domains = {
            name: LearningDomain(network, folder / f"twin-{name}", seed)
            for seed, (name, network) in enumerate(sorted(networks().items()))
        }
        access = AccessConfig(subject=f"spiffe://{EXCHANGE}/user/*", learn=True)
        more = {"heartbeat_s": 1.0, "dead_after_s": 60.0, **more}  # machines are busy with training
        more.setdefault("access", (access, AccessConfig(subject=f"spiffe://{OPERATORS['ran']}/user/*")))
        self.made = Federation(folder, Pki(folder / "pki"), self.domains, more)  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Broker]:
        """The broker with all agents attached."""
        async with AsyncExitStack() as stack:
            for domain in self.domains.values():
                await stack.enter_async_context(domain.working())
            broker = await stack.enter_async_context(self.made.broker())
            for name in self.domains:
                await stack.enter_async_context(self.made.agent(name, broker))
            async with asyncio.timeout(30):
                while len(broker.sessions) < len(self.domains):  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.01)
            yield broker

    @asynccontextmanager
    async def client(
        self, broker: Broker, *, operator: str = EXCHANGE, role: Role = Role.USER, name: str = "ann"
    ) -> AsyncIterator[LearningClient]:
        issued = self.made.pki.identity(operator, role, name)
        profile = ClientConfig(
            address=local(broker),
            identity=BROKER,
            root=self.made.pki.roots[EXCHANGE],
            certificate=issued.certificate,
            key=issued.key,
        )
        async with LearningClient(profile, timeout_s=60.0) as client:
            yield client


async def ended(client: LearningClient, run: Run) -> Run:
    """The training as it ended."""
    async with asyncio.timeout(100):
        return [each async for each in client.watch(run.id)][-1]
