"""Parameters of NETCONF operations, out of an rpc's elements; what is wrong with them becomes an RpcError."""

import itertools
from typing import Any
from xml.sax.saxutils import quoteattr

from domain_twin.emulator.netconf_push import PUSH, Trigger
from domain_twin.emulator.rpc_error import NETCONF, RpcError


def trigger_of(operation: Any) -> Trigger:
    """When a push subscription is to speak (RFC 8641). Raises RpcError."""
    periodic = operation.find(f"{{{PUSH}}}periodic")
    on_change = operation.find(f"{{{PUSH}}}on-change")
    if (periodic is None) == (on_change is None):
        raise RpcError(
            "missing-element", "one of periodic and on-change is needed", info={"bad-element": "on-change"}
        )
    if periodic is not None:
        period = number_of(periodic, "period", PUSH)
        if period is None or period < 1:
            raise missing("period")
        return Trigger(period_s=period / 100)  # RFC 8641: centiseconds
    sync = text_of(on_change, PUSH, "sync-on-start")
    return Trigger(
        dampening_s=(number_of(on_change, "dampening-period", PUSH) or 0) / 100, sync_on_start=sync != "false"
    )


def identifier_of(operation: Any, uri: str) -> int:
    """The subscription id that an operation names. Raises RpcError."""
    identifier = number_of(operation, "id", uri)
    if identifier is None:
        raise missing("id")
    return identifier


def event_tags(element: Any) -> frozenset[str] | None:
    """The events that a subtree filter of an event stream lets through; None lets all."""
    return None if element is None else frozenset(child.tag for child in element)


def missing(name: str) -> RpcError:
    """The answer to an operation without a parameter it needs."""
    return RpcError("missing-element", f"{name!r} is missing", kind="protocol", info={"bad-element": name})


def text_of(operation: Any, uri: str, name: str) -> str | None:
    """The text of a parameter, None where it is absent."""
    element = operation.find(f"{{{uri}}}{name}")
    return None if element is None else (element.text or "").strip()


def number_of(operation: Any, name: str, uri: str = NETCONF) -> int | None:
    """A uint32 parameter, None where it is absent. Raises RpcError."""
    text = text_of(operation, uri, name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 0xFFFFFFFF:
        raise RpcError("invalid-value", f"{name} {text!r} is no uint32", info={"bad-element": name})
    return int(text)


def choice_of(operation: Any, name: str, accepted: tuple[Any, ...]) -> Any:
    """A parameter out of an enumeration, None where it is absent. Raises RpcError."""
    text = text_of(operation, NETCONF, name)
    if text is not None and text not in accepted:
        message = f"{name} {text!r}: {', '.join(accepted)} are accepted"
        raise RpcError("invalid-value", message, info={"bad-element": name})
    return text


def reply_attributes(rpc: Any) -> str:
    """The rpc's attributes, which its reply repeats (RFC 6241 4.2), after the default namespace."""
    parts = [f' xmlns="{NETCONF}"']
    prefixes = itertools.count()
    for name, value in rpc.attrib.items():
        if not name.startswith("{"):
            parts.append(f" {name}={quoteattr(value)}")
            continue
        uri, _, bare = name[1:].partition("}")
        prefix = f"a{next(prefixes)}"
        parts.append(f" xmlns:{prefix}={quoteattr(uri)} {prefix}:{bare}={quoteattr(value)}")
    return "".join(parts)
