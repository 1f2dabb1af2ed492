"""Schemas on disk, by the fingerprint of their texts. Owns the form; a cache is never trusted.

A file that is damaged, of another release, or that cannot be written costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any

from domain_twin.errors import SchemaError
from domain_twin.yang.catalogue import Catalogue, Problem
from domain_twin.yang.codec import Form, LeafType
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import LoadReport, ModuleInfo, NodeKind, Reference, SchemaNode

log = logging.getLogger(__name__)

__all__ = ["cached"]

_FORMAT = "fedtwin-schema-4"
_KEPT = 8
"""Files that a folder keeps, the latest used."""

_KINDS = tuple(NodeKind)
Made = tuple[list[SchemaNode], LoadReport]


def cached(
    folder: Path,
    catalogue: Catalogue,
    modules: Iterable[str] | None,
    module_set: ModuleSet,
    load: Callable[[], Made],
) -> Made:
    """What `load` made of the same texts before, or makes now and leaves in `folder`. Blocks."""
    wanted = "*" if modules is None else " ".join(sorted(modules))
    whole = "\n".join([_FORMAT, _release(), wanted, module_set.key, catalogue.digest()])
    file = folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:32]}.schema"
    made = _read(file)
    if made is not None:
        return made
    made = load()
    try:
        _write(file, made)
    except OSError as error:
        log.warning("schema not cached", extra={"file": str(file), "why": str(error)})
    return made


def _release() -> str:
    from importlib.metadata import version

    return f"pyang {version('pyang')}"


def _read(file: Path) -> Made | None:
    try:
        octets = file.read_bytes()
        os.utime(file)
    except OSError:
        return None
    try:
        if hashlib.sha256(octets[32:]).digest() != octets[:32]:
            raise ValueError("not what was written")
        return _decoded(json.loads(zlib.decompress(octets[32:])))
    except (ValueError, LookupError, TypeError, zlib.error) as error:
        log.warning("cached schema not usable", extra={"file": str(file), "why": str(error)})
        return None


def _write(file: Path, made: Made) -> None:
    body = zlib.compress(json.dumps(_encoded(made), separators=(",", ":")).encode(), 1)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = file.with_suffix(f".{os.getpid()}.tmp")
    written.write_bytes(hashlib.sha256(body).digest() + body)
    written.replace(file)
    old = sorted(file.parent.glob("*.schema"), key=lambda path: path.stat().st_mtime)
    for path in old[:-_KEPT]:
        path.unlink(missing_ok=True)


def _encoded(made: Made) -> dict[str, Any]:
    tops, report = made
    forms: dict[int, int] = {}
    table: list[Form] = []

    def number(leaf_type: LeafType | None) -> int:
        if leaf_type is None:
            return -1
        if id(leaf_type) not in forms:
            forms[id(leaf_type)] = len(table)
            table.append(leaf_type.form)
        return forms[id(leaf_type)]

    def node(item: SchemaNode) -> list[Any]:
        flags = item.config | item.user_ordered << 1
        row: list[Any] = [_KINDS.index(item.kind), item.name, item.module, int(flags)]
        if item.is_leaf:
            row += [number(item.leaf_type), item.type_name, item.default, item.units]
            reference = item.reference
            points = (
                [reference.target, reference.up, reference.predicates, reference.member] if reference else []
            )
            return [*row, " ".join(item.typedefs), *points]
        below = [node(child) for child in item.children.values()]
        return [*row, " ".join(item.keys), int(item.presence), below]

    return {
        "nodes": [node(top) for top in tops],
        "types": table,
        "loaded": [asdict(info) for info in report.loaded.values()],
        "failed": {name: str(error) for name, error in report.failed.items()},
        "warnings": report.warnings,
        "problems": [asdict(problem) for problem in report.problems],
    }


def _decoded(held: dict[str, Any]) -> Made:
    kinds = [LeafType(_form(form)) for form in held["types"]]

    def node(row: list[Any], above: SchemaNode | None) -> SchemaNode:
        kind, name, module, flags = row[:4]
        made = SchemaNode(_KINDS[kind], intern(name), intern(module), "", config=bool(flags & 1))
        made.user_ordered = bool(flags & 2)
        made.path = intern(f"{above.path if above else ''}/{made.step(above)}")
        if made.is_leaf:
            number, type_name, made.default, units, typedefs = row[4:9]
            made.leaf_type = kinds[number]
            made.type_name, made.units = intern(type_name), intern(units)
            made.typedefs = _typedefs(typedefs)
            if len(row) > 9:
                target, up, predicates, member = row[9:]
                made.reference = Reference(intern(target), up, _form(predicates), member)
            return made
        keys, presence, below = row[4:]
        made.keys, made.presence = tuple(map(intern, keys.split())), bool(presence)
        for child in below:
            made.add(node(child, made), above=made)
        return made

    loaded = [
        ModuleInfo(
            **{
                **info,
                "features": tuple(info["features"]),
                "conditional": tuple(info["conditional"]),
                "submodules": tuple(tuple(part) for part in info["submodules"]),
                "deviations": tuple(info["deviations"]),
                "identities": _form(info["identities"]),
            }
        )
        for info in held["loaded"]
    ]
    return [node(top, None) for top in held["nodes"]], LoadReport(
        {info.name: info for info in loaded},
        {name: SchemaError(text) for name, text in held["failed"].items()},
        tuple(held["warnings"]),
        tuple(Problem(**problem) for problem in held["problems"]),
    )


@lru_cache(maxsize=4096)
def _typedefs(names: str) -> tuple[str, ...]:
    """One tuple for all leaves whose types go through the same typedefs."""
    return tuple(map(intern, names.split()))


def _form(form: Any) -> Any:
    """JSON's arrays as the tuples that forms are made of."""
    return tuple(map(_form, form)) if isinstance(form, list) else form
