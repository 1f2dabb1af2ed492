"""XSD patterns as Python's: libxml2, which implements XSD, is the judge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from domain_twin.errors import SchemaError
from domain_twin.yang.patterns import compile_pattern

XSD = "http://www.w3.org/2001/XMLSchema"
PATTERNS = [
    r"[0-9]{1,3}(-[0-9A-Fa-f]{6})?",
    r"[a-z][a-z0-9+.\-]*:.*",
    r"(([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\.){3}([0-9]|[1-9][0-9])(%[\p{N}\p{L}]+)?",
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[\+\-]\d{2}:\d{2})",
    r"\w+",
    r"[^\S]?|[\D]",
    r"\W*",
    r"[\w.]*x?",
    r"\i\c*",
    r"\s|\S\S",
    r"[a-z-[aeiou]]+",
    r"[^a-z]+",
    r"\p{Lu}\p{Ll}*|\P{L}",
    r"^a$",
    r"a.c",
    r"[\-a\]]*",
    r"(a|b)|c",
    r"\.\*\\\^",
]


def judge(pattern: str) -> etree.XMLSchema:
    root = etree.Element(f"{{{XSD}}}schema", nsmap={"xs": XSD})
    element = etree.SubElement(root, f"{{{XSD}}}element", name="a")
    simple = etree.SubElement(element, f"{{{XSD}}}simpleType")
    restriction = etree.SubElement(simple, f"{{{XSD}}}restriction", base="xs:string")
    etree.SubElement(restriction, f"{{{XSD}}}pattern", value=pattern)
    return etree.XMLSchema(root)


JUDGES = {pattern: judge(pattern) for pattern in PATTERNS}


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(PATTERNS),
    st.text(st.sampled_from("abxzAZ09_-.:^$\\*]é٣ \t+%Ωß'/"), max_size=6),
)
def test_verdict_is_libxml2s(pattern, text):
    document = etree.Element("a")
    document.text = text

    assert (compile_pattern(pattern).fullmatch(text) is not None) == JUDGES[pattern].validate(document)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"\d{4}-\d{2}", "2026-11", "2026-1"),
        (r"[a-z-[aeiou]]+", "xyz", "xaz"),
        (r"\w", "é", "_"),
        (r"^a$", "^a$", "a"),
        (r".", "x", "\n"),
        (r"a|ab", "ab", "abc"),
        (r"[\d\-]+", "1-2", "a"),
        (r"\p{IsBasicLatin}*", "abc", "é"),
        (r"[\W]", "_", "a"),
        (r"[\P{L}x]+", "0x", "a"),  # where libxml2 errs: a complement within a class
    ],
)
def test_examples(pattern, yes, no):
    compiled = compile_pattern(pattern)

    assert compiled.fullmatch(yes)
    assert not compiled.fullmatch(no)


@pytest.mark.parametrize(
    "pattern", [r"\p{IsGreek}", r"[a-z-[b-[c]]]", r"(?i)x", r"[a", r"a\q", "a**", r"\pL"]
)
def test_unsupported_pattern_is_named(pattern):
    with pytest.raises(SchemaError, match="pattern"):
        compile_pattern(pattern)
