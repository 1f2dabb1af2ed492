"""The desk of subscriptions: which there may be, and where they may send to. Delivering is `deliveries`'s."""

from __future__ import annotations

import time
from collections.abc import Callable

from domain_twin.errors import Conflict, ContractError
from federation.partners.callbacks import Callbacks
from federation.partners.deliveries import ACTIVE, TROUBLE, Deliveries
from federation.partners.notices import PLACES, read_query
from federation.partners.quotas import Quotas
from federation.partners.record import Body, Kind, Record, Repository

__all__ = ["Hubs"]

_COMING_S = 60.0
_APIS = frozenset(api for api, _ in PLACES.values())

Place = tuple[str, str, str]
"""What no two subscriptions of a tenant have in common: API, callback and query."""


class Hubs:
    """A `Desk` of Kind.HUB."""

    def __init__(
        self,
        deliveries: Deliveries,
        callbacks: Callbacks,
        quotas: Quotas,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deliveries = deliveries
        self._callbacks = callbacks
        self._quotas = quotas
        self._clock = clock
        self._coming: dict[str, dict[Place, float]] = {}  # agreed to, and perhaps not kept yet

    async def create(self, repository: Repository, body: Body) -> Body:
        """Raises ContractError, Conflict, OverCapacity."""
        api = body.get("api")
        if api not in _APIS:
            raise ContractError(f"api: {str(api)[:64]!r}; there are {', '.join(sorted(_APIS))}")
        read_query(_text(body, "query"))
        callback = self._callbacks.read(_text(body, "callback"))
        self._check_room(repository, _place(body))
        await self._callbacks.addresses(callback, tenant=repository.tenant)
        self._check_room(repository, _place(body))  # of those that came while the name was looked up
        self._coming.setdefault(repository.tenant, {})[_place(body)] = self._clock() + _COMING_S
        return {
            **{name: value for name, value in body.items() if name not in (*TROUBLE, "id")},
            "state": ACTIVE,
        }

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Only one change is possible: to try again what failed. Raises ContractError, Conflict."""
        changed = {name for name in {*record.body, *body} if record.body.get(name) != body.get(name)}
        if changed != {"state"}:
            raise ContractError("of a subscription only the state can be changed; delete it and make another")
        if body.get("state") != ACTIVE:
            raise Conflict(f"state: a subscription is made {ACTIVE} again; to end it, delete it")
        callback = self._callbacks.read(_text(body, "callback"))
        await self._callbacks.addresses(callback, tenant=repository.tenant)
        return {name: value for name, value in body.items() if name not in TROUBLE}

    async def remove(self, repository: Repository, record: Record) -> None:
        """Nothing speaks against it."""

    def kept(self, repository: Repository, record: Record) -> None:
        """Made, or to be tried again; at the start of the process, how it was before."""
        self._coming.get(repository.tenant, {}).pop(_place(record.body), None)
        if record.version > 1 and record.body.get("state") == ACTIVE:
            self.deliveries.try_again((repository.tenant, record.id))

    def not_kept(self, repository: Repository, body: Body) -> None:
        """Its callback and query may be asked for again."""
        self._coming.get(repository.tenant, {}).pop(_place(body), None)

    async def run(self) -> None:
        """Deliver until cancelled."""
        await self.deliveries.run()

    def _check_room(self, repository: Repository, place: Place) -> None:
        now = self._clock()
        coming = {
            name: until for name, until in self._coming.get(repository.tenant, {}).items() if until > now
        }
        self._coming[repository.tenant] = coming
        if place in coming or any(_place(each.body) == place for each in repository.list(Kind.HUB)):
            raise Conflict("you have a subscription with this callback and query already")
        self._quotas.check_hubs(repository, coming=len(coming))


def _place(body: Body) -> Place:
    return str(body.get("api", "")), str(body.get("callback", "")), str(body.get("query") or "")


def _text(body: Body, name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ContractError(f"{name}: text is expected")
    return value
