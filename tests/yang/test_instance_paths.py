"""Canonical paths: what is written can be read, whatever the keys hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import SchemaViolation
from domain_twin.yang.paths import Step, covers, format_path, parent, parse_path, strip_keys

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = st.one_of(
    st.lists(st.tuples(NAMES, TEXTS), max_size=3, unique_by=lambda key: key[0]).map(tuple),
    TEXTS.map(lambda text: ((".", text),)),
    st.integers(1, 99).map(lambda position: (("", str(position)),)),
)
STEPS = st.builds(Step, st.one_of(st.just(""), NAMES), NAMES, KEYS)
PATHS = st.lists(STEPS, min_size=1, max_size=5).map(tuple)

TP = (
    "/ietf-network:networks/network[network-id='urn:ndt:transport']/node[node-id='urn:ndt:transport:warsaw']"
    "/ietf-network-topology:termination-point[tp-id='urn:ndt:transport:warsaw:eth0']"
    "/fedtwin-inter-domain:inter-domain/metric"
)


@given(PATHS)
def test_what_is_formatted_parses_to_the_same(steps):
    assert parse_path(format_path(steps)) == steps


@given(PATHS)
def test_equal_paths_are_one_object(steps):
    assert format_path(steps) is format_path(tuple(steps))


@given(PATHS, PATHS)
def test_a_path_covers_what_is_below_it_and_itself(above, below):
    path = format_path((*above, *below))
    prefix = format_path(above)

    assert covers(prefix, path)
    assert covers(path, path)
    assert covers("/", path)
    assert not covers(path, prefix)


@given(PATHS)
def test_stripping_leaves_names_only(steps):
    bare = strip_keys(format_path(steps))

    assert parse_path(bare) == tuple(step._replace(keys=()) for step in steps)


def test_long_path_parses():
    steps = parse_path(TP)

    assert [step.name for step in steps][-2:] == ["inter-domain", "metric"]
    assert steps[1] == Step("", "network", (("network-id", "urn:ndt:transport"),))
    assert format_path(steps) == TP


def test_siblings_with_a_common_start_do_not_cover_each_other():
    assert not covers("/a:b/in", "/a:b/in-octets")
    assert covers("/a:b/interface", "/a:b/interface[name='x']/mtu")
    assert not covers("/a:b/interface[name='x']", "/a:b/interface[name='xy']")


def test_value_with_both_quotes_is_a_concat():
    path = format_path((Step("m", "list", (("name", 'it\'s "x"'),)),))

    assert path == "/m:list[name=concat('it',\"'\",'s \"x\"')]"
    assert parse_path(path)[0].keys == (("name", 'it\'s "x"'),)


def test_prefixed_keys_and_blanks_are_read():
    assert parse_path('/m:l[ m:k = "v" ]') == (Step("m", "l", (("k", "v"),)),)


def test_parent_of_top_is_root():
    assert parent("/m:a/b[k='v']") == "/m:a"
    assert parent("/m:a") == "/"
    assert parse_path("/") == ()


@pytest.mark.parametrize(
    "path", ["", "a", "//a", "/a:", "/a[", "/a[b]", "/a[b='c]", "/a/", "/a[b=c]", "/a[0]", "/1a", "/a b"]
)
def test_malformed_path_is_refused_with_its_place(path):
    with pytest.raises(SchemaViolation, match="is not an instance identifier: at character"):
        parse_path(path)
