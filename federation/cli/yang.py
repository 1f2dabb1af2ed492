"""`fedtwin yang`: what became of YANG modules and what they define. Owns words and tables; fetches none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from domain_twin.yang.schema import SchemaNode, SchemaSet

SECTION = "Operate"

Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDER...", help="Folders with .yang files; subfolders count.")
]
MoreFolders = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FOLDER]...", help="Folders with .yang files, besides what ships."),
]


def add_to(app: typer.Typer) -> None:
    """Add `yang` with its sub-commands."""
    part = subgroup(app, "yang", section=SECTION, help_text="Report on folders of YANG modules.")
    part.callback()(_group)
    command(part, "report", group="yang", section=SECTION, example="fedtwin yang report /srv/vendor-models")(
        report
    )
    command(
        part,
        "tree",
        group="yang",
        section=SECTION,
        example=(
            "fedtwin yang tree /interfaces/interface/statistics",
            "fedtwin yang tree /openconfig-platform:components /srv/vendor-models --json",
        ),
    )(tree)


def _group() -> None:
    """Report on folders of YANG modules, as the twin reads them."""


def report(*, folders: Folders, as_json: Json = False) -> None:
    """Say what became of each module, what the mapping reads of it, and everything that is not understood.

    Broken files, missing imports, circles, several revisions of one module, the same module with two
    contents: each with its remedy. The rest loads. Exit status 1 when something is missing.
    """
    from federation.cli.console import emit

    schema = _load(folders)
    feeds = _feeds()
    own = [name for name in sorted(schema.modules) if _is_below(schema.modules[name].source, folders)]
    modules = [_described(schema, name, feeds) for name in own]
    if as_json:
        emit(
            {
                "modules": modules,
                "failed": {name: str(error) for name, error in schema.report.failed.items()},
                "problems": [
                    {
                        "code": problem.code,
                        "subject": problem.subject,
                        "message": problem.message,
                        "remedy": problem.remedy,
                        "serious": problem.serious,
                    }
                    for problem in schema.report.problems
                ],
                "warnings": list(schema.report.warnings),
            }
        )
    else:
        _show(schema, modules)
    if any(problem.serious for problem in schema.report.problems):
        raise typer.Exit(1)


def _show(schema: SchemaSet, modules: Sequence[Mapping[str, Any]]) -> None:
    from rich.text import Text

    from federation.cli.console import out
    from federation.cli.tables import grid

    if modules:
        table = grid("module", "revision", "subtrees", "features", wraps="subtrees")
        for item in modules:
            subtrees = ", ".join(
                f"{name} ({'feeds the model' if name in item['mapped'] else 'stored only'})"
                for name in item["subtrees"]
            )
            table.add_row(item["name"], item["revision"], subtrees, " ".join(item["features"]))
        out().print(table)
    for item in modules:
        for deviation in item["deviations"]:
            out().print(Text(f"{item['name']} deviates {deviation}, for devices that announce it", "dim"))
    for problem in schema.report.problems:
        mark = Text("missing  ", "red") if problem.serious else Text("note     ", "dim")
        out().print(mark + Text(f"{problem.subject}: {problem.message}", "default"))
        out().print(Text(f"         {problem.remedy}", "dim"))
    nodes = sum(item["nodes"] for item in modules)
    loaded = f"{len(modules)} module{'s' if len(modules) != 1 else ''} loaded from here"
    left_out = f"; {len(schema.report.failed)} left out" if schema.report.failed else ""
    out().print(f"{loaded} with {nodes} data nodes{left_out}.")


def tree(
    *,
    path: Annotated[
        str, typer.Argument(help="A data node; its module and list keys may be left out.", show_default=False)
    ],
    folders: MoreFolders = None,
    as_json: Json = False,
) -> None:
    """Show a data node with all below it: types, units, what may be configured, what feeds the model."""
    from federation.cli.console import emit, out

    schema = _load(folders or ())
    feeds = _feeds()
    rows = [_row(level, node, feeds) for level, node in _walk(_find(schema, path))]
    if as_json:
        emit({"nodes": rows})
        return
    from federation.cli.tables import grid

    table = grid("node", "", "type", "feeds", wraps="feeds")
    for row in rows:
        keys = f" [{' '.join(row['keys'])}]" if row["keys"] else ""
        units = f" ({row['units']})" if row["units"] else ""
        name = "  " * row["level"] + row["path"].rpartition("/")[2] + keys
        table.add_row(name, "rw" if row["config"] else "ro", row["type"] + units, row["feeds"])
    out().print(table)


def _load(folders: Sequence[Path]) -> SchemaSet:
    """All modules of the folders, with those that ship. Raises ConfigError."""
    from domain_twin.errors import ConfigError
    from domain_twin.yang.schema import SchemaSet

    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; name one that holds .yang files")
    return SchemaSet.load(None, folders)


def _is_below(source: str, folders: Sequence[Path]) -> bool:
    return any(folder in Path(source).parents for folder in folders)


def _described(schema: SchemaSet, name: str, feeds: Mapping[str, str]) -> dict[str, Any]:
    info = schema.modules[name]
    tops = [node for node in schema.tops.values() if node.module == name]
    nodes = [node for top in schema.tops.values() for node in top.walk() if node.module == name]
    return {
        "name": name,
        "revision": info.revision,
        "source": info.source,
        "features": list(info.features),
        "deviations": list(info.deviations),
        "subtrees": [node.name for node in tops],
        "mapped": [top.name for top in tops if any(node.path in feeds for node in top.walk())],
        "nodes": len(nodes),
    }


def _find(schema: SchemaSet, path: str) -> SchemaNode:
    """The node of a path whose modules may be left out. Raises SchemaError, SchemaViolation."""
    from domain_twin.errors import SchemaError, SchemaViolation
    from domain_twin.yang.paths import Step, parse_path

    steps = [Step(step.module, step.name) for step in parse_path(path)]
    try:
        node = schema.node(schema.canonical(steps))
    except SchemaViolation:
        node = None
    if node is None:
        named = {
            f"{top.module}:{top.name}" for top in schema.tops_by_name.get(steps[0].name if steps else "", ())
        }
        hint = f": say which, {' or '.join(sorted(named))}" if len(named) > 1 else ""
        raise SchemaError(f"no module that is loaded defines {path}{hint or '; name the folder that has it'}")
    return node


def _walk(node: SchemaNode, level: int = 0) -> Iterator[tuple[int, SchemaNode]]:
    yield level, node
    for child in node.children.values():
        yield from _walk(child, level + 1)


def _row(level: int, node: SchemaNode, feeds: Mapping[str, str]) -> dict[str, Any]:
    return {
        "level": level,
        "path": node.path,
        "kind": node.kind.value,
        "config": node.config,
        "keys": node.keys,
        "type": node.type_name,
        "units": node.units,
        "default": node.default,
        "feeds": feeds.get(node.path, ""),
    }


def _feeds() -> dict[str, str]:
    """What the mapping makes of each path that it reads."""
    from domain_twin.mapping.tables import MIRRORED

    return {row.schema_path: f"{row.kind.value} {row.attribute}" for table in MIRRORED for row in table}
