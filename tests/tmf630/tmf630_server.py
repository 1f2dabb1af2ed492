"""Our own application to try the TMF630 suite on: real tokens, engine, read model, desks and store, by HTTP.

Only the broker's gRPC face and the domains are left out: no twin is ever composed, so that tests of twins
(`serviceTest`) are kept as they come. `sandbox` has no desks at all: an inventory that takes what kits post.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
from starlette.types import ASGIApp

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from partners_http import NoTwin
from token_parts import PUBLIC as PUBLIC_ADDRESS
from token_parts import api_config

from domain_twin.config import PartnerConfig, QuotaConfig
from domain_twin.errors import SessionLost
from federation.partners.alarm_tasks import task_desks
from federation.partners.alarms import Alarms
from federation.partners.asking import Asking
from federation.partners.catalogue import publish
from federation.partners.dates import stamp
from federation.partners.orders import Cancels, Orders
from federation.partners.partners import Partners
from federation.partners.quotas import Quotas
from federation.partners.record import PUBLIC, Body, Desk, Kind, Record, Repository
from federation.partners.specifications import TestSpecifications
from federation.partners.store import RecordStore
from federation.partners.twins import Timing, Twins
from federation.v1 import fedtwin_pb2 as pb
from twin_api.api_metrics import Counts
from twin_api.caller import Scope
from twin_api.follower import keep_fed
from twin_api.listening import listener, server_for
from twin_api.partners_app import create_partners_app
from twin_api.read_model import ReadModel
from twin_api.tmf import APIS, Engine, presenter, routes
from twin_api.tokens import Tokens

if TYPE_CHECKING:
    from federation.session import Session

TENANT = "acme"
MEMBERS = ("ran", "core")
PARTNERS = (PartnerConfig(id=TENANT, quota=QuotaConfig(twins=10_000, runs=10_000, hubs=10_000)),)
LIMITS = {"requests_per_second": 100_000, "burst": 100_000}

T = TypeVar("T")
Wrap = Callable[[ASGIApp], ASGIApp]


class Kept:
    """A desk that takes what comes, with the marks that only a server sets."""

    def __init__(self, **marks: str) -> None:
        self._marks = marks

    async def create(self, repository: Repository, body: Body) -> Body:
        """What was sent, and the marks."""
        now = stamp(time.time_ns())
        return {**body, **{name: now if text == "now" else text for name, text in self._marks.items()}}

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Agree."""
        return body

    async def remove(self, repository: Repository, record: Record) -> None:
        """Agree."""

    def kept(self, repository: Repository, record: Record) -> None:
        """Nothing follows."""

    async def run(self) -> None:
        """Nothing is ever open."""
        await asyncio.get_running_loop().create_future()


class Away:
    """A domain that takes part in nothing, and lets everything go."""

    async def ask(self, ask: pb.SandboxAsk, **_: Any) -> pb.SandboxAnswer:
        """Only ends are agreed to. Raises SessionLost."""
        if ask.step != "close":
            raise SessionLost("the domain is away")
        return pb.SandboxAnswer()


def desks(store: RecordStore) -> Mapping[Kind, Desk]:
    """The real ones, but for tests of twins."""
    asking = Asking("exchange.example", lambda _: cast("Session", Away()))
    twins = Twins(asking, members=MEMBERS, quotas=Quotas(PARTNERS), timing=Timing(retry_s=30.0))
    orders = Orders(twins)
    return {
        Kind.SERVICE: twins,
        Kind.SERVICE_ORDER: orders,
        Kind.CANCEL_SERVICE_ORDER: Cancels(orders),
        Kind.SERVICE_TEST_SPECIFICATION: TestSpecifications(),
        Kind.SERVICE_TEST: Kept(state="acknowledged"),
        Kind.ALARM: Alarms(lambda: [store.of(TENANT)], twins.sandbox),
        **task_desks(),
    }


def sandbox(_: RecordStore) -> Mapping[Kind, Desk]:
    """Nothing is decided: for kits, whose bodies name services and domains that nobody has."""
    return {
        Kind.SERVICE_ORDER: Kept(state="acknowledged", orderDate="now"),
        Kind.CANCEL_SERVICE_ORDER: Kept(state="accepted"),
        Kind.SERVICE_TEST: Kept(state="acknowledged"),
    }


class OwnServer:
    """A loop in a thread of its own with a store in it; `listen` serves it as often as is asked."""

    def __init__(
        self,
        folder: Path,
        *,
        decide: Callable[[RecordStore], Mapping[Kind, Desk]] = desks,
        dialects: Sequence[str] = (),
    ) -> None:
        self._config, issuer = api_config(folder, limits=LIMITS)
        scopes = [str(scope) for scope in Scope]
        self.token = issuer.issue(TENANT, scopes, audience=self._config.expected_audience)
        self._folder = folder
        self._decide = decide
        self._dialects = tuple(dialects)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="own server")
        self._stack = AsyncExitStack()
        self._engine: Engine

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do something, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self) -> None:
        """Open the store, put the desks to work, follow."""
        self._thread.start()
        self.call(self._open())

    def stop(self) -> None:
        """End everything."""
        try:
            self.call(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)
            self._loop.close()

    def listen(self, wrap: Wrap = lambda app: app) -> str:
        """Serve the application, with `wrap` around it, at the address that is returned."""
        return self.call(self._listen(wrap))

    def client(self, address: str, token: str | None = None, **more: Any) -> httpx.Client:
        """A client with a token of all scopes, or another one."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False, **more)

    async def _open(self) -> None:
        store = await RecordStore.open(self._folder, "", [TENANT], limits={TENANT: PARTNERS[0].quota.records})
        self._stack.push_async_callback(store.close)
        await publish(store.of(PUBLIC), MEMBERS)
        partners = Partners(store, self._decide(store))
        partners.begin()
        model = ReadModel(presenter(PUBLIC_ADDRESS, APIS))
        self._engine = Engine(model, partners, PUBLIC_ADDRESS, dialects=self._dialects)
        for work in (partners.run(), keep_fed(model, store)):
            task = asyncio.create_task(work)
            self._stack.push_async_callback(_ended, task)
        async with asyncio.timeout(30):
            while not model.complete:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _listen(self, wrap: Wrap) -> str:
        app = create_partners_app(
            self._config,
            Tokens(self._config),
            NoTwin(),
            routes=routes(self._engine),
            documents=[f"/openapi/{api.name}.json" for api in APIS],
            counts=Counts(),
        )
        sock = listener(self._config.listen, self._config.limits.connections)
        serving = asyncio.Event()
        server = server_for(wrap(app), self._config, serving.set)
        task = asyncio.create_task(server.serve([sock]))
        async with asyncio.timeout(20):
            await serving.wait()

        async def end() -> None:
            server.should_exit = True
            await task
            sock.close()

        self._stack.push_async_callback(end)
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def own_server(folder: Path, **more: Any) -> Iterator[OwnServer]:
    """A server that has begun, and ends."""
    server = OwnServer(folder, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()
