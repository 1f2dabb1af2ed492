"""A domain's elements in general form, for lists and searches. Every attribute of the model is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from domain_twin.model import Element, Network

KINDS: Mapping[str, str] = {
    "nodes": "node",
    "termination_points": "termination-point",
    "links": "link",
    "functions": "network-function",
    "cells": "cell",
    "hosts": "host",
}
"""Collections of a Network and the word for what they hold."""
_NOT_ATTRIBUTES = {"id", "name", "stale", "kpis"}


def elements(network: Network, *, kind: str = "", prefix: str = "") -> Iterator[Element]:
    """The network's elements of this kind (empty: all) whose ids begin with `prefix`."""
    for collection, word in KINDS.items():
        if kind in ("", word):
            for identity, item in getattr(network, collection).items():
                if identity.startswith(prefix):
                    yield _element(network.domain, word, item)


def _element(domain: str, kind: str, item: Any) -> Element:
    kpis = getattr(item, "kpis", {})
    return Element(
        id=item.id,
        kind=kind,
        domain=domain,
        name=getattr(item, "name", "") or item.id.removeprefix(f"urn:ndt:{domain}:"),
        up=getattr(item, "up", True),
        stale=item.stale,
        attributes=dict(_attributes(item)),
        kpis=tuple(kpis[name] for name in sorted(kpis)),
    )


def _attributes(item: Any) -> Iterator[tuple[str, str]]:
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name in _NOT_ATTRIBUTES or value is None:
            continue
        if is_dataclass(value):
            yield from _attributes(value)
        else:
            yield field.name.replace("_", "-"), _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
