"""One set of modules, several devices: each gets the revisions, features and deviations it states."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from domain_twin.errors import SchemaViolation
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.validate import Validation

BASE = """
module base {
  yang-version 1.1;
  namespace "urn:base"; prefix b;
  feature fast; feature slow;
  identity colour; identity red { base colour; } identity blue { base colour; if-feature fast; }
  container box {
    leaf size { type uint8; default 3; units "cm"; }
    leaf wanted { type string; mandatory true; }
    leaf gone { type string; }
    leaf ruled { type uint8; must ". > 5"; }
    leaf plain { type uint8; }
    leaf turbo { if-feature "fast and not slow"; type uint8; }
    leaf mode { type enumeration { enum on; enum boost { if-feature fast; } } }
    leaf paint { type identityref { base colour; } }
    leaf-list tag { type string; }
    list drawer { key name; leaf name { type string; } leaf depth { type uint8; } }
    container state { config false; leaf count { type uint32; } }
  }
}
"""
DEVIATING = """
module acme-deviations {
  yang-version 1.1;
  namespace "urn:acme:dev"; prefix d;
  import base { prefix b; }
  typedef tenth { type decimal64 { fraction-digits 1; range "0..9.9"; } }
  deviation "/b:box/b:size" { deviate replace { type string; units "inch"; } deviate delete { default 3; } }
  deviation "/b:box/b:wanted" { deviate replace { mandatory false; } }
  deviation "/b:box/b:gone" { deviate not-supported; }
  deviation "/b:box/b:ruled" { deviate delete { must ". > 5"; } }
  deviation "/b:box/b:plain" { deviate add { must ". > 7"; default 9; units "pieces"; } }
  deviation "/b:box/b:state/b:count" { deviate replace { type tenth; } }
}
"""
TEXTS = {"base": BASE, "acme-deviations": DEVIATING}


def schema(**options: object) -> SchemaSet:
    loaded = SchemaSet.load(list(TEXTS), texts=TEXTS, module_set=ModuleSet(**options))  # type: ignore[arg-type]
    loaded.require(*TEXTS)
    return loaded


@pytest.fixture(scope="module")
def standard() -> SchemaSet:
    return schema()


@pytest.fixture(scope="module")
def acme() -> SchemaSet:
    return schema(deviating=frozenset({"acme-deviations"}))


def test_deviations_lie_idle_until_a_device_says_that_it_has_them(standard: SchemaSet) -> None:
    assert standard.node("/base:box/size").codec.native(7) == 7
    assert standard.node("/base:box/gone") is not None
    assert standard.modules["acme-deviations"].deviations[2] == "/b:box/b:gone: not-supported"


def test_leaf_has_the_type_that_its_device_deviates_to(standard: SchemaSet, acme: SchemaSet) -> None:
    size, count = acme.node("/base:box/size"), acme.node("/base:box/state/count")

    assert size.codec.native("XXL") == "XXL"
    with pytest.raises(SchemaViolation, match="not of type string"):
        size.codec.native(7)
    assert (size.units, size.default) == ("inch", "")
    assert count.codec.native("1.5") == Decimal("1.5")
    with pytest.raises(SchemaViolation, match="not an integer"):
        standard.node("/base:box/state/count").codec.native("1.5")
    assert (acme.node("/base:box/plain").default, acme.node("/base:box/plain").units) == ("9", "pieces")


def test_what_a_device_does_not_support_is_not_there(acme: SchemaSet) -> None:
    assert acme.node("/base:box/gone") is None
    with pytest.raises(SchemaViolation, match="no such node"):
        acme.resolve("/base:box/gone")


def test_whole_trees_are_judged_by_the_device_s_own_rules(standard: SchemaSet, acme: SchemaSet) -> None:
    with Validation(standard) as usual, Validation(acme) as own:
        usual.check({"base:box": {"wanted": "x", "size": 7, "gone": "y", "plain": 1}})
        with pytest.raises(SchemaViolation, match="wanted"):
            usual.check({"base:box": {"size": 7}})
        with pytest.raises(SchemaViolation):
            usual.check({"base:box": {"wanted": "x", "ruled": 1}})

        own.check({"base:box": {"size": "XXL", "ruled": 1}})
        with pytest.raises(SchemaViolation, match="gone"):
            own.check({"base:box": {"gone": "y"}})
        with pytest.raises(SchemaViolation, match="plain"):
            own.check({"base:box": {"plain": 1}})


@pytest.mark.parametrize(
    ("features", "there"), [(("fast",), True), ((), False), (("fast", "slow"), False), (("slow",), False)]
)
def test_features_decide_which_nodes_there_are(features: tuple[str, ...], there: bool) -> None:
    found = schema(features={"base": features})

    assert (found.node("/base:box/turbo") is not None) is there


def test_features_decide_which_values_there_are() -> None:
    with_all, without = schema(), schema(features={"base": ()})

    assert with_all.node("/base:box/mode").codec.native("boost") == "boost"
    assert with_all.node("/base:box/paint").codec.native("blue") == "base:blue"
    for leaf, value in (("mode", "boost"), ("paint", "blue")):
        with pytest.raises(SchemaViolation):
            without.node(f"/base:box/{leaf}").codec.native(value)
    with Validation(without) as validation:
        validation.check({"base:box": {"wanted": "x", "mode": "on"}})
        with pytest.raises(SchemaViolation):
            validation.check({"base:box": {"wanted": "x", "turbo": 1}})


def test_device_decides_which_revision_counts(tmp_path: Path) -> None:
    for revision, kind in (("2020-01-01", "uint8"), ("2026-01-01", "string")):
        (tmp_path / f"base@{revision}.yang").write_text(
            f'module base {{ namespace "urn:b"; prefix b; revision {revision}; leaf a {{ type {kind}; }} }}'
        )
    newest = SchemaSet.load(["base"], [tmp_path])
    older = SchemaSet.load(["base"], [tmp_path], module_set=ModuleSet(revisions={"base": "2020-01-01"}))
    none = SchemaSet.load(["base"], [tmp_path], module_set=ModuleSet(revisions={"base": "1999-01-01"}))

    assert newest.node("/base:a").codec.type.name == "string"
    assert older.node("/base:a").codec.type.name == "uint8"
    assert older.modules["base"].revision == "2020-01-01"
    assert none.modules["base"].revision == "2026-01-01"
    assert any(
        p.code == "module.missing-revision" and "1999-01-01" in p.message for p in none.report.problems
    )


def test_deviation_of_nothing_fails_its_own_module_only(tmp_path: Path) -> None:
    texts = {"base": BASE, "wild": DEVIATING.replace("acme-deviations", "wild").replace("b:gone", "b:never")}
    found = SchemaSet.load(list(texts), texts=texts, module_set=ModuleSet(deviating=frozenset({"wild"})))

    assert set(found.report.failed) == {"wild"}
    assert "never" in str(found.report.failed["wild"])
    assert found.node("/base:box/size").codec.native(7) == 7  # nothing half done


def test_bare_name_of_two_modules_is_the_device_s() -> None:
    texts = {
        name: f'module {name} {{ namespace "urn:{name}"; prefix p; container box {{ presence "x"; }} }}'
        for name in ("one", "two")
    }
    both = SchemaSet.load(list(texts), texts=texts)

    assert both.top("box") is None
    assert both.preferring(["two"]).top("box").module == "two"
    assert both.preferring(["two"]).top("box", "one").module == "one"
    assert both.preferring(["three"]).top("box") is None
