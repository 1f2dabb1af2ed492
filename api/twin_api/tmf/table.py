"""What a table says of a resource and of an API: the engine does for each what its table says, no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.shapes import EVERYWHERE, Attribute, Shape
from twin_api.tmf.shapes_data import SHAPES

__all__ = ["Api", "Operation", "Resource", "States", "events_of", "hub", "resource"]


class Operation(StrEnum):
    """What can be done with a resource."""

    LIST = "list"
    READ = "read"
    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class States:
    """Which moves of a state attribute a client may ask for by PATCH."""

    attribute: str
    moves: Mapping[str, tuple[str, ...]]
    terminal: tuple[str, ...] = ()
    """A resource in one of these does not change any more."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One collection of an API."""

    kind: Kind
    path: str
    shape: Shape
    allowed: Mapping[Operation, tuple[Scope, ...]]
    """Operations that there are, each with the scopes of which a caller needs one."""
    mandatory: tuple[str, ...] = ()
    """What a client must give when it creates one."""
    served: tuple[str, ...] = ()
    """Set by the server: a client that gives one is refused (400)."""
    ignored: tuple[str, ...] = ()
    """Set by the server: what a client gives is left aside, since the official document lets it give them."""
    fixed: tuple[str, ...] = ()
    """Cannot be changed once it is there (400)."""
    types: tuple[str, ...] = ()
    """Values of `@type` that are known; the first is that of a resource that names none."""
    states: States | None = None
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Set when one is created, where no desk does it: a text, or `now`."""
    touched: str = ""
    """The date of the last change, kept by the engine where no desk does it."""
    singular: str = ""
    hidden: tuple[str, ...] = ()
    """Kept in the record and shown to nobody."""
    apart: tuple[str, ...] = ()
    """Types of which a list holds only its own: left out unless `@type` asks for one of them."""
    unique: tuple[str, ...] = ()
    """No two of a tenant have these in common (409)."""

    @property
    def name(self) -> str:
        """For people: `serviceOrder`."""
        return self.singular or self.path

    @property
    def type(self) -> str:
        """The `@type` of a resource that names none."""
        return self.types[0]

    def attribute(self, name: str) -> Attribute | None:
        """What the attribute of that name holds; None: there is none."""
        return None if name in self.hidden else self.shape.attributes.get(name)

    def writable(self) -> tuple[str, ...]:
        """What a client may give when it creates one."""
        out = {*self.served, *self.hidden, "id", "href"}
        return tuple(name for name in self.shape.attributes if name not in out)

    def changeable(self) -> tuple[str, ...]:
        """What a client may change."""
        out = {*self.served, *self.ignored, *self.fixed, *self.hidden, *EVERYWHERE, "id", "href"}
        if self.states:
            out.discard(self.states.attribute)
        return tuple(name for name in self.shape.attributes if name not in out)


@dataclass(frozen=True, slots=True)
class Api:
    """One TM Forum API: where it is, what it holds, which events it tells."""

    name: str
    """As in its base path, and in the records of its hubs."""
    number: str
    title: str
    version: str
    base: str
    resources: tuple[Resource, ...]
    events: tuple[str, ...]
    hub: Resource

    def collection(self, path: str) -> Resource | None:
        """The resource at that path; None: there is none."""
        return next((each for each in (*self.resources, self.hub) if each.path == path), None)


def resource(kind: Kind, path: str, shape: str, **words: Any) -> Resource:
    """A resource of a named shape, whose `@type` is its shape's name unless it says others."""
    words.setdefault("types", (shape,))
    words.setdefault("singular", str(kind))
    return Resource(kind, path, SHAPES[shape], **words)


def events_of(shape: str, *kinds: str) -> tuple[str, ...]:
    """Names of events, such as ServiceOrderCreateEvent."""
    return tuple(f"{shape}{kind}Event" for kind in kinds)


def hub() -> Resource:
    """Subscriptions to the events of one API."""
    return resource(
        Kind.HUB,
        "hub",
        "EventSubscription",
        allowed=dict.fromkeys(Operation, (Scope.EVENTS,)),
        mandatory=("callback",),
        served=("state", "lastError", "failingSince", "deadLetterCount", "deadLetter"),
        fixed=("callback", "query"),
        states=States("state", dict.fromkeys(("retrying", "impaired", "suspended"), ("active",))),
        hidden=("api", "apiAddress"),
        unique=("callback", "query"),
    )
