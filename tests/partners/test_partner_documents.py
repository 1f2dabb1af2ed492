"""JSON from outside: what is refused, and that a merge patch does what RFC 7396 says."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError, OverCapacity, TwinError
from federation.partners.documents import MAX_BYTES, MAX_DEPTH, merge, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES | st.dictionaries(st.sampled_from("ab"), VALUES))

# RFC 7396, appendix A: original, patch, result
EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), EXAMPLES)
def test_merges_as_the_rfc_shows(original: Any, patch: Any, result: Any) -> None:
    before = deepcopy(original)
    assert merge(original, patch) == result
    assert original == before


@settings(max_examples=40)
@given(OBJECTS, OBJECTS)
def test_a_patch_leaves_what_it_does_not_name_and_a_second_time_nothing_to_do(
    target: dict[str, Any], patch: dict[str, Any]
) -> None:
    merged = merge(target, patch)
    assert {k: v for k, v in merged.items() if k not in patch} == {
        k: v for k, v in target.items() if k not in patch
    }
    assert not [key for key, value in patch.items() if value is None and key in merged]
    assert merge(merged, patch) == merged


@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=4))
def test_reads_what_json_is(value: dict[str, Any]) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert parse(text, "it") == value


@settings(max_examples=40)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_refuses_rubbish_with_a_sentence(data: bytes) -> None:
    try:
        said = json.dumps(parse(data, "order"))
    except ContractError as error:
        said = str(error)
    assert said.startswith(("order: ", "{"))


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"{", ContractError, "not JSON: .* line 1 column 2"),
        (b"", ContractError, "not JSON"),
        (b"[]", ContractError, "a JSON object is needed, this is an array"),
        (b"null", ContractError, "this is null"),
        (b'"x"', ContractError, "this is a string"),
        (b"\xff\xfe{}", ContractError, "not UTF-8"),
        (b'{"a":NaN}', ContractError, "NaN is not a number in JSON"),
        (b'{"a":-Infinity}', ContractError, "-Infinity is not a number"),
        (b'{"a":1e999}', ContractError, "too large"),
        (b'{"a":' + b"9" * 5000 + b"}", ContractError, "digits"),
        (b'{"a":1,"b":{"a":1,"a":2}}', ContractError, "'a' comes twice in one object"),
        (b'{"a":"\\ud800"}', ContractError, "half of a surrogate pair"),
        (b'{"\\udfff":1}', ContractError, "half of a surrogate pair"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, ContractError, f"deeper than {MAX_DEPTH}"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", ContractError, f"deeper than {MAX_DEPTH}"),
        (b'{"a":"' + b"x" * MAX_BYTES + b'"}', OverCapacity, f"{MAX_BYTES} at most"),
    ],
)
def test_refuses_what_two_readers_might_take_differently(
    data: bytes, kind: type[TwinError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        parse(data, "order")


def test_takes_what_is_just_within_bounds() -> None:
    depth = b'{"a":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1)
    assert parse(depth, "order")
    wide = b'{"a":"' + b"x" * (MAX_BYTES - 8) + b'"}'
    assert len(parse(wide, "order")["a"]) == MAX_BYTES - 8
