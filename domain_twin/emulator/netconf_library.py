"""What a device says of itself over NETCONF: capabilities, yang-library (RFC 8525), monitoring (RFC 6022)."""

import functools
import hashlib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from domain_twin.emulator import data_tree
from domain_twin.emulator.data_tree import Tree
from domain_twin.emulator.device_schema import DeviceSchema, Module
from domain_twin.emulator.json_tree import requests_from_json
from domain_twin.emulator.rpc_error import RpcError
from domain_twin.emulator.xml_paths import printable

BASE_1_0 = "urn:ietf:params:netconf:base:1.0"
BASE_1_1 = "urn:ietf:params:netconf:base:1.1"
MONITORING = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
NMDA = "urn:ietf:params:xml:ns:yang:ietf-netconf-nmda"

_CAPABILITY = "urn:ietf:params:netconf:capability:"
_OPTIONAL = (
    "writable-running:1.0",
    "candidate:1.0",
    "confirmed-commit:1.1",
    "rollback-on-error:1.0",
    "validate:1.1",
    "notification:1.0",
    "interleave:1.0",
)


def capabilities(schema: DeviceSchema) -> list[str]:
    """The capabilities of the server's hello, its modules among them."""
    held: list[str] | None = schema.shared.get("capabilities")
    if held is None:
        library = f"{_CAPABILITY}yang-library:1.1?revision=2019-01-04&content-id={content_id(schema)}"
        held = [BASE_1_0, BASE_1_1, *(_CAPABILITY + name for name in _OPTIONAL), library]
        held.extend(_capability(module) for module in schema.modules.values() if module.implemented)
        schema.shared["capabilities"] = held
    return held


def content_id(schema: DeviceSchema) -> str:
    """A digest of the module set: the same as long as the modules are."""
    modules = "\n".join(f"{module.name}@{module.revision}" for module in schema.modules.values())
    return hashlib.sha256(modules.encode()).hexdigest()[:16]


def library(schema: DeviceSchema) -> Tree:
    """yang-library, the announced capabilities and schemas, and the event streams, as operational state."""
    held: Tree | None = schema.shared.get("library")
    if held is None:
        requests = requests_from_json(schema, None, _library_json(schema), config=False)
        held = schema.shared["library"] = data_tree.apply({}, requests, "merge")
    return held


def sessions(schema: DeviceSchema, entries: list[dict[str, Any]]) -> Tree:
    """The list of sessions of netconf-state."""
    data = {"ietf-netconf-monitoring:netconf-state": {"sessions": {"session": entries}}}
    return data_tree.apply({}, requests_from_json(schema, None, data, config=False), "merge")


def schema_text(schema: DeviceSchema, identifier: str, version: str | None, form: str | None) -> str:
    """The reply of get-schema (RFC 6022 3.1). Raises RpcError where there is no such schema."""
    if form is not None and form.rpartition(":")[2] != "yang":
        raise RpcError("invalid-value", f"format {form!r}: only yang is held", info={"bad-element": "format"})
    module = schema.modules.get(identifier)
    if module is None or version not in (None, "", module.revision):
        wanted = identifier if version in (None, "") else f"{identifier}@{version}"
        raise RpcError(
            "invalid-value", f"the device runs no module {wanted!r}", info={"bad-element": "identifier"}
        )
    return f"<data xmlns={quoteattr(MONITORING)}>{printable(_source(module.source))}</data>"


@functools.lru_cache(maxsize=64)
def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _capability(module: Module) -> str:
    features = f"&features={','.join(module.features)}" if module.features else ""
    revision = f"&revision={module.revision}" if module.revision else ""
    return f"{module.namespace}?module={module.name}{revision}{features}"


def _library_json(schema: DeviceSchema) -> dict[str, Any]:
    implemented = [module for module in schema.modules.values() if module.implemented]
    imported = [module for module in schema.modules.values() if not module.implemented]
    return {
        "ietf-yang-library:yang-library": {
            "module-set": [
                {
                    "name": "complete",
                    "module": [
                        {
                            "name": module.name,
                            **({"revision": module.revision} if module.revision else {}),
                            "namespace": module.namespace,
                            **({"feature": list(module.features)} if module.features else {}),
                        }
                        for module in implemented
                    ],
                    "import-only-module": [
                        {"name": module.name, "revision": module.revision, "namespace": module.namespace}
                        for module in imported
                    ],
                }
            ],
            "schema": [{"name": "complete", "module-set": ["complete"]}],
            "datastore": [
                {"name": f"ietf-datastores:{name}", "schema": "complete"}
                for name in ("running", "candidate", "operational")
            ],
            "content-id": content_id(schema),
        },
        "ietf-netconf-monitoring:netconf-state": {
            "capabilities": {"capability": capabilities(schema)},
            "datastores": {"datastore": [{"name": "running"}, {"name": "candidate"}]},
            "schemas": {
                "schema": [
                    {
                        "identifier": module.name,
                        "version": module.revision,
                        "format": "ietf-netconf-monitoring:yang",
                        "namespace": module.namespace,
                        "location": ["NETCONF"],
                    }
                    for module in schema.modules.values()
                ]
            },
        },
        "ietf-subscribed-notifications:streams": {
            "stream": [
                {"name": "NETCONF", "description": "Configuration changes, commits, sessions, states."}
            ]
        },
    }
