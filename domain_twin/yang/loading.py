"""pyang behind one file: finds module texts, parses, keeps what is sound, reports the rest."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import Any

from pyang import context, error, repository, statements

from domain_twin.errors import SchemaError
from domain_twin.yang.schema import LoadReport, ModuleInfo, NodeKind, SchemaNode

log = logging.getLogger(__name__)

__all__ = ["load_modules"]

_FILE_NAME = re.compile(r"([A-Za-z_][\w.-]*?)(?:@(\d{4}-\d{2}-\d{2}))?\.yang")
_KINDS = {
    "container": NodeKind.CONTAINER,
    "list": NodeKind.LIST,
    "leaf": NodeKind.LEAF,
    "leaf-list": NodeKind.LEAF_LIST,
    "anydata": NodeKind.ANYDATA,
    "anyxml": NodeKind.ANYDATA,
}
_CRITICAL = 1  # pyang's level of errors after which a module makes no sense
DEVICE = "device"


class _Sources(repository.Repository):  # type: ignore[misc]
    """Module texts by name, then folders in order; a name is served by the first source that has it."""

    def __init__(self, folders: Sequence[Path], texts: Mapping[str, str]) -> None:
        super().__init__()
        self.texts = texts
        self.found: list[tuple[str, str | None, tuple[str, str]]] = []
        self.paths: dict[str, list[Path]] = {}
        for name in texts:
            self.found.append((name, None, ("text", name)))
        for folder in folders:
            here: dict[str, list[tuple[str | None, Path]]] = {}
            for path in sorted(folder.rglob("*.yang")):
                if match := _FILE_NAME.fullmatch(path.name):
                    here.setdefault(match[1], []).append((match[2], path))
            for name, candidates in here.items():
                if name not in texts and name not in self.paths:
                    self.paths[name] = [path for _, path in candidates]
                    self.found += [(name, revision, ("file", str(path))) for revision, path in candidates]

    @property
    def names(self) -> list[str]:
        return sorted({name for name, _, _ in self.found})

    def get_modules_and_revisions(self, ctx: Any) -> list[tuple[str, str | None, tuple[str, str]]]:
        return self.found

    def get_module_from_handle(self, handle: tuple[str, str]) -> tuple[str, str, str]:
        kind, name = handle
        if kind == "text":
            return f"{DEVICE}:{name}", "yang", self.texts[name]
        try:
            return name, "yang", Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise self.ReadError(f"{name}: {problem}") from problem


def load_modules(
    modules: Iterable[str] | None, folders: Sequence[Path], texts: Mapping[str, str]
) -> tuple[list[SchemaNode], LoadReport]:
    """Top-level nodes of all sound modules, and what became of each module. Blocks."""
    sources = _Sources(folders, texts)
    wanted = sources.names if modules is None else sorted({*modules, *texts})
    failed: dict[str, SchemaError] = {}
    while True:
        ctx, failures, warnings = _parse([name for name in wanted if name not in failed], sources)
        new = {name: problem for name, problem in failures.items() if name not in failed}
        failed |= new
        if not new:
            break
    for name, problem in failed.items():
        log.warning("a YANG module was left out", extra={"yang_module": name, "reason": str(problem)})
    return _build(ctx), LoadReport(_loaded(ctx), failed, tuple(warnings))


def _parse(names: Sequence[str], sources: _Sources) -> tuple[Any, dict[str, SchemaError], list[str]]:
    ctx = context.Context(sources)
    crashes: dict[str, SchemaError] = {}
    for name in names:
        position = error.Position(name)
        ctx.search_module(position, name)
    for module in [m for m in ctx.modules.values() if m is not None]:
        try:
            statements.validate_module(ctx, module)
        except Exception as problem:  # pyang fails in many ways on what is not quite YANG
            crashes[module.arg] = SchemaError(f"YANG module {module.arg} ({module.pos}): {problem!r}")
    failures, warnings = _sort_errors(ctx)
    failures = crashes | failures
    return ctx, failures | _dependents(ctx, failures), warnings


def _sort_errors(ctx: Any) -> tuple[dict[str, SchemaError], list[str]]:
    failures: dict[str, SchemaError] = {}
    warnings: list[str] = []
    by_file = {m.pos.ref: m.arg for m in ctx.modules.values() if m is not None}
    for position, tag, arguments in ctx.errors:
        level = error.err_level(tag)
        if error.is_warning(level):
            continue
        text = error.err_to_str(tag, arguments)
        if level != _CRITICAL:
            warnings.append(f"{position}: {text}")
            continue
        name = by_file.get(position.ref) or _name_of(position.ref)
        if name in failures:
            continue
        if tag in {"MODULE_NOT_FOUND", "MODULE_NOT_FOUND_REV"}:
            missing = arguments[0] if isinstance(arguments, tuple) else arguments
            what = "is in none of the folders" if missing == name else f"imports {missing}: {text}"
            remedy = f"; add the folder with {missing}.yang to [yang] directories"
        else:
            what, remedy = text, "; mend the module, or leave it out"
        where = f" ({position.ref}, line {position.line})" if position.line else ""
        failures[name] = SchemaError(f"YANG module {name}{where} {what}{remedy}")
    return failures, warnings


def _name_of(reference: str) -> str:
    if reference.startswith(f"{DEVICE}:"):
        return reference[len(DEVICE) + 1 :]
    match = _FILE_NAME.fullmatch(Path(reference).name)
    return match[1] if match else reference


def _dependents(ctx: Any, failures: Mapping[str, SchemaError]) -> dict[str, SchemaError]:
    """What imports or includes a failed module, directly or not, fails with it."""
    out: dict[str, SchemaError] = {}
    changed = bool(failures)
    while changed:
        changed = False
        for module in ctx.modules.values():
            if module is None or module.arg in failures or module.arg in out:
                continue
            for statement in (*module.search("import"), *module.search("include")):
                if cause := failures.get(statement.arg) or out.get(statement.arg):
                    out[module.arg] = SchemaError(
                        f"YANG module {module.arg} ({statement.pos.ref}, line {statement.pos.line}) needs"
                        f" {statement.arg}, which failed: {cause}"
                    )
                    changed = True
                    break
    return out


def _latest(ctx: Any) -> dict[str, Any]:
    latest: dict[str, tuple[str, Any]] = {}
    for (name, revision), module in ctx.modules.items():
        if module is None or module.keyword != "module":
            continue
        if name not in latest or (revision or "") > latest[name][0]:
            latest[name] = (revision or "", module)
    return {name: module for name, (_, module) in latest.items()}


def _loaded(ctx: Any) -> dict[str, ModuleInfo]:
    out: dict[str, ModuleInfo] = {}
    for name, module in _latest(ctx).items():
        included = [ctx.get_module(s.arg) for s in module.search("include")]
        texts = [module, *(part for part in included if part is not None)]
        out[name] = ModuleInfo(
            name=name,
            revision=_revision(module),
            namespace=module.search_one("namespace").arg,
            source=module.pos.ref,
            features=tuple(feature.arg for text in texts for feature in text.search("feature")),
            submodules=tuple((part.arg, _revision(part), part.pos.ref) for part in texts[1:]),
        )
    return out


def _revision(module: Any) -> str:
    return max((statement.arg for statement in module.search("revision")), default="")


def _build(ctx: Any) -> list[SchemaNode]:
    tops: list[SchemaNode] = []
    for module in _latest(ctx).values():
        for statement in _data_children(module):
            tops.append(_node(statement, None))
    return tops


def _data_children(statement: Any) -> list[Any]:
    """Data nodes below a statement; choices and cases are not part of the data tree (RFC 7950 7.9)."""
    out: list[Any] = []
    for child in getattr(statement, "i_children", ()):
        if child.keyword in {"choice", "case"}:
            out += _data_children(child)
        elif child.keyword in _KINDS:
            out.append(child)
    return out


def _node(statement: Any, above: SchemaNode | None) -> SchemaNode:
    module = intern(statement.main_module().arg)
    key = statement.search_one("key") if statement.keyword == "list" else None
    node = SchemaNode(
        kind=_KINDS[statement.keyword],
        name=intern(statement.arg),
        module=module,
        path="",
        keys=tuple(intern(name.rpartition(":")[2]) for name in key.arg.split()) if key else (),
        config=getattr(statement, "i_config", True) is not False,
        presence=statement.keyword == "container" and statement.search_one("presence") is not None,
        statement=statement,
    )
    node.path = intern(f"{above.path if above else ''}/{node.step(above)}")
    for child in _data_children(statement):
        below = _node(child, node)
        node.children[below.step(node)] = below
        node.by_name.setdefault(below.name, []).append(below)
    return node
