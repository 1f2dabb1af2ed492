"""`fedtwin api api.toml`: the APIs for partners, from their start to a good end. Owns the order of both.

What is followed meanwhile: the broker's records, the issuers' keys, the certificate. A broker that is away at
the start or later is waited for; /readyz says so.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from domain_twin.config import ApiConfig, ClientConfig, load_api, load_client
from domain_twin.errors import IdentityMismatch
from domain_twin.operations.endpoint import serve_metrics
from domain_twin.operations.health import Check, certificate_check
from domain_twin.trust.credentials import load_tls
from domain_twin.trust.expiry import CertificateEnd
from domain_twin.trust.identity import Role
from federation.client import TwinClient
from federation.partners_client import PartnersClient
from twin_api import events, ndt_jobs
from twin_api.access_log import AccessLog
from twin_api.api_metrics import ApiMetrics, Counts
from twin_api.events import EventFeed
from twin_api.follower import keep_fed
from twin_api.front import Front
from twin_api.listening import Server, listener, server_for
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
    _check_identity(profile)
    for issuer in config.issuer:
        if issuer.trial:
            log.warning("keys for trials are taken: not for real partners", extra={"issuer": issuer.iss})
    async with AsyncExitStack() as stack:
        sock = listener(config.listen, config.limits.connections)
        stack.callback(sock.close)
        tls = ServerTls(config.tls) if config.tls else None
        address = _address(sock.getsockname(), "https" if tls else "http")
        parts = _Parts(
            config,
            Tokens(config),
            await stack.enter_async_context(TwinClient(profile)),
            await stack.enter_async_context(PartnersClient(profile)),
            tls,
            CertificateEnd(profile.certificate, *([config.tls.certificate] if config.tls else [])),
        )
        if parts.access_log:
            parts.access_log.start()
            stack.callback(parts.access_log.close)

        def serving() -> None:
            log.info("partners are served", extra={"address": address, "public": config.public_address})
            if ready:
                ready(address)

        server = server_for(parts.app(), config, serving, tls.context if tls else None)

        def stop() -> None:
            if stopping:
                stopping()
            server.should_exit = True
            parts.feed.close()

        face = parts.metrics(server).face
        await stack.enter_async_context(serve_metrics(config.metrics, face, config.state))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
            stack.callback(loop.remove_signal_handler, number)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in parts.following()]
            await server.serve([sock])
            for task in tasks:
                task.cancel()
    log.info("api ended")


def _check_identity(profile: ClientConfig) -> None:
    """Raises CredentialError, IdentityMismatch."""
    identity = load_tls(profile.certificate, profile.key).identity
    if identity.role is not Role.API:
        raise IdentityMismatch(
            f"{profile.certificate}: is the certificate of {identity}, and an api speaks for partners as"
            " spiffe://OPERATOR/api/ID; issue one with `fedtwin ca api`"
        )


class _Parts:
    """What the process is made of, and how it hangs together."""

    def __init__(  # noqa: PLR0917
        self,
        config: ApiConfig,
        tokens: Tokens,
        twin: TwinClient,
        partners: PartnersClient,
        tls: ServerTls | None,
        end: CertificateEnd,
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._twin = twin
        self._partners = partners
        self._tls = tls
        self._end = end
        self._public = config.public_address.rstrip("/")
        self._counts = Counts()
        self._model = ReadModel(presenter(self._public, APIS))
        self.access_log = AccessLog(sys.stdout) if config.access_log else None
        self.feed = EventFeed(self._public)
        self._model.on_news = self.feed.take

    def app(self) -> Front:
        """The application, with the routes of all faces."""
        config, model, public = self._config, self._model, self._public
        engine = Engine(
            model,
            self._partners,
            public,
            dialects=[each.removeprefix("tmf-") for each in config.dialects],
            max_body=config.limits.body_bytes,
        )
        jobs = ndt_jobs.routes(self._twin, model, public)
        return create_partners_app(
            config,
            self._tokens,
            self._twin,
            routes=[*jobs, *events.routes(self.feed, model), *routes(engine)],
            documents=[*(f"/openapi/{api.name}.json" for api in APIS), ndt_jobs.DOCUMENT, events.DOCUMENT],
            collections=[f"{api.base}/{each.path}" for api in APIS for each in (*api.resources, api.hub)],
            checks=self.checks,
            serves=model.serves,
            counts=self._counts,
            access_log=self.access_log,
        )

    def metrics(self, server: Server) -> ApiMetrics:
        """What is shown to operators."""
        model = self._model
        return ApiMetrics(
            self._counts,
            self._tokens,
            checks=self.checks,
            read_model=lambda: (model.age_s() if model.complete else None, model.sequence),
            connections=lambda: server.open,
            access_log=self.access_log,
        )

    def following(self) -> list[Coroutine[Any, Any, None]]:
        """What is kept fresh as long as the process serves."""
        found = [keep_fed(self._model, self._partners)]
        found += (ring.follow() for ring in self._tokens.rings.values())
        return [*found, self._tls.follow()] if self._tls else found

    def checks(self) -> Sequence[Check]:
        """What it takes to be ready."""
        margin_s = self._config.metrics.certificate_margin_s
        return [
            _broker_check(self._config, self._model),
            _issuer_check(self._tokens),
            certificate_check(self._end.not_after(), margin_s),
        ]


def _broker_check(config: ApiConfig, model: ReadModel) -> Check:
    if not model.complete:
        return Check("broker", False, "has not sent the records yet; the log says why")
    age_s = model.age_s()
    heard = f"heard {age_s:.0f} s ago"
    if age_s > config.max_age_s:
        return Check("broker", False, f"{heard}: what is read is that old; the log says why")
    return Check("broker", True, heard)


def _issuer_check(tokens: Tokens) -> Check:
    """Whether the keys of every issuer are at hand."""
    missing = [f"{issuer} ({ring.problem})" for issuer, ring in tokens.rings.items() if ring.age_s is None]
    if missing:
        return Check("issuer", False, f"keys were not read yet: {', '.join(missing)}")
    late = [f"{issuer}: {ring.problem}" for issuer, ring in tokens.rings.items() if ring.problem]
    return Check("issuer", True, "; ".join(late) or "the keys of all issuers were read")


def _address(name: tuple[str, int], scheme: str) -> str:
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
