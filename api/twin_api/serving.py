"""`fedtwin api api.toml`: the APIs for partners, from their start to a good end. Owns the order of both.

What is followed meanwhile: the broker's records, the issuers' keys, the certificate. A broker that is away at
the start or later is waited for; /readyz says so.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from domain_twin.config import ApiConfig, load_api, load_client
from domain_twin.errors import IdentityMismatch
from domain_twin.operations.endpoint import serve_metrics
from domain_twin.operations.health import Check, certificate_check
from domain_twin.trust.credentials import load_tls
from domain_twin.trust.identity import Role
from federation.client import TwinClient
from federation.partners_client import PartnersClient
from twin_api import events, ndt_jobs
from twin_api.access_log import AccessLog
from twin_api.api_metrics import ApiMetrics, Counts
from twin_api.events import EventFeed
from twin_api.follower import keep_fed
from twin_api.listening import listener, server_for
from twin_api.partners_app import create_partners_app
from twin_api.read_model import ReadModel
from twin_api.tls import ServerTls
from twin_api.tmf import APIS, Engine, presenter, routes
from twin_api.tokens import Tokens

__all__ = ["run_partners_api"]

log = logging.getLogger(__name__)


async def run_partners_api(
    path: Path,
    *,
    ready: Callable[[str], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Serve partners until SIGINT or SIGTERM; `ready` is told the address.

    Raises ConfigError, CredentialError and IdentityMismatch for what is wrong at the start.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the front has logged what fails
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = load_api(path)
    profile = load_client(config.broker)
    identity = load_tls(profile.certificate, profile.key).identity
    if identity.role is not Role.API:
        raise IdentityMismatch(
            f"{profile.certificate}: is the certificate of {identity}, and an api speaks for partners as"
            " spiffe://OPERATOR/api/ID; issue one with `fedtwin ca api`"
        )
    for issuer in config.issuer:
        if issuer.trial:
            log.warning("keys for trials are taken: not for real partners", extra={"issuer": issuer.iss})
    tokens = Tokens(config)
    tls = ServerTls(config.tls) if config.tls else None
    counts, ending = Counts(), asyncio.Event()
    async with AsyncExitStack() as stack:
        sock = listener(config.listen, config.limits.connections)
        stack.callback(sock.close)
        access_log = AccessLog(sys.stdout) if config.access_log else None
        if access_log:
            access_log.start()
            stack.callback(access_log.close)
        twin = await stack.enter_async_context(TwinClient(profile))
        partners = await stack.enter_async_context(PartnersClient(profile))
        public = config.public_address.rstrip("/")
        model = ReadModel(presenter(public, APIS))
        feed = EventFeed(public)
        model.on_news = feed.take
        engine = Engine(
            model,
            partners,
            public,
            dialects=[each.removeprefix("tmf-") for each in config.dialects],
            max_body=config.limits.body_bytes,
        )

        def checks() -> Sequence[Check]:
            return [_broker_check(config, model), *_key_checks(tokens), *_certificate_checks(config, tls)]

        app = create_partners_app(
            config,
            tokens,
            twin,
            routes=[*ndt_jobs.routes(twin, model, public), *routes(engine), *events.routes(feed, model)],
            documents=[*(f"/openapi/{api.name}.json" for api in APIS), ndt_jobs.DOCUMENT],
            collections=[f"{api.base}/{each.path}" for api in APIS for each in (*api.resources, api.hub)],
            checks=checks,
            counts=counts,
            access_log=access_log,
        )
        address = _address(sock.getsockname(), "https" if tls else "http")

        def serving() -> None:
            log.info("partners are served", extra={"address": address, "public": config.public_address})
            if ready:
                ready(address)

        server = server_for(app, config, serving, tls.context if tls else None)

        def stop() -> None:
            if stopping:
                stopping()
            server.should_exit = True
            ending.set()
            feed.close()

        metrics = ApiMetrics(
            counts,
            tokens,
            checks=checks,
            read_model=lambda: (model.age_s() if model.complete else None, model.sequence),
            connections=lambda: server.open,
            access_log=access_log,
        )
        await stack.enter_async_context(serve_metrics(config.metrics, metrics.face, config.state))
        following = [keep_fed(model, partners), *(ring.follow() for ring in tokens.rings.values())]
        if tls:
            following.append(tls.follow())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
            stack.callback(loop.remove_signal_handler, number)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in following]
            await server.serve([sock])
            for task in tasks:
                task.cancel()
    log.info("api ended")


def _broker_check(config: ApiConfig, model: ReadModel) -> Check:
    if not model.complete:
        return Check("broker", False, "has not sent the records yet; the log says why")
    age_s = model.age_s()
    heard = f"heard {age_s:.0f} s ago"
    if age_s > config.max_age_s:
        return Check("broker", False, f"{heard}: what is read is that old; the log says why")
    return Check("broker", True, heard)


def _key_checks(tokens: Tokens) -> list[Check]:
    found = []
    for issuer, ring in tokens.rings.items():
        if ring.age_s is None:
            found.append(Check("issuer", False, f"{issuer}: its keys were not read yet ({ring.problem})"))
        else:
            found.append(Check("issuer", True, f"{issuer}: keys read {ring.age_s:.0f} s ago"))
    return found


def _certificate_checks(config: ApiConfig, tls: ServerTls | None) -> list[Check]:
    if tls is None:
        return []
    return [certificate_check(tls.not_after, config.metrics.certificate_margin_s, datetime.now(UTC))]


def _address(name: tuple[str, int], scheme: str) -> str:
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
