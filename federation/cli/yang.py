"""`fedtwin yang`: what became of the YANG modules, what they define, what a path means. Owns words and tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from domain_twin.yang.schema import SchemaNode, SchemaSet

SECTION = "Operate"

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="[FOLDER|TOML]...", help="Folders with .yang files, or an agent's configuration."),
]
Deviating = Annotated[
    list[str],
    typer.Option("--deviate", metavar="MODULE", help="Apply this module's deviations, as for its devices."),
]


def add_to(app: typer.Typer) -> None:
    """Add `yang` with its sub-commands."""
    part = subgroup(app, "yang", section=SECTION, help_text="Look at YANG modules as the twin reads them.")
    part.callback()(_group)
    command(
        part,
        "report",
        group="yang",
        section=SECTION,
        example=("fedtwin yang report vendor/yang", "fedtwin yang report agent.toml --json"),
    )(report)
    command(
        part,
        "tree",
        group="yang",
        section=SECTION,
        example="fedtwin yang tree /ietf-interfaces:interfaces --depth 2",
    )(tree)
    command(
        part,
        "path",
        group="yang",
        section=SECTION,
        example="fedtwin yang path /ietf-interfaces:interfaces/interface/oper-status",
    )(path)


def _group() -> None:
    """Look at YANG modules as the twin reads them: what was loaded, what was not, what a path means."""


def report(
    *,
    folders: Folders = [],  # noqa: B006 - typer's way to say: none
    module: Annotated[str, typer.Option("--module", help="Only this module.")] = "",
    deviate: Deviating = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Load all modules of folders and say what became of each; exit status 1 where something is missing.

    Names duplicate revisions, circles, missing imports, files that are no modules; and for each top-level
    node whether the mapping reads it or the twin only stores it.
    """
    from federation.cli.console import emit, out

    schema = _load(folders, deviate)
    modules = [
        _described(schema, name)
        for name in sorted(schema.modules)
        if module in {"", name} and (module or _is_own(schema, name, folders))
    ]
    problems = [
        {
            "code": problem.code,
            "subject": problem.subject,
            "message": problem.message,
            "remedy": problem.remedy,
            "serious": problem.serious,
        }
        for problem in schema.report.problems
        if module in {"", problem.subject}
    ]
    if as_json:
        emit({"loaded": len(schema.modules), "modules": modules, "problems": problems})
    else:
        from rich.text import Text

        from federation.cli.tables import grid

        if modules:
            table = grid("module", "revision", "top-level nodes", "read by the mapping", wraps="top-level nodes")
            for item in modules:
                read = ", ".join(item["mapped"]) or ("no: stored" if item["nodes"] else "")
                table.add_row(item["name"], item["revision"], " ".join(item["nodes"]), read)
            out().print(table)
        for item in modules:
            for deviation in item["deviations"]:
                idle = "" if item["name"] in deviate else " (for devices that announce it)"
                out().print(Text(f"{item['name']} deviates {deviation}{idle}", "dim"))
        for item in problems:
            mark = Text("missing  " if item["serious"] else "note     ", "red" if item["serious"] else "dim")
            out().print(mark + Text(f"{item['subject']}: {item['message']}", "default"))
            out().print(Text(f"         {item['remedy']}", "dim"))
        failed = len(schema.report.failed)
        out().print(
            f"{len(schema.modules)} modules loaded, {failed} left out, {len(problems)} things to know."
        )
    if any(item["serious"] for item in problems):
        raise typer.Exit(1)


def tree(
    *,
    path: Annotated[str, typer.Argument(help="Where to begin: /module:name/...", show_default=False)],
    folders: Folders = [],  # noqa: B006
    depth: Annotated[int, typer.Option("--depth", min=1, help="Levels to show.")] = 99,
    deviate: Deviating = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show the nodes at and below a path: rw or ro, name, keys, type, and what the mapping makes of it."""
    from federation.cli.console import emit, out

    schema = _load(folders, deviate)
    node = _node(schema, path)
    feeds = _feeds()
    rows = [
        {"level": level, **_row(item), "feeds": feeds.get(item.path, "")} for level, item in _walk(node, depth)
    ]
    if as_json:
        emit({"nodes": rows})
        return
    from federation.cli.tables import grid

    table = grid("node", "", "type", "feeds", wraps="feeds")
    for row in rows:
        keys = f" [{' '.join(row['keys'])}]" if row["keys"] else ""
        name = "  " * row["level"] + row["path"].rpartition("/")[2] + keys
        table.add_row(name, "rw" if row["config"] else "ro", row["type"], row["feeds"])
    out().print(table, markup=False) if False else out().print(table)


def path(
    *,
    path: Annotated[str, typer.Argument(help="An instance or a node: /module:name/...", show_default=False)],
    folders: Folders = [],  # noqa: B006
    deviate: Deviating = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Say what one path means: its node, its type, and which attribute of the network model it feeds."""
    from federation.cli.console import emit, out
    from federation.cli.tables import attributes_table

    schema = _load(folders, deviate)
    if "[" in path:
        schema.resolve(path)
    node = _node(schema, path)
    info = schema.modules.get(node.module)
    found = {
        **_row(node),
        "module": f"{node.module}@{info.revision}" if info and info.revision else node.module,
        "source": info.source if info else "",
        "default": node.default,
        "units": node.units,
        "feeds": _feeds().get(node.path, ""),
    }
    if as_json:
        emit(found)
        return
    shown = {key: " ".join(value) if isinstance(value, tuple) else str(value) for key, value in found.items()}
    shown["config"] = "true" if node.config else "false"
    shown["feeds"] = shown["feeds"] or "nothing: stored only"
    out().print(attributes_table({key: value for key, value in shown.items() if value}))


def _load(places: list[Path], deviate: list[str]) -> SchemaSet:
    """All modules of the folders, with those that ship. Raises ConfigError, SchemaError."""
    from domain_twin.config import load_agent
    from domain_twin.errors import ConfigError, SchemaError
    from domain_twin.yang.module_set import ModuleSet
    from domain_twin.yang.schema import SchemaSet

    folders: list[Path] = []
    for place in places:
        if place.is_dir():
            folders.append(place)
        elif place.is_file():
            folders += load_agent(place).yang.directories
        else:
            raise ConfigError(f"{place}: no such folder or file")
    module_set = ModuleSet(deviating=frozenset(deviate))
    schema = SchemaSet.load(None, folders, module_set=module_set)
    for name in deviate:
        schema.require(name)
        if not schema.modules[name].deviations:
            raise SchemaError(f"YANG module {name} deviates nothing; leave out --deviate {name}")
    return schema


def _is_own(schema: SchemaSet, name: str, folders: list[Path]) -> bool:
    """Whether a module comes from what was named, or nothing was named."""
    from domain_twin.resources import data_folder, standard_yang_folders

    shipped = (data_folder("yang"), *standard_yang_folders())
    source = Path(schema.modules[name].source)
    return not folders or not any(folder in source.parents for folder in shipped)


def _described(schema: SchemaSet, name: str) -> dict[str, Any]:
    info = schema.modules[name]
    tops = [node for node in schema.tops.values() if node.module == name]
    read = {path for path, _ in _feeds().items()}
    within = {path for path in read if f"/{name}:" in path}
    return {
        "name": name,
        "revision": info.revision,
        "source": info.source,
        "features": list(info.features),
        "deviations": list(info.deviations),
        "nodes": [node.name for node in tops],
        "mapped": sorted({"/" + path.split("/")[1] for path in within}),
        "leaves": sum(node.is_leaf for top in tops for node in top.walk()),
    }


def _node(schema: SchemaSet, path: str) -> SchemaNode:
    from domain_twin.errors import SchemaError

    node = schema.node(path)
    if node is None:
        raise SchemaError(f"{path}: no loaded module defines it; name the folder that has its module")
    return node


def _walk(node: SchemaNode, depth: int, level: int = 0) -> Iterator[tuple[int, SchemaNode]]:
    yield level, node
    if level + 1 < depth:
        for child in node.children.values():
            yield from _walk(child, depth, level + 1)


def _row(node: SchemaNode) -> dict[str, Any]:
    return {
        "path": node.path,
        "kind": node.kind.value,
        "config": node.config,
        "keys": node.keys,
        "type": node.type_name,
    }


def _feeds() -> dict[str, str]:
    """What the mapping makes of each path that it reads."""
    from domain_twin.mapping.tables import MIRRORED

    return {row.schema_path: f"{row.kind.value}: {row.attribute}" for table in MIRRORED for row in table}
