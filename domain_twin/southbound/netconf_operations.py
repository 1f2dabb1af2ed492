"""NETCONF operations as elements (RFC 6241, RFC 6022, RFC 8525), and what their replies and the hello say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lxml import etree

from domain_twin.southbound.base import YangModule
from domain_twin.southbound.netconf_messages import BASE
from domain_twin.southbound.netconf_push import DATASTORES, PUSH

__all__ = [
    "commit",
    "edit_config",
    "get_data",
    "get_library",
    "get_nothing",
    "get_schema",
    "hello_features",
    "hello_modules",
    "library_modules",
    "on_datastore",
    "operation",
    "schema_text",
]

MONITORING = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
NMDA = "urn:ietf:params:xml:ns:yang:ietf-netconf-nmda"
LIBRARY = "urn:ietf:params:xml:ns:yang:ietf-yang-library"
_CAPABILITY = "urn:ietf:params:netconf:capability:"
_FEATURES = {
    f"{_CAPABILITY}candidate:": "candidate",
    f"{_CAPABILITY}confirmed-commit:1.1": "confirmed-commit",
    f"{_CAPABILITY}validate:": "validate",
    f"{_CAPABILITY}notification:": "notification",
    f"{_CAPABILITY}interleave:": "interleave",
    f"{_CAPABILITY}writable-running:": "writable-running",
    f"{_CAPABILITY}rollback-on-error:": "rollback-on-error",
    f"{_CAPABILITY}yang-library:": "yang-library",
    MONITORING: "get-schema",
    PUSH: "yang-push",
    NMDA: "nmda",
}


def hello_features(capabilities: Iterable[str]) -> frozenset[str]:
    """Short names of the capabilities that matter here."""
    offered = list(capabilities)
    return frozenset(
        name for prefix, name in _FEATURES.items() if any(uri.startswith(prefix) for uri in offered)
    )


def hello_modules(capabilities: Iterable[str]) -> list[YangModule]:
    """Modules of the hello (RFC 6020 5.6.4): `namespace?module=...&revision=...&features=...`."""
    out = []
    for capability in capabilities:
        query = parse_qs(urlsplit(capability).query)
        if names := query.get("module"):
            lists = (query.get(key, [""])[0] for key in ("features", "deviations"))
            features, deviations = (tuple(filter(None, text.split(","))) for text in lists)
            out.append(YangModule(names[0], query.get("revision", [""])[0], features, deviations))
    return out


def operation(name: str, leaves: Mapping[str, str] | None = None) -> Any:
    """An operation of the base protocol with text children."""
    request = etree.Element(f"{{{BASE}}}{name}", nsmap=_nsmap(BASE))
    for child, text in (leaves or {}).items():
        etree.SubElement(request, f"{{{BASE}}}{child}").text = text
    return request


def on_datastore(name: str, role: str, datastore: str) -> Any:
    """An operation on a datastore: `role` is source or target."""
    request = operation(name)
    etree.SubElement(etree.SubElement(request, f"{{{BASE}}}{role}"), f"{{{BASE}}}{datastore}")
    return request


def edit_config(datastore: str, config: Any, options: Mapping[str, str] | None = None) -> Any:
    """An edit-config of `config` on `datastore`."""
    request = on_datastore("edit-config", "target", datastore)
    for name, value in (options or {}).items():
        etree.SubElement(request, f"{{{BASE}}}{name}").text = value
    request.append(config)
    return request


def commit(confirm_timeout_s: float | None, persist_id: str) -> Any:
    """A commit; with a time, one to be confirmed within it (whole seconds, rounded up)."""
    if confirm_timeout_s is None:
        return operation("commit")
    seconds = str(max(1, math.ceil(confirm_timeout_s)))
    return operation("commit", {"confirmed": "", "confirm-timeout": seconds, "persist": persist_id})


def get_data(chosen: Any | None) -> Any:
    """get-data of the operational datastore (RFC 8526 3.1.1); `chosen` is its subtree-filter."""
    request = etree.Element(f"{{{NMDA}}}get-data", nsmap=_nsmap(NMDA))
    datastore = etree.SubElement(request, f"{{{NMDA}}}datastore", nsmap={"ds": DATASTORES})
    datastore.text = "ds:operational"
    if chosen is not None:
        request.append(chosen)
    return request


def get_nothing() -> Any:
    """A `get` that selects nothing (RFC 6241 6.4.2): the cheapest thing every server answers."""
    request = operation("get")
    etree.SubElement(request, f"{{{BASE}}}filter", {"type": "subtree"})
    return request


def get_schema(name: str) -> Any:
    """get-schema of the module's text (RFC 6022 3.1)."""
    request = etree.Element(f"{{{MONITORING}}}get-schema", nsmap=_nsmap(MONITORING))
    etree.SubElement(request, f"{{{MONITORING}}}identifier").text = name
    etree.SubElement(request, f"{{{MONITORING}}}format").text = "yang"
    return request


def schema_text(reply: Any) -> str:
    """The text in the reply to get-schema."""
    data = reply.find(f"{{{MONITORING}}}data")
    return "".join(data.itertext()) if data is not None else ""


def get_library() -> Any:
    """A `get` of the YANG library, in its form of today (RFC 8525) and the one before (RFC 7895)."""
    request = operation("get")
    chosen = etree.SubElement(request, f"{{{BASE}}}filter", {"type": "subtree"})
    for top in ("yang-library", "modules-state"):
        etree.SubElement(chosen, f"{{{LIBRARY}}}{top}", nsmap=_nsmap(LIBRARY))
    return request


def library_modules(reply: Any) -> list[YangModule]:
    """The implemented modules of a YANG library."""
    return [
        YangModule(
            name=module.findtext(f"{{{LIBRARY}}}name") or "",
            revision=module.findtext(f"{{{LIBRARY}}}revision") or "",
            features=tuple(part.text or "" for part in module.iterfind(f"{{{LIBRARY}}}feature")),
            deviations=tuple(part.text or "" for part in module.iterfind(f"{{{LIBRARY}}}deviation")),
        )
        for module in reply.iter(f"{{{LIBRARY}}}module")
        if (module.findtext(f"{{{LIBRARY}}}conformance-type") or "implement") == "implement" and len(module)
    ]


def _nsmap(namespace: str) -> Any:
    return {None: namespace}
