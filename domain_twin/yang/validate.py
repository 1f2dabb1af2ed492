"""Whole trees against whole modules, by yangson: mandatory nodes, keys, references, `must`, `when`.

Owns the set-up of yangson. One validation is pure Python and takes about 60 us per leaf (6.6 s for 10,000
interfaces): `TreeValidator.check` runs it in a process of its own, since a thread would share the event
loop's lock. RFC 8345 references are `require-instance false`: a link to a node that is not there is valid.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.model import Value
from domain_twin.yang.catalogue import without
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.tree import build_tree

__all__ = ["TreeValidator", "Validation", "yang_library"]


def yang_library(schema: SchemaSet) -> dict[str, Any]:
    """The RFC 7895 modules-state of `schema`, as yangson takes it.

    Every module counts as implemented: yangson takes identities and leafref targets from such ones only.
    """
    modules = [
        {
            "name": info.name,
            "revision": info.revision,
            "namespace": info.namespace,
            "conformance-type": "implement",
            "feature": list(schema.module_set.features.get(info.name, info.features)),
            "submodule": [{"name": name, "revision": revision} for name, revision, _ in info.submodules],
        }
        for info in schema.modules.values()
    ]
    return {"ietf-yang-library:modules-state": {"module-set-id": "fedtwin", "module": modules}}


class Validation:
    """yangson's view of one SchemaSet. Every call blocks; making one takes about 0.1 s per 20 modules."""

    def __init__(self, schema: SchemaSet) -> None:
        self._folder = _module_folder(schema)
        self._model = _model(json.dumps(yang_library(schema)), self._folder.name)

    def check(self, tree: dict[str, Any], *, config_only: bool = False) -> None:
        """Raise SchemaViolation naming the first element of an RFC 7951 `tree` that is not valid."""
        problem = _problem(self._model, tree, config_only=config_only)
        if problem:
            raise SchemaViolation(problem)

    def close(self) -> None:
        """Remove the temporary folder of module texts."""
        self._folder.cleanup()

    def __enter__(self) -> Validation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TreeValidator:
    """Validates without stopping the event loop: one worker process, started at first use and kept."""

    def __init__(self, schema: SchemaSet) -> None:
        self._schema = schema
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._pool: ProcessPoolExecutor | None = None

    async def check(self, tree: dict[str, Any], *, config_only: bool = False) -> None:
        """Raise SchemaViolation naming the first element of an RFC 7951 `tree` that is not valid."""
        await self._check(lambda: tree, config_only)

    async def check_leaves(self, leaves: Mapping[str, Value], *, config_only: bool = False) -> None:
        """The same for typed leaves by path, of which a tree is made off the event loop."""
        await self._check(lambda: build_tree(self._schema, leaves), config_only)

    async def _check(self, tree: Callable[[], dict[str, Any]], config_only: bool) -> None:
        pieces = await asyncio.to_thread(lambda: _chunks(tree()))
        if self._pool is None:
            try:
                self._folder = await asyncio.to_thread(_module_folder, self._schema)
            except OSError as error:
                raise SchemaError(
                    f"the modules cannot be written for the validating process ({error.strerror}): make room"
                    " in the folder for temporary files (TMPDIR, else /tmp), or let the agent's account write"
                    " there"
                ) from error
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(json.dumps(yang_library(self._schema)), self._folder.name),
            )
        loop = asyncio.get_running_loop()
        try:
            problem = await loop.run_in_executor(self._pool, _check_in_worker, pieces, config_only)
        except BrokenProcessPool as error:
            await self.close()
            raise SchemaError(
                "the validating process ended; too little memory, or modules that yangson cannot load"
            ) from error
        if problem:
            raise SchemaViolation(problem)

    async def close(self) -> None:
        """End the worker process."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
            self._pool = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def __aenter__(self) -> TreeValidator:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_worker_model: Any = None


def _start_worker(library: str, folder: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _worker_model  # noqa: PLW0603 - the state of a process of its own
    _worker_model = _model(library, folder)


def _end_with_parent() -> None:
    """End this process when the agent is gone, however it went: a killed one cannot say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _check_in_worker(pieces: list[bytes], config_only: bool) -> str:
    return _problem(_worker_model, json.loads(b"".join(pieces)), config_only=config_only)


_CHUNK = 1 << 16
_SPREAD = 6
"""Levels of a tree that are written one by one: below, entries of lists are short."""


def _chunks(tree: dict[str, Any]) -> list[bytes]:
    """The tree as JSON, in parts of some 64 KiB."""
    out: list[bytes] = []
    part = bytearray()
    for piece in _pieces(tree):
        part += piece
        if len(part) >= _CHUNK:
            out.append(bytes(part))
            part.clear()
    return [*out, bytes(part)]


def _pieces(value: Any, depth: int = 0) -> Iterator[bytes]:
    """A tree as JSON in short pieces: whoever writes it whole, or pickles it, stops every other thread."""
    if depth < _SPREAD and isinstance(value, dict):
        mark = b"{"
        for name, inner in value.items():
            yield mark + json.dumps(name).encode() + b":"
            yield from _pieces(inner, depth + 1)
            mark = b","
        yield b"}" if value else b"{}"
    elif depth < _SPREAD and isinstance(value, list) and value and isinstance(value[0], dict):
        mark = b"["
        for entry in value:
            yield mark
            yield from _pieces(entry, depth + 1)
            mark = b","
        yield b"]"
    else:
        yield json.dumps(value).encode()


def _module_folder(schema: SchemaSet) -> tempfile.TemporaryDirectory[str]:
    """One folder with the text of each loaded module under the name that yangson looks for."""
    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="fedtwin-yang-")
    deviating = schema.module_set.deviating
    try:
        for name, revision, text in schema.sources():
            if name not in deviating:  # yangson applies what it finds
                text = without(text, "deviation")  # noqa: PLW2901
            file = Path(folder.name) / (f"{name}@{revision}.yang" if revision else f"{name}.yang")
            file.write_text(text, encoding="utf-8")
    except BaseException:
        folder.cleanup()
        raise
    return folder


def _model(library: str, folder: str) -> Any:
    from yangson import DataModel
    from yangson.exceptions import YangsonException

    try:
        return DataModel(library, (folder,))
    except YangsonException as error:
        raise SchemaError(
            f"yangson cannot use the loaded modules: {type(error).__name__}: {error}"
        ) from error


def _problem(model: Any, tree: dict[str, Any], *, config_only: bool) -> str:
    """The first thing wrong with `tree`, in words; empty when it is valid."""
    from yangson.enumerations import ContentType, ValidationScope
    from yangson.exceptions import RawMemberError, YangsonException

    content = ContentType.config if config_only else ContentType.all
    try:
        model.from_raw(tree).validate(ValidationScope.all, content)
    except RawMemberError as error:
        return f"{error}: no loaded module defines this member"
    except YangsonException as error:
        return f"{error} ({type(error).__name__})"
    except (TypeError, ValueError, AttributeError) as error:  # yangson on a tree of the wrong shape
        return f"the tree has not the shape that its modules give it: {error}"
    return ""
