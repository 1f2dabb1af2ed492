"""What a client may create and change, by the resource's table. Pure: bodies in, bodies out, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from federation.partners.documents import merge
from twin_api.tmf.bodies import without_nulls
from twin_api.tmf.errors import Refused
from twin_api.tmf.shapes import EVERYWHERE, Unfit, check
from twin_api.tmf.shapes_data import SHAPES
from twin_api.tmf.table import Resource

__all__ = ["created", "patched", "stamp"]

_IDENTITY: Final = ("id", "href")


def stamp(now: datetime) -> str:
    """A moment as TM Forum writes it: RFC 3339, milliseconds, UTC."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def created(resource: Resource, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What to send to the broker for what a client posted. Raises Refused (400)."""
    given = without_nulls(body)
    for name in given:
        _known(resource, name)
        if name in _IDENTITY or name in resource.served:
            raise Refused(400, f"{name} is set by the server; leave it out", code="readOnlyAttribute")
    missing = [name for name in resource.mandatory if name not in given]
    if missing:
        raise Refused(
            400, f"{', '.join(missing)} {_is(missing)} missing and mandatory", code="missingAttribute"
        )
    kept = {name: _fitting(resource, name, value) for name, value in given.items()}
    for name in resource.mandatory:
        if kept[name] in ("", [], {}):
            raise Refused(400, f"{name} is mandatory and empty", code="missingAttribute")
    _type(resource, kept.setdefault("@type", resource.type))
    for name in resource.ignored:
        kept.pop(name, None)
    for name, text in resource.stamps.items():
        kept[name] = stamp(now) if text == "now" else text
    return kept


def patched(
    resource: Resource, held: Mapping[str, Any], patch: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The merge patch to send to the broker; empty: nothing changes. Raises Refused (400, 409)."""
    kept = dict(patch)
    changeable = resource.changeable()
    for name, value in patch.items():
        if name in EVERYWHERE and value == held.get(name, resource.type if name == "@type" else None):
            del kept[name]  # the whole resource, as it was read, with a change in it
            continue
        _known(resource, name)
        if name not in changeable:
            raise Refused(400, f"{name} cannot be changed", code="readOnlyAttribute")
    merged = merge(held, kept)
    must_stay = {*resource.mandatory, *((resource.states.attribute,) if resource.states else ())}
    for name in kept:
        if name in merged:
            fitting = _fitting(resource, name, merged[name])
            if isinstance(fitting, list):
                kept[name] = fitting
        if name in must_stay and merged.get(name) in (None, "", [], {}):
            raise Refused(400, f"{name} is mandatory: it cannot be taken away", code="missingAttribute")
    _move(resource, held, merged)
    if kept and resource.touched:
        kept[resource.touched] = stamp(now)
    return kept


def _known(resource: Resource, name: str) -> None:
    if resource.attribute(name) is None:
        raise Refused(
            400, f"{name[:100]} is not an attribute of {resource.shape.name}", code="unknownAttribute"
        )


def _fitting(resource: Resource, name: str, value: Any) -> Any:
    attribute = resource.attribute(name)
    assert attribute is not None
    try:
        return check(SHAPES, attribute, value, name)
    except Unfit as unfit:
        raise Refused(400, str(unfit), code=unfit.code) from None


def _type(resource: Resource, name: str) -> None:
    if name not in resource.types:
        raise Refused(
            400,
            f"@type {name[:100]!r} is not known here; there is {', '.join(resource.types)}",
            code="unknownType",
        )


def _move(resource: Resource, held: Mapping[str, Any], merged: Mapping[str, Any]) -> None:
    """Refuse what the states do not allow."""
    states = resource.states
    if states is None:
        return
    now, then = held.get(states.attribute), merged.get(states.attribute)
    if now in states.terminal:
        raise Refused(409, f"the {resource.name} is {now}: it does not change any more", code="terminalState")
    if now != then and then not in states.moves.get(str(now), ()):
        may = ", ".join(states.moves.get(str(now), ())) or "nothing else"
        raise Refused(
            409,
            f"{states.attribute} {now} cannot become {then}; a client may ask for {may}",
            code="illegalTransition",
        )


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
