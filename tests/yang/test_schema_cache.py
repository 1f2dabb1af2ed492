"""A schema that is read from its cache is the schema that was put there; a damaged cache is made anew."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from domain_twin.yang import loading
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import SchemaNode, SchemaSet

MODULES = ("ietf-interfaces", "iana-if-type", "ietf-alarms", "fedtwin-ran", "fedtwin-inter-domain")
OWN = """
module own {
  yang-version 1.1; namespace "urn:own"; prefix o; import fedtwin-ran { prefix r; }
  feature more;
  typedef part { type decimal64 { fraction-digits 2; range "0..1 | 2..max"; } }
  container box {
    presence "there";
    leaf part { type part; default 0.5; units "m"; }
    leaf any { type union { type part; type bits { bit a; bit b; } type binary { length 1..9; } } }
    leaf-list tag { type string { length 1..4; pattern 'x.*' { modifier invert-match; } } }
    leaf ref { type leafref { path "../part"; } }
    anydata blob;
  }
}
"""


def described(schema: SchemaSet) -> list[tuple[object, ...]]:
    def row(node: SchemaNode) -> tuple[object, ...]:
        form = node.leaf_type.form if node.leaf_type else None
        return (
            *(node.path, node.kind, node.keys, node.config, node.presence, form),
            *(node.type_name, node.default, node.units, list(node.children), list(node.by_name)),
        )

    return [row(node) for top in schema.tops.values() for node in top.walk()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "yang").mkdir()
    (tmp_path / "yang" / "own.yang").write_text(OWN)
    (tmp_path / "yang" / "broken.yang").write_text("module broken {")
    return tmp_path / "yang"


def load(folder: Path, **options: object) -> SchemaSet:
    return SchemaSet.load(
        MODULES,
        [folder],
        all_of_folders=True,
        cache=folder.parent / "cache",
        **options,  # type: ignore[arg-type]
    )


def test_cached_schema_equals_the_one_that_was_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    monkeypatch.setattr(loading, "load_modules", None)  # must not be needed
    second = load(folder)

    assert described(second) == described(first)
    assert second.modules == first.modules
    assert {n: str(e) for n, e in second.report.failed.items()} == {
        n: str(e) for n, e in first.report.failed.items()
    }
    assert second.report.problems == first.report.problems
    assert second.node("/own:box/any").codec.native("b a") == "a b"


def test_any_changed_text_is_loaded_anew(folder: Path) -> None:
    load(folder)
    (folder / "own.yang").write_text(OWN.replace("0..1 | 2..max", "0..7"))

    assert load(folder).node("/own:box/part").codec.native("1.5")


def test_each_module_set_has_its_own(folder: Path) -> None:
    (folder / "own.yang").write_text(OWN.replace("leaf part {", "leaf part { if-feature more;"))
    assert load(folder).node("/own:box/part") is not None

    assert load(folder, module_set=ModuleSet(features={"own": ()})).node("/own:box/part") is None


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_damaged_cache_is_made_anew(folder: Path, damage: bytes | None) -> None:
    first = load(folder)
    (file,) = (folder.parent / "cache").glob("*.schema")
    octets = file.read_bytes()
    file.write_bytes(octets[:-1] + bytes([octets[-1] ^ 1]) if damage is None else damage)

    assert described(load(folder)) == described(first)
    assert file.read_bytes() == octets


def test_cache_that_cannot_be_written_costs_nothing_but_time(folder: Path) -> None:
    (folder.parent / "cache").write_text("a file, no folder")

    assert load(folder).node("/own:box") is not None


def test_only_the_latest_are_kept(folder: Path) -> None:
    for number in range(12):
        (folder / "own.yang").write_text(OWN + f"// {number}\n")
        SchemaSet.load(["own"], [folder], cache=folder.parent / "cache")

    assert len(list((folder.parent / "cache").iterdir())) == 8


def test_cache_that_somebody_changed_is_made_anew(folder: Path) -> None:
    first = load(folder)
    (file,) = (folder.parent / "cache").glob("*.schema")
    octets = file.read_bytes()
    changed = zlib.decompress(octets[32:]).replace(b'"part"', b'"trap"')
    file.write_bytes(octets[:32] + zlib.compress(changed, 1))

    assert described(load(folder)) == described(first)
