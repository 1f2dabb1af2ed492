"""Leaf codecs: every type, from gNMI, JSON and XML, there and back."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import SchemaViolation
from domain_twin.yang.schema import SchemaSet

ZOO = """
module zoo {
  yang-version 1.1;
  namespace "urn:zoo";
  prefix z;
  identity animal;
  identity cat { base animal; }
  identity tiger { base cat; }
  typedef percent { type uint8 { range "0..100"; } }
  typedef name { type string { length "1..8"; pattern '[a-z]+'; pattern 'x.*' { modifier invert-match; } } }
  container all {
    leaf i8 { type int8; }
    leaf u64 { type uint64; }
    leaf i64 { type int64; }
    leaf gaps { type int32 { range "1..5 | 10 | 20..max"; } }
    leaf percent { type percent; }
    leaf half { type percent { range "min..50"; } }
    leaf dec { type decimal64 { fraction-digits 3; range "-1..2.5"; } }
    leaf wide { type decimal64 { fraction-digits 1; } }
    leaf flag { type boolean; }
    leaf name { type name; }
    leaf colour { type enumeration { enum red; enum green; } }
    leaf bits { type bits { bit a { position 3; } bit b; bit c { position 0; } } }
    leaf raw { type binary { length "0..4"; } }
    leaf there { type empty; }
    leaf kind { type identityref { base animal; } }
    leaf any { type union { type uint8; type identityref { base animal; } type enumeration { enum none; } } }
    leaf ref { type leafref { path "../percent"; } }
    leaf uref { type union { type leafref { path "../percent"; } type boolean; } }
    leaf where { type instance-identifier { require-instance false; } }
    leaf-list tags { type string; }
    leaf-list counts { config false; type uint64; }
    anydata blob;
  }
}
"""


@pytest.fixture(scope="module")
def zoo():
    schema = SchemaSet.load(["zoo"], texts={"zoo": ZOO})
    schema.require("zoo")
    return lambda leaf: schema.node(f"/zoo:all/{leaf}").codec


ACCEPTED = [
    ("i8", -128, -128),
    ("u64", 2**64 - 1, 2**64 - 1),
    ("u64", "18446744073709551615", 2**64 - 1),
    ("i64", "-9223372036854775808", -(2**63)),
    ("gaps", 10, 10),
    ("gaps", 2**31 - 1, 2**31 - 1),
    ("half", 50, 50),
    ("dec", "1.5", Decimal("1.500")),
    ("dec", 0.1, Decimal("0.100")),
    ("dec", Decimal("-1"), Decimal("-1.000")),
    ("dec", 2, Decimal("2.000")),
    ("dec", 0.30000000000000004, Decimal("0.300")),
    ("dec", "-0.0", Decimal("0.000")),
    ("flag", True, True),
    ("name", "abc", "abc"),
    ("colour", "red", "red"),
    ("bits", "b c a", "c a b"),
    ("bits", "", ""),
    ("raw", b"\x00\xff", b"\x00\xff"),
    ("raw", "AP8=", b"\x00\xff"),
    ("there", [None], None),
    ("there", None, None),
    ("there", True, None),
    ("kind", "zoo:tiger", "zoo:tiger"),
    ("kind", "cat", "zoo:cat"),
    ("any", 7, 7),
    ("any", "tiger", "zoo:tiger"),
    ("any", "none", "none"),
    ("ref", 100, 100),
    ("uref", 3, 3),
    ("uref", False, False),
    ("where", "/zoo:all/zoo:tags[.='x']", "/zoo:all/tags[.='x']"),
    ("tags", ["a", "b"], ("a", "b")),
    ("tags", (), ()),
    ("counts", ["1", "1"], (1, 1)),
    ("blob", {"b": [1]}, '{"b": [1]}'),
]


@pytest.mark.parametrize(("leaf", "value", "typed"), ACCEPTED)
def test_value_is_typed(zoo, leaf, value, typed):
    found = zoo(leaf).native(value)

    assert found == typed
    assert type(found) is type(typed)
    assert str(found) == str(typed)  # Decimal("1.5") == Decimal("1.500"): the exponent is the type's


REFUSED = [
    ("i8", 128, "outside -128 .. 127"),
    ("i8", True, "not an integer"),
    ("i8", "5", "not an integer"),
    ("i8", 1.5, "not an integer"),
    ("i8", float("inf"), "not an integer"),
    ("u64", -1, "outside"),
    ("u64", "-1", "outside"),
    ("u64", "0x10", "not an integer"),
    ("u64", "1 ", "not an integer"),
    ("gaps", 6, r"outside 1 .. 5 \| 10 \| 20"),
    ("percent", 101, "of type percent: outside 0 .. 100"),
    ("half", 51, "outside 0 .. 50"),
    ("dec", "2.501", "outside -1 .. 2.5"),
    ("dec", "1.0001", "more than 3 fraction digits"),
    ("dec", float("nan"), "not a decimal64"),
    ("dec", "1e0", "not a decimal"),
    ("dec", True, "not a decimal"),
    ("wide", "922337203685477580.8", "outside"),
    ("flag", 1, "not a boolean"),
    ("flag", "true", "not a boolean"),
    ("name", "", "length 0"),
    ("name", "abcdefghi", "length 9"),
    ("name", "ABC", "does not match"),
    ("name", "xyz", "matches pattern"),
    ("name", 5, "not a string"),
    ("colour", "blue", "not one of red, green"),
    ("colour", ["red"], "not one of"),
    ("bits", "a d", "unknown bit 'd'"),
    ("bits", "a a", "twice"),
    ("raw", "AP8", "not base64"),
    ("raw", b"12345", "length 5"),
    ("there", "x", "not empty"),
    ("there", False, "not empty"),
    ("kind", "zoo:animal", "not one of the identities"),
    ("kind", "dog", "not one of the identities"),
    ("any", 256, "no member of the union"),
    ("ref", 101, "outside 0 .. 100"),
    ("where", "nowhere", "not an instance identifier"),
    ("tags", "a", "not a leaf-list"),
    ("tags", ["a", 1], "not a string"),
    ("tags", ["a", "a"], "twice"),
]


@pytest.mark.parametrize(("leaf", "value", "reason"), REFUSED)
def test_refusal_names_path_value_type_and_reason(zoo, leaf, value, reason):
    with pytest.raises(SchemaViolation, match=reason) as caught:
        zoo(leaf).native(value)

    assert str(caught.value).startswith(f"/zoo:all/{leaf}: ")
    assert f"is not of type {zoo(leaf).type_name}" in str(caught.value)


@pytest.mark.parametrize(
    ("leaf", "text", "typed"),
    [
        ("i8", "-5", -5),
        ("u64", "+7", 7),
        ("dec", "1.5", Decimal("1.500")),
        ("flag", "true", True),
        ("there", "", None),
        ("kind", "p:tiger", "zoo:tiger"),
        ("kind", "cat", "zoo:cat"),
        ("any", "7", 7),
        ("any", "p:cat", "zoo:cat"),
        ("raw", "AP8=", b"\x00\xff"),
        ("where", "/p:all/p:i8", "/zoo:all/i8"),
        ("tags", "a", "a"),
    ],
)
def test_xml_text_is_typed(zoo, leaf, text, typed):
    assert zoo(leaf).text(text, {None: "zoo", "p": "zoo"}) == typed


@pytest.mark.parametrize(("leaf", "text"), [("flag", "1"), ("i8", ""), ("i8", "5.0"), ("kind", "q:tiger")])
def test_xml_text_is_refused(zoo, leaf, text):
    with pytest.raises(SchemaViolation, match="is not of type"):
        zoo(leaf).text(text, {None: "zoo", "q": "elsewhere"})


VALUES = {
    "i8": st.integers(-128, 127),
    "u64": st.integers(0, 2**64 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "dec": st.decimals(-1, Decimal("2.5"), places=3),
    "wide": st.decimals(Decimal(-(2**63)) / 10, Decimal(2**63 - 1) / 10, places=1),
    "flag": st.booleans(),
    "name": st.from_regex(r"[a-w][a-z]{0,7}", fullmatch=True),
    "colour": st.sampled_from(["red", "green"]),
    "bits": st.sets(st.sampled_from("abc")).map(" ".join),
    "raw": st.binary(max_size=4),
    "there": st.none(),
    "kind": st.sampled_from(["zoo:cat", "zoo:tiger"]),
    "any": st.one_of(st.integers(0, 255), st.sampled_from(["zoo:cat", "none"])),
    "tags": st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True),
    "counts": st.lists(st.integers(0, 2**64 - 1)),
}


@pytest.mark.parametrize("leaf", sorted(VALUES))
@given(data=st.data())
def test_typed_values_survive_json_and_xml(zoo, leaf, data):
    codec = zoo(leaf)
    typed = codec.native(data.draw(VALUES[leaf]))

    assert codec.native(codec.json(typed)) == typed
    assert codec.native(typed) == typed
    if not codec.is_list:
        assert codec.text(codec.lexical(typed), {"zoo": "zoo"}) == typed


@pytest.mark.parametrize(
    ("leaf", "typed", "json"),
    [
        ("u64", 5, "5"),
        ("i8", 5, 5),
        ("dec", Decimal("1.500"), "1.5"),
        ("dec", Decimal("2.000"), "2.0"),
        ("wide", Decimal("10.0"), "10.0"),
        ("raw", b"\x00\xff", "AP8="),
        ("there", None, [None]),
        ("counts", (1, 2), ["1", "2"]),
        ("any", 7, 7),
    ],
)
def test_json_is_rfc_7951s(zoo, leaf, typed, json):
    assert zoo(leaf).json(typed) == json


@given(st.text(max_size=30))
def test_no_text_breaks_a_codec(zoo, text):
    for leaf in ("i8", "u64", "dec", "flag", "name", "bits", "raw", "kind", "any", "where"):
        for take in (zoo(leaf).native, zoo(leaf).text):
            with suppress(SchemaViolation):
                take(text)
