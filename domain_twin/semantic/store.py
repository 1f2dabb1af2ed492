"""The quads of a twin, in memory or on disk. Owns atomic change, the folder's lock and the listeners.

Every change is one transaction and one `Batch`; listeners (the copies in worker processes) get every batch in
order, so that a copy taken with `copy` and followed from its number is equal to the store. Blank nodes are
refused: they have no name by which a copy could follow. Nothing here asks the outside: texts of queries are
the product's own; what others write passes `guard` and runs elsewhere.
"""

from __future__ import annotations

import io
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyoxigraph as ox

from domain_twin.datastore.durable import set_aside
from domain_twin.errors import ConfigError, TwinError
from domain_twin.operations.lock import hold

__all__ = ["Batch", "SemanticStore", "StoreUnwritable"]

log = logging.getLogger(__name__)

FORMAT = 1
"""Of the folder; a store of another format is made anew from the live state."""
_QUADS = f"quads-{FORMAT}"
_FLUSH_QUADS = 20_000
"""Written so many, what the engine holds in memory goes to its files: a megabyte per thousand else."""


class StoreUnwritable(TwinError, OSError):
    """The store's files cannot be written or read: a full disk, or damage."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One change of the store: first `remove`, then `add`. Numbers grow by one from 1 on."""

    number: int
    remove: Sequence[ox.Quad]
    add: Sequence[ox.Quad]


Listener = Callable[[Batch], None]


class SemanticStore:
    """Named graphs of one twin. Any thread may read; one writes at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the store in folder `path`; None: in memory. Raises ConfigError, StoreUnwritable."""
        self.path = path
        self.given_up = ""
        """Why the store that lay there is not the one in use, in a sentence; empty: it is."""
        self._lock = threading.RLock()
        self._listeners: list[Listener] = []
        self._number = 0
        self._unflushed = 0
        self._flushing: threading.Thread | None = None
        self._held: IO[str] | None = None
        if path is not None:
            self._held = _hold(path)
        try:
            self._store = self._open()
        except BaseException:
            self.close()
            raise

    @property
    def number(self) -> int:
        """Number of the last batch; 0: nothing was changed since the store was opened."""
        return self._number

    def apply(self, remove: Iterable[ox.Quad], add: Iterable[ox.Quad]) -> Batch | None:
        """Take quads out and put others in, as one change; None where there is nothing to do.

        Raises StoreUnwritable: then nothing was changed. Raises ValueError for a blank node.
        """
        gone, new = list(remove), list(add)
        if not gone and not new:
            return None
        _without_blank_nodes(new)
        with self._lock, _translated(self.path):
            if gone:
                self._store.update(_text(gone, new))
            else:
                self._store.extend(new)
            return self._tell(gone, new)

    def replace(self, graph: str, quads: Iterable[ox.Quad]) -> Batch | None:
        """Make `graph` consist of these quads, as one change that says only what differs.

        Raises StoreUnwritable, ValueError.
        """
        wanted = list(dict.fromkeys(quads))
        name = ox.NamedNode(graph)
        for quad in wanted:
            if quad.graph_name != name:
                raise ValueError(f"{quad} is not of the graph {graph}")
        # Compared inside the engine: it keeps numbers by value, so that 0.0 comes back as 0.
        aside = ox.Store()
        aside.extend(wanted)
        with self._lock, _translated(self.path):
            gone = [q for q in self._store.quads_for_pattern(None, None, None, name) if q not in aside]
            return self.apply(gone, [quad for quad in wanted if quad not in self._store])

    def drop(self, graph: str) -> Batch | None:
        """Empty a graph, as one change. Raises StoreUnwritable."""
        return self.replace(graph, ())

    def clear(self) -> None:
        """Empty the store: listeners are told quad by quad. Raises StoreUnwritable."""
        for graph in self.graphs():
            self.drop(graph)
            with _translated(self.path):
                self._store.remove_graph(ox.NamedNode(graph))

    def query(
        self,
        text: str,
        *,
        default: Sequence[str] | None = None,
        named: Sequence[str] | None = None,
        bindings: Mapping[str, ox.NamedNode | ox.Literal] | None = None,
    ) -> ox.QuerySolutions | ox.QueryBoolean | ox.QueryTriples:
        """Answer a query of the product's own: over the union of `default` (None: of all graphs).

        `named` are the graphs that GRAPH reaches (None: all). Raises StoreUnwritable.
        """
        graphs: list[ox.NamedNode | ox.BlankNode | ox.DefaultGraph] | None = (
            None if default is None else [ox.NamedNode(name) for name in default]
        )
        with _translated(self.path):
            return self._store.query(
                text,
                use_default_graph_as_union=graphs is None,
                default_graph=graphs,
                named_graphs=None if named is None else [ox.NamedNode(name) for name in named],
                substitutions={ox.Variable(name): term for name, term in (bindings or {}).items()},
            )

    def quads(
        self,
        subject: ox.NamedNode | None = None,
        predicate: ox.NamedNode | None = None,
        *,
        graph: str = "",
    ) -> Iterator[ox.Quad]:
        """The quads of a pattern; no graph: of all. Raises StoreUnwritable."""
        with _translated(self.path):
            name = ox.NamedNode(graph) if graph else None
            yield from self._store.quads_for_pattern(subject, predicate, None, name)

    def graphs(self) -> list[str]:
        """Names of the graphs that hold something."""
        with _translated(self.path):
            found = [node for node in self._store.named_graphs() if isinstance(node, ox.NamedNode)]
            return sorted(
                node.value
                for node in found
                if next(self._store.quads_for_pattern(None, None, None, node), None) is not None
            )

    def __len__(self) -> int:
        """How many quads there are; on disk they are counted one by one."""
        return len(self._store)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have every batch from now on given to `listener`, in order; returns what ends that.

        It is called by the thread that writes, which waits for it: it hands the batch on and returns.
        """
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return end

    def copy(
        self, graphs: Iterable[str] | None = None, listener: Listener | None = None
    ) -> tuple[int, bytes]:
        """These graphs (None: all) as N-Quads, and the number of the last batch that is in them.

        `listener` gets the batches after it; none is lost in between. Raises StoreUnwritable.
        """
        with self._lock, _translated(self.path):
            if listener is not None:
                self._listeners.append(listener)
            if graphs is None:
                return self._number, self._store.dump(format=ox.RdfFormat.N_QUADS) or b""
            sink = io.BytesIO()
            for graph in graphs:
                name = ox.NamedNode(graph)
                found = self._store.quads_for_pattern(None, None, None, name)
                ox.serialize(found, sink, format=ox.RdfFormat.N_QUADS)
            return self._number, sink.getvalue()

    def reopen(self, *, anew: bool = False) -> None:
        """Close the files and open them again, as after a full disk; `anew`: set aside what is there.

        Raises ConfigError, StoreUnwritable.
        """
        if self.path is None:
            return
        with self._lock:
            self._join()
            del self._store
            if anew and (self.path / _QUADS).exists():
                self._set_aside("asked for")
            self._store = self._open()

    def close(self) -> None:
        """Write out what is in memory and let the folder go."""
        with self._lock:
            self._join()
            if hasattr(self, "_store"):
                if self.path is not None:
                    _flush(self._store)
                del self._store
            if self._held is not None:
                self._held.close()
                self._held = None

    def _tell(self, gone: list[ox.Quad], new: list[ox.Quad]) -> Batch:
        self._number += 1
        batch = Batch(self._number, gone, new)
        for listener in self._listeners:
            listener(batch)
        if self.path is not None:
            self._unflushed += len(gone) + len(new)
            if self._unflushed >= _FLUSH_QUADS and not (self._flushing and self._flushing.is_alive()):
                self._unflushed = 0
                # Beside the writer, which would stand still for a tenth of a second.
                self._flushing = threading.Thread(target=_flush, args=(self._store,), name="graph-flush")
                self._flushing.start()
        return batch

    def _join(self) -> None:
        if self._flushing is not None:
            self._flushing.join()
            self._flushing = None

    def _open(self) -> ox.Store:
        if self.path is None:
            return ox.Store()
        for other in self.path.glob("quads-*"):
            if other.name != _QUADS and other.is_dir() and other.name.removeprefix("quads-").isdigit():
                shutil.rmtree(other, ignore_errors=True)
                self.given_up = f"{other.name} is of another format than this release's"
        folder = self.path / _QUADS
        try:
            return _sound(folder)
        except OSError as error:
            problem = str(error).partition("\n")[0]
            if not _is_damage(problem):
                raise StoreUnwritable(
                    f"the graph in {self.path} cannot be opened ({problem}):"
                    " check space and permissions of its folder"
                ) from error
            self._set_aside(problem)
            return _sound(folder)

    def _set_aside(self, why: str) -> None:
        assert self.path is not None
        aside = set_aside(self.path / _QUADS, time.time_ns())
        self.given_up = f"{aside.name} was set aside ({why})"
        log.error("graph given up: it is made anew from the live state", extra={"why": self.given_up})
        for older in sorted(self.path.glob(f"{_QUADS}.damaged-*"))[:-1]:
            shutil.rmtree(older, ignore_errors=True)  # one is enough to look into


def _flush(store: ox.Store) -> None:
    try:
        store.flush()
    except (OSError, RuntimeError) as error:  # the log of the engine has it all; the next write says so
        log.warning("graph not flushed", extra={"problem": str(error)})


def _hold(path: Path) -> IO[str]:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return hold(path, "graph")
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"graph {path}: the folder cannot be made or held ({error.strerror})") from error


def _sound(folder: Path) -> ox.Store:
    """The store in a folder, read once at each of its ends: a cut file is noticed only where it is read.

    Raises OSError.
    """
    try:
        store = ox.Store(folder)
        for graph in store.named_graphs():
            next(store.quads_for_pattern(None, None, None, graph), None)
    except RuntimeError as error:  # the engine's class for a checksum that does not fit
        raise OSError(str(error)) from error
    return store


_NOT_DAMAGE = (
    "no space",
    "disk quota",
    "file too large",
    "permission denied",
    "operation not permitted",
    "read-only file system",
    "too many open files",
    "cannot allocate",
    "lock",
)


def _is_damage(problem: str) -> bool:
    """Whether the content of the files is to blame, rather than the disk or the account."""
    return not any(sign in problem.lower() for sign in _NOT_DAMAGE)


class _translated:
    """Names the store in whatever its engine raises about its files."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StoreUnwritable) or not isinstance(error, (OSError, RuntimeError)):
            return
        problem = str(error).partition("\n")[0]
        raise StoreUnwritable(f"the graph in {self._path} cannot be used: {problem}") from error


def _without_blank_nodes(quads: Iterable[ox.Quad]) -> None:
    for quad in quads:
        if isinstance(quad.subject, ox.BlankNode) or isinstance(quad.object, ox.BlankNode):
            raise ValueError(f"{quad}: blank nodes cannot be followed by copies; give the node a name")


def _text(remove: Iterable[ox.Quad], add: Iterable[ox.Quad]) -> str:
    """One update of SPARQL: the engine makes one transaction of it. Terms escape themselves."""
    parts = [
        f"{verb} DATA {{ {body} }}"
        for verb, quads in (("DELETE", remove), ("INSERT", add))
        if (body := _body(quads))
    ]
    return " ;\n".join(parts)


def _body(quads: Iterable[ox.Quad]) -> str:
    by_graph: dict[str, list[str]] = {}
    for quad in quads:
        triples = by_graph.setdefault(str(quad.graph_name), [])
        triples.append(f"{quad.subject} {quad.predicate} {quad.object} .")
    return "\n".join(f"GRAPH {name} {{ {' '.join(triples)} }}" for name, triples in by_graph.items())
