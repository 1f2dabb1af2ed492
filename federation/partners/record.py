"""What is kept for partners, and who decides what becomes of it: the types that all here is written in.

A record is one resource of one tenant, as TM Forum shapes it (without `href`, which only the HTTP face
knows). A `Repository` is bound to one tenant when it is made: there is no way to ask across tenants. A `Desk`
decides for the kinds of record that do something; kinds without a desk are stored as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from domain_twin.model import Nanoseconds

__all__ = [
    "PUBLIC",
    "Body",
    "Desk",
    "Kind",
    "Made",
    "News",
    "Record",
    "Repository",
    "Reserving",
    "partner_identity",
]

Body = Mapping[str, Any]
"""A JSON object."""

PUBLIC = ""
"""The tenant whose records everybody reads: the catalogue that the operator publishes."""


class Kind(StrEnum):
    """Resources that are kept, by their names in the TM Forum documents."""

    SERVICE_CATALOG = "serviceCatalog"  # TMF633
    SERVICE_CATEGORY = "serviceCategory"
    SERVICE_CANDIDATE = "serviceCandidate"
    SERVICE_SPECIFICATION = "serviceSpecification"
    IMPORT_JOB = "importJob"
    EXPORT_JOB = "exportJob"
    SERVICE_ORDER = "serviceOrder"  # TMF641
    CANCEL_SERVICE_ORDER = "cancelServiceOrder"
    SERVICE = "service"  # TMF638
    RESOURCE = "resource"  # TMF639; made from the twin's view, never on disk
    SERVICE_TEST_SPECIFICATION = "serviceTestSpecification"  # TMF653
    SERVICE_TEST = "serviceTest"
    ALARM = "alarm"  # TMF642
    ACK_ALARM = "ackAlarm"
    UN_ACK_ALARM = "unAckAlarm"
    CLEAR_ALARM = "clearAlarm"
    COMMENT_ALARM = "commentAlarm"
    GROUP_ALARM = "groupAlarm"
    UN_GROUP_ALARM = "unGroupAlarm"
    HUB = "hub"  # of every API: {"api": "serviceOrdering", "callback": ..., "query": ...}
    USE = "use"  # what a tenant's runs took, by day: metering
    SIGNING_KEY = "signingKey"  # public: what the signatures of events are verified with, a JWK each


@dataclass(frozen=True, slots=True)
class Record:
    """One resource of one tenant. `version` grows with its changes, `sequence` with those of all records."""

    tenant: str
    kind: Kind
    id: str
    version: int
    sequence: int
    body: Body  # holds `id`, never `href`
    changed_at: Nanoseconds


@dataclass(frozen=True, slots=True)
class Made:
    """What a create came to; `repeated`: its key was known, and this is what was made under it before."""

    record: Record
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What a follower of all records gets: first the state, then every change. For a read model.

    A record without a body was removed. `sequence`: everything up to there has been sent; together with
    `epoch` it says where to go on from, once `complete` was true.
    """

    records: tuple[Record, ...] = ()
    epoch: str = ""
    sequence: int = 0
    complete: bool = False
    """The state as it was when following began has been sent: what comes from here on is news."""
    begins_anew: bool = False
    """What was sent before counts no more: all records follow, up to the next `complete`."""
    at: Nanoseconds = 0
    tenants: frozenset[str] | None = None
    """With `begins_anew`: all partners that are served; None where that is not said."""


class Repository(Protocol):
    """The records of one tenant. What is written is on disk, with its events, when a method returns.

    An event is written with every change of a record: `<Kind>CreateEvent`, `<Kind>StateChangeEvent` where
    `state` (or the kind's own word for it) changed, else `<Kind>AttributeValueChangeEvent`, and
    `<Kind>DeleteEvent`.
    """

    @property
    def tenant(self) -> str:
        """Whose records these are."""

    def get(self, kind: Kind, identity: str) -> Record:
        """Raises NotFound: a foreign record answers exactly as one that does not exist."""

    def list(self, kind: Kind) -> Sequence[Record]:
        """All of a kind, newest first."""

    async def create(self, kind: Kind, body: Body, *, key: str = "") -> Record:
        """Keep a new record; an `id` is made where the body has none. Raises Conflict, OverCapacity."""

    async def update(self, record: Record, body: Body) -> Record:
        """Replace a record's body. Raises StaleVersion where it changed since `record` was read, NotFound."""

    async def remove(self, record: Record) -> int:
        """Forget a record; the sequence of that change. Raises StaleVersion, NotFound."""

    def show(self, kind: Kind, bodies: Mapping[str, Body]) -> None:
        """Replace all of a kind that is made from something else (resources): by id, never on disk."""


class Desk(Protocol):
    """Decides for one kind. Each method returns what is to be kept and raises TwinError to refuse.

    Refusals: ContractError (what was sent is wrong: 400), NotFound (404), Conflict (does not fit the state:
    409), StaleVersion (409, or 412 where a version was named), OverCapacity (429), NotShared (403).
    """

    async def create(self, repository: Repository, body: Body) -> Body:
        """The record to keep for what a partner sent: checked, with states, dates and ids of its own."""

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """The record to keep when a partner's patch would make `body` of it."""

    async def remove(self, repository: Repository, record: Record) -> None:
        """Agree to forget it."""

    def kept(self, repository: Repository, record: Record) -> None:
        """It is on disk: begin what follows from it. Also called for every record at start."""

    async def run(self) -> None:
        """Do what is open until cancelled: what a restart left in the middle goes on, or ends in words."""


@runtime_checkable
class Reserving(Protocol):
    """A `Desk` that holds something for what it agreed to until it is kept: a place in a quota, a name."""

    def not_kept(self, repository: Repository, body: Body) -> None:
        """What `create` returned is not on disk, or was there already: nothing is held for it any more."""


def partner_identity(operator: str, tenant: str) -> str:
    """The identity under which domains know a partner of an exchange."""
    return f"spiffe://{operator}/partner/{tenant}"
