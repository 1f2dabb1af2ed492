"""gNMI messages with as little decoding as possible. Owns wire formats; knows no session and no schema.

`Response` has the field numbers of gnmi.proto's SubscribeResponse, but leaves paths as bytes: a path seen
before is then one dictionary look-up, where parsing and spelling it costs more than all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from pygnmi.spec.v080 import gnmi_pb2

from domain_twin.yang.paths import Step, predicates

__all__ = ["JsonValue", "Response", "decode_steps", "decode_value", "encode_path", "read_json", "spell_steps"]

_MOST_DIGITS = 18
_Field = descriptor_pb2.FieldDescriptorProto


def _response_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="fedtwin/gnmi_wire.proto",
        package="fedtwin.gnmi",
        syntax="proto3",
        dependency=[gnmi_pb2.DESCRIPTOR.name],
    )
    one, many = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    octets, message = _Field.TYPE_BYTES, _Field.TYPE_MESSAGE
    messages: dict[str, list[tuple[str, int, Any, Any, str]]] = {
        "Update": [
            ("path", 1, octets, one, ""),
            ("value", 2, octets, one, ""),
            ("val", 3, message, one, f".{gnmi_pb2.TypedValue.DESCRIPTOR.full_name}"),
        ],
        "Notification": [
            ("timestamp", 1, _Field.TYPE_INT64, one, ""),
            ("prefix", 2, octets, one, ""),
            ("update", 4, message, many, ".fedtwin.gnmi.Update"),
            ("delete", 5, octets, many, ""),
            ("atomic", 6, _Field.TYPE_BOOL, one, ""),
        ],
        "Response": [
            ("update", 1, message, one, ".fedtwin.gnmi.Notification"),
            ("sync_response", 3, _Field.TYPE_BOOL, one, ""),
        ],
    }
    for name, fields in messages.items():
        described = file.message_type.add(name=name)
        for field, number, kind, label, type_name in fields:
            added = described.field.add(name=field, number=number, type=kind, label=label)
            if type_name:
                added.type_name = type_name
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fedtwin.gnmi.Response"))


Response: Any = _response_class()


class JsonValue:
    """A value that came as JSON and is not a scalar: a leaf-list, or a subtree to be flattened."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


def decode_value(value: Any) -> Any:
    """The Python value of a TypedValue; JSON arrays and objects as JsonValue, a missing value as None.

    Raises ValueError for JSON that is none, and for a vendor's own messages: no YANG type describes them.
    """
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    match kind:
        case "json_val" | "json_ietf_val":
            data = read_json(held)
            return JsonValue(data) if isinstance(data, list | dict) else data
        case "leaflist_val":
            return tuple(decode_value(item) for item in held.element)
        case "decimal_val":
            if held.precision > _MOST_DIGITS:
                raise ValueError(f"a decimal of {held.precision} fraction digits: 18 at most (RFC 7950 9.3)")
            return Decimal(held.digits).scaleb(-held.precision)
        case "float_val":
            return float(f"{held:.7g}")  # 24 bits carry 7 digits; the rest is noise of the conversion
        case "any_val":
            raise ValueError(
                f"a message of type {held.type_url[:99] or 'none'}, which YANG does not describe"
            )
        case "proto_bytes":
            raise ValueError("a message of the vendor's own, which YANG does not describe")
    return held


def read_json(octets: bytes | str) -> Any:
    """JSON with exact decimals. Raises ValueError: it is none, or an object names a member twice."""
    return json.loads(octets, parse_float=Decimal, object_pairs_hook=_members)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"member {twice[:100]!r} occurs twice in an object")
    return members


def decode_steps(*raw: bytes) -> tuple[tuple[Step, ...], str, str]:
    """Steps, origin and target of serialised gNMI Paths in a row (a prefix, then a path).

    Raises ValueError for what is no Path.
    """
    steps: list[Step] = []
    origin = target = ""
    for part in raw:
        try:
            path = gnmi_pb2.Path.FromString(part)
        except Exception as error:  # DecodeError, as above
            raise ValueError(f"not a gNMI Path: {error}") from error
        origin, target = path.origin or origin, path.target or target
        for element in path.elem:
            module, colon, name = element.name.partition(":")
            held = element.key
            keys = tuple((key.rpartition(":")[2], held[key]) for key in sorted(held)) if held else ()
            steps.append(Step(module, name, keys) if colon else Step("", module, keys))
        if not path.elem:
            steps += [Step("", name) for name in path.element]  # gNMI before 0.4
    return tuple(steps), origin, target


def spell_steps(steps: Sequence[Step]) -> str:
    """The path as it came, for what no schema knows."""
    return "".join(f"/{step.qualified}{predicates(step.keys)}" for step in steps) or "/"


def encode_path(steps: Sequence[Step]) -> Any:
    """The gNMI Path of canonical steps. OpenConfig's carry an origin and no module names."""
    if steps and steps[0].module.startswith("openconfig-"):
        path = gnmi_pb2.Path(origin="openconfig")
        names = [step.name for step in steps]
    else:
        path = gnmi_pb2.Path()
        names = [step.qualified for step in steps]
    for name, step in zip(names, steps, strict=True):
        path.elem.add(name=name, key=dict(step.keys))
    return path
