"""The semantic store: atomic changes, copies that follow, crashes, damage, a full disk, a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyoxigraph as ox
import pytest
from file_limits import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.semantic.store import Batch, SemanticStore, StoreUnwritable

GRAPH = "https://fedtwin.example/g/lab/r1/state"
P = ox.NamedNode("https://fedtwin.example/ns/ndt#name")


def quad(name: str, value: str | ox.NamedNode | ox.BlankNode, graph: str = GRAPH) -> ox.Quad:
    subject = ox.NamedNode(f"https://fedtwin.example/id/lab/node/{name}")
    term = ox.Literal(value) if isinstance(value, str) else value
    return ox.Quad(subject, P, term, ox.NamedNode(graph))


def followed(text: bytes, batches: list[Batch]) -> set[ox.Quad]:
    """What a copy holds that began with `text` and got these batches."""
    copy = set(ox.parse(text, format=ox.RdfFormat.N_QUADS))
    for batch in batches:
        copy -= set(batch.remove)
        copy |= set(batch.add)
    return copy


def test_one_apply_takes_out_and_puts_in() -> None:
    store = SemanticStore()
    store.apply([], [quad("a", "old")])

    batch = store.apply([quad("a", "old")], [quad("a", "new"), quad("b", "1")])

    assert set(store.quads()) == {quad("a", "new"), quad("b", "1")}
    assert batch is not None
    assert batch.number == store.number == 2


def test_no_reader_sees_half_of_a_change(tmp_path: Path) -> None:
    store = SemanticStore(tmp_path / "graph")
    names = [f"n{i}" for i in range(50)]
    store.apply([], [quad(name, "0") for name in names])
    seen: set[tuple[str, ...]] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            rows = store.query(f"SELECT DISTINCT ?v WHERE {{ ?s {P} ?v }}")
            assert isinstance(rows, ox.QuerySolutions)
            seen.add(tuple(sorted(str(row["v"]) for row in rows)))

    reader = threading.Thread(target=read)
    reader.start()
    for value in range(40):
        store.apply([quad(n, str(value)) for n in names], [quad(n, str(value + 1)) for n in names])
    done.set()
    reader.join(60)
    store.close()

    assert all(len(values) == 1 for values in seen)


def test_replace_says_only_what_differs() -> None:
    store = SemanticStore()
    store.replace(GRAPH, [quad("a", "1"), quad("b", "1")])

    batch = store.replace(GRAPH, [quad("b", "1"), quad("c", "1")])
    same = store.replace(GRAPH, [quad("b", "1"), quad("c", "1")])

    assert batch is not None
    assert (batch.remove, batch.add) == ([quad("a", "1")], [quad("c", "1")])
    assert same is None


def test_replace_with_equal_values_written_otherwise_changes_nothing() -> None:
    xsd = "http://www.w3.org/2001/XMLSchema#"
    written = [("007", "unsignedLong"), ("1.50", "decimal"), ("0.0", "double"), ("1", "boolean")]
    quads = [
        ox.Quad(P, P, ox.Literal(text, datatype=ox.NamedNode(xsd + kind)), ox.NamedNode(GRAPH))
        for text, kind in written
    ]
    store = SemanticStore()
    store.replace(GRAPH, quads)

    assert store.replace(GRAPH, quads) is None
    assert len(store) == len(written)


def test_replace_refuses_quads_of_another_graph() -> None:
    with pytest.raises(ValueError, match="not of the graph"):
        SemanticStore().replace(GRAPH, [quad("a", "1", GRAPH + "x")])


def test_dropped_graph_holds_nothing_and_is_not_listed() -> None:
    store = SemanticStore()
    store.apply([], [quad("a", "1"), quad("a", "1", GRAPH + "x")])

    store.drop(GRAPH)

    assert store.graphs() == [GRAPH + "x"]


def test_blank_nodes_are_refused() -> None:
    store = SemanticStore()

    with pytest.raises(ValueError, match="blank nodes"):
        store.apply([], [quad("a", ox.BlankNode())])

    assert len(store) == 0


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_any_text_goes_in_and_out_as_itself(text: str) -> None:
    store = SemanticStore()
    store.apply([], [quad("a", "1")])

    store.apply([quad("a", "1")], [quad("a", text)])
    held = set(store.quads())
    store.apply([quad("a", text)], [quad("a", "2")])

    assert held == {quad("a", text)}
    assert set(store.quads()) == {quad("a", "2")}


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("123"))),
            st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("123"))),
            st.booleans(),
        ),
        max_size=6,
    ),
    start=st.integers(0, 5),
)
def test_a_copy_that_follows_is_equal(
    steps: list[tuple[set[tuple[str, str]], set[tuple[str, str]], bool]], start: int
) -> None:
    store = SemanticStore()
    batches: list[Batch] = []
    number, text = 0, b""
    for place, (gone, new, whole) in enumerate(steps):
        if place == start:
            number, text = store.copy(listener=batches.append)
        if whole:
            store.replace(GRAPH, [quad(*item) for item in new])
        else:
            store.apply([quad(*item) for item in gone], [quad(*item) for item in new])
    if start >= len(steps):
        number, text = store.copy(listener=batches.append)

    assert followed(text, batches) == set(store.quads())
    assert [batch.number for batch in batches] == list(range(number + 1, store.number + 1))


def test_copy_has_the_graphs_asked_for_alone() -> None:
    store = SemanticStore()
    store.apply([], [quad("a", "1"), quad("b", "1", GRAPH + "x")])

    _, text = store.copy([GRAPH])

    assert set(ox.parse(text, format=ox.RdfFormat.N_QUADS)) == {quad("a", "1")}


def test_a_listener_that_ended_hears_no_more() -> None:
    store = SemanticStore()
    heard: list[Batch] = []
    end = store.listen(heard.append)
    store.apply([], [quad("a", "1")])

    end()
    store.apply([], [quad("b", "1")])

    assert len(heard) == 1


def test_closed_store_has_everything_when_opened_again(tmp_path: Path) -> None:
    store = SemanticStore(tmp_path)
    store.apply([], [quad("a", "1")])
    store.close()

    again = SemanticStore(tmp_path)

    assert set(again.quads()) == {quad("a", "1")}
    assert again.given_up == ""
    again.close()


def test_second_process_is_told_the_folder_and_the_holder(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom domain_twin.semantic.store import SemanticStore\n"
        "store = SemanticStore(Path(sys.argv[1]))\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(ConfigError) as refused:
            SemanticStore(tmp_path)

        holder.kill()
    assert str(tmp_path) in str(refused.value)
    assert str(holder.pid) in str(refused.value)


def test_store_of_a_killed_process_opens_with_whole_changes_only(tmp_path: Path) -> None:
    code = (
        "import sys, pyoxigraph as ox\nfrom pathlib import Path\n"
        "from domain_twin.semantic.store import SemanticStore\n"
        "store = SemanticStore(Path(sys.argv[1]))\n"
        "g, p = ox.NamedNode('https://g.example/'), ox.NamedNode('https://p.example/')\n"
        "def quads(n): return [ox.Quad(ox.NamedNode(f'https://s.example/{i}'), p, ox.Literal(n), g)"
        " for i in range(20)]\n"
        "n = 0\n"
        "while True:\n    store.apply(quads(n - 1), quads(n))\n    n += 1\n"
        "    if n == 20: print('going', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"going\n"
        os.kill(writer.pid, signal.SIGKILL)

    store = SemanticStore(tmp_path)
    values = {str(q.object) for q in store.quads()}

    assert store.given_up == ""
    assert len(store) == 20
    assert len(values) == 1
    store.close()


@pytest.mark.parametrize("how", ["cut", "garbled", "manifest", "missing", "foreign"])
def test_damaged_store_is_set_aside_with_a_message(tmp_path: Path, how: str) -> None:
    store = SemanticStore(tmp_path)
    store.apply([], [quad(f"n{i}", "1") for i in range(500)])
    store.close()
    folder = tmp_path / "quads-1"
    tables = list(folder.glob("*.sst"))
    assert tables
    if how == "foreign":
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("not a store")
    for path in tables if how in {"cut", "garbled", "missing"} else folder.glob("MANIFEST*"):
        content = path.read_bytes()
        if how == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif how == "missing":
            path.unlink()
        else:
            path.write_bytes(bytes(octet ^ 0x55 for octet in content))

    again = SemanticStore(tmp_path)

    assert len(again) == 0
    assert "set aside" in again.given_up
    assert [path for path in tmp_path.iterdir() if ".damaged-" in path.name]
    again.apply([], [quad("a", "1")])
    again.close()


def test_full_disk_changes_nothing_and_the_store_goes_on_once_there_is_room(tmp_path: Path) -> None:
    store = SemanticStore(tmp_path)
    store.apply([], [quad(f"n{i}", "x" * 100) for i in range(500)])
    heard: list[Batch] = []
    store.listen(heard.append)

    def fill() -> None:
        for part in range(40):
            store.apply([], [quad(f"m{part}-{i}", "x" * 100) for i in range(500)])

    with full_disk(200_000):
        with pytest.raises(StoreUnwritable, match=str(tmp_path)):
            fill()
        during = len(store)
    store.reopen()
    store.apply([], [quad("after", "1")])

    assert during == len(store) - 1 == 500 + sum(len(batch.add) for batch in heard[:-1])
    store.close()


def test_no_right_to_the_folder_is_not_taken_for_damage(tmp_path: Path) -> None:
    store = SemanticStore(tmp_path)
    store.apply([], [quad("a", "1")])
    store.close()

    with full_disk(500), pytest.raises(StoreUnwritable, match="check space"):
        SemanticStore(tmp_path)
    again = SemanticStore(tmp_path)

    assert set(again.quads()) == {quad("a", "1")}
    again.close()


def test_store_of_another_format_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "quads-0").mkdir()

    store = SemanticStore(tmp_path)

    assert "format" in store.given_up
    assert not (tmp_path / "quads-0").exists()
    store.close()


def test_query_sees_the_graphs_it_was_given() -> None:
    store = SemanticStore()
    store.apply([], [quad("a", "1"), quad("b", "2", GRAPH + "x")])

    rows = store.query("SELECT ?v WHERE { ?s ?p ?v }", default=[GRAPH], named=[])
    every = store.query("SELECT ?v WHERE { ?s ?p ?v }")

    assert isinstance(rows, ox.QuerySolutions)
    assert isinstance(every, ox.QuerySolutions)
    assert [row["v"] for row in rows] == [ox.Literal("1")]
    assert len(list(every)) == 2
