"""Folders as vendors ship them: every kind of rubbish is named in the report, and the rest loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain_twin.yang import catalogue
from domain_twin.yang.schema import SchemaSet

GOOD = """
module good {{
  namespace "urn:good"; prefix g;
  {needs}
  revision {revision};
  container box {{ leaf size {{ type {kind}; }} }}
}}
"""


def good(revision: str = "2026-01-01", kind: str = "uint8", needs: str = "") -> str:
    return GOOD.format(revision=revision, kind=kind, needs=needs)


def module(name: str, needs: str = "", body: str = "leaf a { type string; }") -> str:
    return f'module {name} {{\n  namespace "urn:{name}";\n  prefix p;\n  {needs}\n  {body}\n}}\n'


def load(folder: Path, **texts: str) -> SchemaSet:
    for name, text in texts.items():
        (folder / f"{name.replace('_', '-')}.yang").write_text(text)
    return SchemaSet.load(["good"], [folder], all_of_folders=True)


def told(schema: SchemaSet, code: str, subject: str = "") -> str:
    found = [p for p in schema.report.problems if p.code == code and subject in p.subject]
    assert len(found) == 1, schema.report.problems
    assert found[0].remedy
    return f"{found[0].subject} {found[0].message}"


def test_newest_of_several_revisions_is_taken_and_told(tmp_path: Path) -> None:
    (tmp_path / "good@2025-05-05.yang").write_text(good("2025-05-05", "string"))
    (tmp_path / "good@2026-01-01.yang").write_text(good())
    (tmp_path / "good@2020-01-01.yang").write_text(good("2020-01-01", "string"))
    schema = load(tmp_path)

    assert schema.modules["good"].revision == "2026-01-01"
    assert schema.node("/good:box/size").codec.native(7) == 7
    message = told(schema, "module.revisions", "good")
    assert "2026-01-01, 2025-05-05, 2020-01-01" in message
    assert "good@2026-01-01.yang) is taken" in message


def test_newest_revision_wins_across_the_operators_folders(tmp_path: Path) -> None:
    for name, revision in (("old", "2020-01-01"), ("new", "2026-01-01")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.yang").write_text(good(revision))
    schema = SchemaSet.load(["good"], [tmp_path / "old", tmp_path / "new"])

    assert schema.modules["good"].revision == "2026-01-01"


def test_two_texts_of_one_revision_are_told_and_the_first_folder_wins(tmp_path: Path) -> None:
    for name, kind in (("a", "uint8"), ("b", "string")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.yang").write_text(good(kind=kind))
    schema = SchemaSet.load(["good"], [tmp_path / "b", tmp_path / "a"])

    assert schema.node("/good:box/size").codec.type.name == "string"
    message = told(schema, "module.two-texts", "good")
    assert str(tmp_path / "a" / "good.yang") in message
    assert str(tmp_path / "b" / "good.yang") in message


def test_equal_texts_in_two_folders_are_nothing_to_tell(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.yang").write_text(good())

    assert SchemaSet.load(["good"], [tmp_path]).report.problems == ()


def test_circle_of_imports_is_named_and_the_rest_loads(tmp_path: Path) -> None:
    schema = load(
        tmp_path,
        good=good(),
        one=module("one", "import two { prefix t; }"),
        two=module("two", "import three { prefix t; }"),
        three=module("three", "import one { prefix t; }"),
        user=module("user", "import one { prefix t; }"),
    )

    assert set(schema.report.failed) == {"one", "two", "three", "user"}
    message = str(schema.report.failed["two"])
    assert "two.yang) imports itself: " in message
    assert all(name in message for name in ("one ->", "two ->", "three"))
    assert "user" in str(schema.report.failed["user"])
    assert "needs one, which failed" in str(schema.report.failed["user"])
    assert schema.node("/good:box") is not None


def test_missing_imports_and_submodules_are_named_with_file_and_line(tmp_path: Path) -> None:
    schema = load(
        tmp_path,
        good=good(),
        lacking=module("lacking", "import vendor-types { prefix v; }"),
        whole=module("whole", "include whole-part;"),
        above=module("above", "import whole { prefix w; }"),
    )

    assert set(schema.report.failed) == {"lacking", "whole", "above"}
    assert "lacking.yang, line 4" in told(schema, "module.missing-import", "lacking")
    assert "includes whole-part" in told(schema, "module.missing-submodule", "whole")
    assert "needs whole" in told(schema, "module.needs-failed", "above")
    assert "add the folder with whole-part.yang" in str(schema.report.failed["above"])


def test_import_of_a_revision_that_is_not_there_takes_the_one_that_is(tmp_path: Path) -> None:
    schema = load(
        tmp_path, good=good(), dated=module("dated", "import good { prefix g; revision-date 2001-01-01; }")
    )

    assert schema.report.failed == {}
    assert "good of revision 2001-01-01; 2026-01-01 is taken" in told(schema, "module.missing-revision")


def test_import_by_revision_gets_that_revision(tmp_path: Path) -> None:
    for revision, kind in (("2020-01-01", "uint8"), ("2026-01-01", "string")):
        text = module("kinds", f"revision {revision};", f"typedef kind {{ type {kind}; }}")
        (tmp_path / f"kinds@{revision}.yang").write_text(text)
    schema = load(
        tmp_path,
        good=good(),
        dated=module(
            "dated", "import kinds { prefix k; revision-date 2020-01-01; }", "leaf a { type k:kind; }"
        ),
    )

    assert schema.report.failed == {}
    assert schema.node("/dated:a").codec.type.name == "uint8"
    assert schema.modules["kinds"].revision == "2026-01-01"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("module broken {", "premature end"),
        ('module broken { namespace "urn:b"; prefix b; leaf x { type nonsense; } }', "nonsense"),
        ('module broken { namespace "urn:b"; prefix b; container c { nonsense; } }', "nonsense"),
        ('module broken { namespace "urn:b"; prefix b; leaf x { type string; }', "premature end"),
        (f'module broken {{ namespace "urn:b"; prefix b; {"container c { " * 3000}', "too deeply"),
        ('module broken { namespace "urn:b"; prefix b; grouping g { uses g; } uses g; }', "circular"),
    ],
)
def test_broken_module_fails_alone(tmp_path: Path, text: str, reason: str) -> None:
    schema = load(tmp_path, good=good(), broken=text, user=module("user", "import broken { prefix b; }"))

    assert set(schema.report.failed) == {"broken", "user"}
    assert reason in str(schema.report.failed["broken"])
    assert "broken.yang" in str(schema.report.failed["broken"])
    assert schema.node("/good:box") is not None


def test_module_that_fails_leaves_no_trace_in_those_it_augments(tmp_path: Path) -> None:
    broken = module(
        "broken",
        "import good { prefix g; }",
        'augment "/g:box" { leaf more { type string; } } leaf x { type no; }',
    )
    schema = load(tmp_path, good=good(), broken=broken)

    assert set(schema.report.failed) == {"broken"}
    assert set(schema.node("/good:box").children) == {"size"}


def test_files_that_are_no_modules_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "LARGEST_FILE", 5000)
    (tmp_path / "latin.yang").write_bytes(module("latin").encode() + b"// caf\xe9\n")
    (tmp_path / "huge.yang").write_text(module("huge") + "// much\n" * 1000)
    (tmp_path / "notes.yang").write_text("Notes on this release.\n")
    (tmp_path / "README.md").write_text("# Release\n")
    (tmp_path / "nowhere.yang").symlink_to(tmp_path / "gone.yang")
    (tmp_path / "folder.yang").mkdir()
    (tmp_path / "other-name.yang").write_text(module("real-name"))
    (tmp_path / "late@2020-01-01.yang").write_text(module("late", "revision 2021-01-01;"))
    schema = load(tmp_path, good=good())

    assert "is not UTF-8" in told(schema, "file.not-utf8", "latin.yang")
    assert "at most 5,000 are read" in told(schema, "file.too-large", "huge.yang")
    assert "does not begin with a module" in told(schema, "file.no-module", "notes.yang")
    assert "1 files" in told(schema, "file.not-yang", str(tmp_path))
    assert "cannot be read" in told(schema, "file.unreadable", "nowhere.yang")
    assert "holds the module real-name" in told(schema, "file.other-name", "other-name.yang")
    assert "holds revision 2021-01-01, not 2020-01-01" in told(schema, "file.other-revision")
    assert {"good", "real-name", "late"} <= schema.modules.keys()
    assert schema.report.failed == {}


def test_links_in_a_circle_are_not_entered(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "up").symlink_to(tmp_path)
    (inner / "self").symlink_to(inner)
    (tmp_path / "elsewhere").mkdir()
    (inner / "good.yang").write_text(good())
    schema = SchemaSet.load(["good"], [tmp_path])

    assert len([p for p in schema.report.problems if p.code == "folder.loop"]) == 2
    assert schema.modules["good"].revision == "2026-01-01"


def test_linked_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "good.yang").write_text(good())
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "current").symlink_to(tmp_path / "release")

    assert "good" in SchemaSet.load(["good"], [tmp_path / "named"]).modules


def test_missing_folder_is_named(tmp_path: Path) -> None:
    schema = SchemaSet.load(["fedtwin-ran"], [tmp_path / "gone"])

    assert str(tmp_path / "gone") in told(schema, "folder.missing")
    assert "fedtwin-ran" in schema.modules


def test_submodules_are_part_of_their_module(tmp_path: Path) -> None:
    part = "submodule part { belongs-to whole { prefix w; } leaf inside { type uint8; } }"
    schema = load(tmp_path, good=good(), part=part, whole=module("whole", "include part;"))

    assert schema.report.failed == {}
    assert schema.node("/whole:inside").codec.native(3) == 3
    assert schema.modules["whole"].submodules[0][0] == "part"


def test_words_in_comments_and_strings_are_no_statements(tmp_path: Path) -> None:
    text = (
        '/* module wrong { */ // module too { \nmodule "good" {\n namespace "urn:good"; prefix g;\n'
        ' description "import nothing { prefix n; } revision 2030-01-01;";\n revision 2026-01-01;\n'
        " leaf a { type string; }\n}\n"
    )
    schema = load(tmp_path, good=text)

    assert schema.report.failed == {}
    assert schema.report.problems == ()
    assert schema.modules["good"].revision == "2026-01-01"
