"""Filters, sort, fields and merge against naive readings of the same words; indices against a scan."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.partners.documents import merge
from federation.partners.record import Kind, Record
from twin_api.index import mask_of, newest, union
from twin_api.shelf import Entry, Shelf
from twin_api.tmf.apis.inventory import SERVICE_INVENTORY
from twin_api.tmf.query import Condition, narrowed, page, read_query, select
from twin_api.tmf.shapes import instant

SERVICE = SERVICE_INVENTORY.resources[0]
NAMES = st.sampled_from(["a", "b", "aa", "10", "9", "1.0", "x y", ""])
STATES = st.sampled_from(["active", "inactive", "designed"])
DATES = st.sampled_from(
    ["2026-01-01", "2026-01-01T00:00:00.000Z", "2026-02-01T01:00:00+01:00", "2026-03-01T00:00:00Z"]
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([0.5, 9.0, -1.5]),
    NAMES,
    st.lists(NAMES, max_size=2),
    st.just({"deep": "a"}),
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "state": STATES,
        "startDate": DATES,
        "isBundle": st.booleans(),
        "serviceSpecification": st.fixed_dictionaries({}, optional={"id": NAMES}),
        "serviceCharacteristic": st.lists(
            st.fixed_dictionaries({"name": NAMES, "value": VALUES}), max_size=3
        ),
    },
)
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
PATHS = {
    "name": "text",
    "state": "text",
    "startDate": "date",
    "isBundle": "bool",
    "serviceSpecification.id": "text",
    "serviceCharacteristic.name": "text",
    "serviceCharacteristic.value": "any",
    "serviceCharacteristic.value.deep": "any",
}


def present(record: Record) -> dict[str, Any]:
    return {"id": record.id, "@type": "Service", **record.body}


def shelf_of(bodies: list[Mapping[str, Any]]) -> Shelf:
    shelf = Shelf()
    for number, body in enumerate(bodies):
        shelf.put(Entry(Record("t", Kind.SERVICE, f"{number}", 1, number, body, 0), present))
    return shelf


def values_at(document: Any, steps: list[str]) -> list[Any]:
    """All single values at a path, as anyone would look for them."""
    if isinstance(document, list):
        return [value for each in document for value in values_at(each, steps)]
    if not steps:
        return [] if isinstance(document, dict) else [document]
    if isinstance(document, dict) and steps[0] in document:
        return values_at(document[steps[0]], steps[1:])
    return []


def compared(kind: str, value: Any) -> Any:
    """What a value is compared as."""
    if isinstance(value, bool):
        return str(value).lower()
    return instant(value) if kind == "date" else value


def meant(kind: str, text: str) -> list[Any]:
    """What a text of a query may mean."""
    if kind == "date":
        return [instant(text)]
    if kind == "any":
        try:
            return [text, json.loads(text)] if text.strip() == text and text[:1] not in '"[{tfn' else [text]
        except ValueError:
            return [text]
    return [text]


def fits(document: Any, path: str, how: str, texts: list[str]) -> bool:
    """Whether a document meets a condition, by looking at all its values."""
    kind = PATHS[path]
    found = [compared(kind, value) for value in values_at(document, path.split("."))]
    if how in ("eq", "ne"):
        same = any(
            value == each and isinstance(value, str) == isinstance(each, str)
            for value in found
            for text in texts
            for each in meant(kind, text)
        )
        return same is (how == "eq")
    return any(
        isinstance(value, str) == isinstance(each, str) and COMPARISONS[how](value, each)
        for value in found
        for text in texts
        for each in meant(kind, text)[-1:]
    )


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    path = draw(st.sampled_from(sorted(PATHS)))
    kind = PATHS[path]
    ordered = ["gt", "gte", "lt", "lte"] if kind != "bool" else []
    how = draw(st.sampled_from(["eq", "ne", *ordered]))
    texts = {"date": DATES, "bool": st.sampled_from(["true", "false"])}.get(
        kind, st.sampled_from(["a", "b", "aa", "10", "9", "1.0", "0.5", "true", "active", "x y"])
    )
    return path, how, draw(st.lists(texts, min_size=1, max_size=3))


def written(path: str, how: str, texts: list[str]) -> str:
    values = ",".join(quote(f'"{text}"') for text in texts)
    return f"{path}={values}" if how == "eq" else f"{path}.{how}={values}"


@given(
    st.lists(BODIES, max_size=12),
    st.lists(conditions(), min_size=1, max_size=3),
    st.integers(0, 5),
    st.integers(0, 6),
)
def test_filters_find_what_a_scan_finds(
    bodies: list[Mapping[str, Any]], asked: list[tuple[str, str, list[str]]], offset: int, limit: int
) -> None:
    merged: dict[tuple[str, str], list[str]] = {}
    for path, how, texts in asked:
        merged.setdefault((path, how), []).extend(texts)
    raw = "&".join([*(written(*each) for each in asked), f"offset={offset}", f"limit={limit}"])

    shelf, query = shelf_of(bodies), read_query(SERVICE, raw.encode())
    mask = select(shelf, query.conditions)

    expected = [
        f"{number}"
        for number, body in reversed(list(enumerate(bodies)))
        if all(fits(body, path, how, texts) for (path, how), texts in merged.items())
    ]
    assert mask.bit_count() == len(expected)
    assert [entry.record.id for entry in page(shelf, mask, query)] == expected[offset : offset + limit]


@given(
    st.lists(BODIES, max_size=12),
    st.lists(st.tuples(st.sampled_from(sorted(PATHS)), st.booleans()), min_size=1, max_size=3),
    st.integers(0, 4),
    st.integers(0, 8),
)
def test_sort_orders_as_a_stable_sort_of_the_newest_first_does(
    bodies: list[Mapping[str, Any]], order: list[tuple[str, bool]], offset: int, limit: int
) -> None:
    raw = "sort=" + ",".join(f"{'-' if descending else ''}{path}" for path, descending in order)
    shelf, query = shelf_of(bodies), read_query(SERVICE, f"{raw}&offset={offset}&limit={limit}".encode())

    found = [entry.record.id for entry in page(shelf, shelf.all, query)]

    expected = list(reversed(list(enumerate(bodies))))
    for path, descending in reversed(order):

        def key(
            numbered: tuple[int, Mapping[str, Any]], path: str = path, descending: bool = descending
        ) -> Any:
            keys = sorted(
                (isinstance(value, str), value)
                for each in values_at(numbered[1], path.split("."))
                if (value := compared(PATHS[path], each)) is not None
            )
            return keys[-1 if descending else 0] if keys else None

        there = [each for each in expected if key(each) is not None]
        there.sort(key=key, reverse=descending)  # ties keep their order in both directions
        expected = there + [each for each in expected if key(each) is None]
    assert found == [f"{number}" for number, _ in expected][offset : offset + limit]


CHANGES = st.lists(st.tuples(st.integers(0, 7), st.one_of(st.none(), BODIES)), max_size=25)


@given(st.lists(BODIES, max_size=6), CHANGES, conditions(), st.sampled_from(sorted(PATHS)))
def test_indices_that_are_kept_up_say_what_new_ones_say(
    bodies: list[Mapping[str, Any]],
    changes: list[tuple[int, Mapping[str, Any] | None]],
    asked: tuple[str, str, list[str]],
    sorted_by: str,
) -> None:
    query = read_query(SERVICE, f"{written(*asked)}&sort={sorted_by}".encode())
    shelf = shelf_of(bodies)
    page(shelf, select(shelf, query.conditions), query)  # makes the indices

    for sequence, (number, body) in enumerate(changes):
        if body is None:
            shelf.drop(f"{number}")
        else:
            shelf.put(Entry(Record("t", Kind.SERVICE, f"{number}", 1, sequence, body, 0), present))

    anew = Shelf()
    for entry in shelf.entries().values():
        anew.put(entry)
    kept = [entry.record.id for entry in page(shelf, select(shelf, query.conditions), query)]
    assert kept == [entry.record.id for entry in page(anew, select(anew, query.conditions), query)]
    assert len(shelf) == len(anew) == shelf.all.bit_count()


def test_many_small_groups_are_sorted_as_few_large_ones_are() -> None:
    bodies = [
        {
            "name": f"n{number * 7919 % 997 // 3:03d}",  # groups of three
            "state": ("active", "inactive", "designed")[number % 3],
            "startDate": f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}Z",
            "description": None if number % 5 == 0 else f"d{number * 31 % 401}",
        }
        for number in range(1000)
    ]
    shelf = shelf_of([{n: v for n, v in body.items() if v is not None} for body in bodies])

    for order in (
        "name,-description,startDate",
        "-name,startDate",
        "state,-name,description",
        "description,name",
    ):
        query = read_query(SERVICE, f"sort={order}&limit=500&offset=130".encode())
        found = [int(entry.record.id) for entry in page(shelf, shelf.all, query)]

        expected = list(range(999, -1, -1))
        for word in reversed(order.split(",")):
            name, descending = word.lstrip("-"), word.startswith("-")
            there = [number for number in expected if bodies[number][name] is not None]
            there.sort(key=lambda number: bodies[number][name], reverse=descending)
            expected = there + [number for number in expected if bodies[number][name] is None]
        assert found == expected[130:630], order


def test_a_shelf_closes_up_what_was_removed() -> None:
    shelf = shelf_of([{"name": f"n{number}"} for number in range(3000)])
    query = read_query(SERVICE, b"name.gte=n1&limit=3")
    before = select(shelf, query.conditions).bit_count()

    for number in range(0, 2900):
        shelf.drop(f"{number}")

    assert before == 2999
    assert shelf.all.bit_length() < 2000
    assert [entry.record.id for entry in page(shelf, select(shelf, query.conditions), query)] == [
        "2999",
        "2998",
        "2997",
    ]


def test_ranges_over_many_values_are_those_of_a_scan() -> None:
    def body(value: float) -> dict[str, Any]:
        text = f"t{value + 1000:07.2f}"
        return {"serviceCharacteristic": [{"name": "x", "value": value}, {"name": "y", "value": text}]}

    def put(value: float) -> None:
        held[f"{value}"] = value
        shelf.put(Entry(Record("t", Kind.SERVICE, f"{value}", 1, 1, body(value), 0), present))

    def agree() -> None:
        for how, test in COMPARISONS.items():
            for bound in (-1, 0, 1, 127.5, 128, 129, 500, 777.25, 998, 999, 1000):
                for word in (f"{bound}", f"t{bound + 1000:07.2f}"):
                    query = read_query(SERVICE, f"serviceCharacteristic.value.{how}={word}".encode())
                    found = {
                        entry.record.id for entry in shelf.page(select(shelf, query.conditions), 0, 9999)
                    }
                    assert found == {name for name, value in held.items() if test(value, bound)}

    shelf, held = Shelf(), dict[str, float]()
    for number in range(1000):
        put(float(number * 7919 % 1000))
    agree()
    for number in range(400):  # between the others, below and above: runs are cut in two
        put(number * 3.25 - 100)
    agree()
    for name in list(held)[::3]:
        del held[name]
        shelf.drop(name)
    agree()
    for name in list(held):
        del held[name]
        shelf.drop(name)
    agree()
    put(5.0)
    agree()


@given(st.sets(st.integers(0, 400)), st.integers(0, 30), st.integers(0, 30))
def test_masks_hold_slots_the_highest_first(slots: set[int], offset: int, limit: int) -> None:
    mask = mask_of(slots)

    assert mask == sum(1 << slot for slot in slots)
    assert list(newest(mask, offset, limit)) == sorted(slots, reverse=True)[offset : offset + limit]
    assert union([mask, {3, 70}, 0]) == mask_of(slots | {3, 70})


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON)
def test_a_merge_does_what_rfc_7396_says(target: Any, patch: Any) -> None:
    before = json.dumps([target, patch])

    merged = merge(target, patch)

    assert json.dumps([target, patch]) == before
    if not isinstance(patch, dict):
        assert merged == patch
        return
    base = target if isinstance(target, dict) else {}
    assert merged.keys() == (base.keys() | patch.keys()) - {
        name for name, value in patch.items() if value is None
    }
    for name in merged:
        assert merged[name] == (merge(base.get(name), patch[name]) if name in patch else base[name])


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merges_of_rfc_7396_appendix_a(target: Any, patch: Any, merged: Any) -> None:
    assert merge(target, patch) == merged


DOCUMENTS = st.recursive(
    st.integers(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join), max_size=4)


def leaves(value: Any, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of all that is no object, without the places in arrays."""
    if isinstance(value, list):
        return {path for each in value for path in leaves(each, at)}
    if isinstance(value, dict):
        return {path for name, each in value.items() for path in leaves(each, (*at, name))}
    return {at}


@given(st.dictionaries(st.sampled_from("abc"), DOCUMENTS, max_size=3), FIELDS)
def test_fields_keep_what_they_name_and_nothing_else(document: dict[str, Any], fields: list[str]) -> None:
    whole = {"id": "1", "href": "h", "@type": "T", **document}
    named = [tuple(each.split(".")) for each in fields]

    kept = narrowed(whole, fields)

    for path in leaves(whole):
        covered = path[0] in ("id", "href", "@type") or any(path[: len(each)] == each for each in named)
        above = any(each[: len(path)] == path for each in named)  # a value where the query looks for more
        assert (path in leaves(kept)) == (covered or above)


def test_conditions_of_one_path_are_one() -> None:
    query = read_query(SERVICE, b"state=active&state=designed&state.ne=inactive")

    assert [(c.operator, c.values) for c in query.conditions] == [
        ("eq", ("active", "designed")),
        ("ne", ("inactive",)),
    ]
    assert all(isinstance(each, Condition) for each in query.conditions)
