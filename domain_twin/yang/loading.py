"""pyang behind one file: parses what the catalogue offers, keeps what is sound, reports the rest.

Headers tell beforehand what cannot work: missing imports, circles, submodules without their module. What
does not parse is left out before anything is validated; what validation refuses, and what rests on it, after.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyang import context, error, repository, statements

from domain_twin.errors import SchemaError
from domain_twin.yang.catalogue import Catalogue, Need, Problem, Source
from domain_twin.yang.compile import Compiler
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import LoadReport, ModuleInfo, SchemaNode

log = logging.getLogger(__name__)

__all__ = ["load_modules"]

_CRITICAL = 1  # pyang's level of errors after which a module makes no sense
_NO_REVISION = "unknown"  # pyang's word
_WORD = re.compile(r"[\w.:-]+")
_REACHES_OUT = {"augment", "deviation", "identity"}
"""Statements by which a module that fails may have changed others already."""


@dataclass(slots=True)
class _Ledger:
    """What was found out so far. `failed` keeps the first error of each module."""

    failed: dict[str, SchemaError] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def fail(self, name: str, code: str, what: str, remedy: str, where: str = "") -> None:
        if name in self.failed:
            return
        self.failed[name] = SchemaError(f"YANG module {name}{where} {what}; {remedy}")
        self.problems.append(Problem(code, name, f"{what}{where}", remedy))


def load_modules(
    modules: Iterable[str] | None, catalogue: Catalogue, module_set: ModuleSet
) -> tuple[list[SchemaNode], LoadReport]:
    """Top-level nodes of all sound modules, and what became of each module. Blocks."""
    ledger = _Ledger(problems=list(catalogue.problems))
    wanted = catalogue.names() if modules is None else sorted(modules)
    chosen = _closure(wanted, catalogue, module_set, ledger)
    _refuse_circles(chosen, ledger)
    while True:
        _refuse_dependents(chosen, ledger)
        parsed = _parse(chosen, catalogue, module_set, ledger)
        if not parsed.spoilt:
            break
    _refuse_dependents(chosen, ledger)
    for name, problem in ledger.failed.items():
        log.warning("a YANG module was left out", extra={"yang_module": name, "reason": str(problem)})
    kept = {name: module for name, module in _latest(parsed.context).items() if name not in ledger.failed}
    compiler = Compiler(parsed.context)
    tops: list[SchemaNode] = []
    for name, module in list(kept.items()):
        try:
            tops += compiler.tops(module)
        except Exception as problem:  # a type that pyang let pass and nobody can build
            ledger.fail(name, "module.broken", f"cannot be used: {problem}", _MEND, _at(module.pos))
            del kept[name]
    report = LoadReport(_loaded(kept, parsed), ledger.failed, tuple(parsed.warnings), tuple(ledger.problems))
    return tops, report


# --- what headers tell ----------------------------------------------------------------------------


_MEND = "mend the module, or leave it out"


def _closure(
    wanted: Iterable[str], catalogue: Catalogue, module_set: ModuleSet, ledger: _Ledger
) -> dict[str, Source]:
    """The sources to parse by name: what is wanted, and what that needs."""
    chosen: dict[str, Source] = {}
    asked = frozenset(wanted)
    waiting = list(asked)
    told: set[tuple[str, str]] = set()
    while waiting:
        name = waiting.pop()
        if name in chosen or name in ledger.failed:
            continue
        stated = module_set.revisions.get(name, "")
        source = catalogue.chosen(name, stated) or catalogue.chosen(name)
        if source is None:
            ledger.fail(name, "module.missing", "is in none of the folders", _add(name))
            continue
        if stated and source.revision != stated and (name, stated) not in told:
            told.add((name, stated))
            ledger.problems.append(
                Problem(
                    "module.missing-revision",
                    name,
                    f"is said to be of revision {stated}; there is only {source.revision or 'one without'}",
                    f"add {name}@{stated}.yang to [yang] directories",
                )
            )
        chosen[name] = source
        for need in source.needs:
            if not catalogue.sources.get(need.name):
                code = "module.missing-submodule" if need.included else "module.missing-import"
                verb = "includes" if need.included else "imports"
                ledger.fail(
                    name,
                    code,
                    f"{verb} {need.name}, which is in none of the folders",
                    _add(need.name),
                    f" ({source.place}, line {need.line})",
                )
            else:
                waiting.append(need.name)
                if need.revision and catalogue.chosen(need.name, need.revision) is None:
                    ledger.problems.append(
                        Problem(
                            "module.missing-revision",
                            name,
                            f"asks for {need.name} of revision {need.revision}; "
                            f"{catalogue.sources[need.name][0].revision or 'another'} is taken"
                            f" ({source.place}, line {need.line})",
                            f"add {need.name}@{need.revision}.yang to [yang] directories",
                            serious=False,
                        )
                    )
        if source.submodule_of and name in asked:
            waiting.append(source.submodule_of)
    return chosen


def _add(name: str) -> str:
    return f"add the folder with {name}.yang to [yang] directories"


def _refuse_circles(chosen: Mapping[str, Source], ledger: _Ledger) -> None:
    """Fail modules that import each other in a circle (RFC 7950 5.1), naming the way round.

    Circles of includes alone are pyang's to judge: YANG 1.1 allows some.
    """
    done: set[str] = set()
    for start in chosen:
        way: list[tuple[str, list[Need]]] = []
        taken: list[bool] = []  # whether the step to the next was an import
        if start not in done:
            way.append((start, list(chosen[start].needs)))
        while way:
            name, needs = way[-1]
            if not needs:
                done.add(name)
                way.pop()
                if taken:
                    taken.pop()
                continue
            need = needs.pop()
            names = [step for step, _ in way]
            if need.name in names:
                circle = names[names.index(need.name) :]
                steps = [*taken[names.index(need.name) :], not need.included]
                for member in circle if any(steps) else ():
                    ledger.fail(
                        member,
                        "module.circle",
                        f"imports itself: {' -> '.join([*circle, circle[0]])}",
                        "take one of these imports away",
                        f" ({chosen[member].place})",
                    )
            elif need.name in chosen and need.name not in done:
                way.append((need.name, list(chosen[need.name].needs)))
                taken.append(not need.included)


def _refuse_dependents(chosen: Mapping[str, Source], ledger: _Ledger) -> None:
    """What imports or includes a failed module, directly or not, fails with it."""
    users: dict[str, list[tuple[str, Need]]] = {}
    for name, source in chosen.items():
        for need in source.needs:
            users.setdefault(need.name, []).append((name, need))
    waiting = list(ledger.failed)
    while waiting:
        name = waiting.pop()
        for user, need in users.get(name, ()):
            if user not in ledger.failed:
                ledger.fail(
                    user,
                    "module.needs-failed",
                    f"needs {name}, which failed",
                    f"see there: {_root_cause(ledger, name)}",
                    f" ({chosen[user].place}, line {need.line})",
                )
                waiting.append(user)


def _root_cause(ledger: _Ledger, name: str) -> str:
    text = str(ledger.failed[name])
    return text.rpartition("see there: ")[2]


# --- pyang ----------------------------------------------------------------------------------------


class _Repository(repository.Repository):  # type: ignore[misc]
    """Offers pyang the chosen texts, and other revisions of them that somebody imports by date."""

    def __init__(self, chosen: Mapping[str, Source], catalogue: Catalogue, without: Iterable[str]) -> None:
        super().__init__()
        self.catalogue = catalogue
        left_out = set(without)
        dated = {(need.name, need.revision) for source in chosen.values() for need in source.needs}
        self.offered: list[tuple[str, str, Source]] = []
        for name, source in chosen.items():
            if name in left_out:
                continue
            self.offered.append((name, source.revision or _NO_REVISION, source))
            self.offered += [
                (name, other.revision, other)
                for other in catalogue.sources[name]
                if other is not source and other.revision and (name, other.revision) in dated
            ]

    def get_modules_and_revisions(self, ctx: Any) -> list[tuple[str, str, tuple[str, Source]]]:
        return [(name, revision, ("source", source)) for name, revision, source in self.offered]

    def get_module_from_handle(self, handle: tuple[str, Source]) -> tuple[str, str, str]:
        source = handle[1]
        try:
            return source.place, "yang", self.catalogue.text(source)
        except (OSError, UnicodeDecodeError) as problem:
            raise self.ReadError(f"{source.place}: {problem}") from problem


class _Context(context.Context):  # type: ignore[misc]
    """pyang's, which never lets one text end the rest, and takes the chosen revision for the newest."""

    def __init__(self, chosen: Mapping[str, Source], offered: _Repository) -> None:
        super().__init__(offered)
        self.chosen = {name: source.revision or _NO_REVISION for name, source in chosen.items()}
        self.crashes: dict[str, str] = {}

    def _get_latest_rev(self, revs: Any) -> Any:
        for name in {handle[1].name for _, handle in revs if isinstance(handle, tuple)}:
            for revision, handle in revs:
                if revision == self.chosen.get(name):
                    return revision, handle
        return super()._get_latest_rev(revs)

    def add_module(self, ref: str, text: str, *args: Any, **options: Any) -> Any:
        try:
            return super().add_module(ref, text, *args, **options)
        except RecursionError:
            self.crashes[ref] = "nests its statements too deeply"
        except Exception as problem:  # pyang 2.7 on a text that ends in the middle of a statement
            self.crashes[ref] = f"breaks off, or is no YANG ({type(problem).__name__})"
        return None


@dataclass(slots=True)
class _Parsed:
    context: Any
    warnings: list[str]
    deviations: dict[str, tuple[str, ...]]
    spoilt: bool  # a module that failed may have changed others


def _parse(
    chosen: Mapping[str, Source], catalogue: Catalogue, module_set: ModuleSet, ledger: _Ledger
) -> _Parsed:
    """All of `chosen` that did not fail, validated."""
    ctx = _Context(chosen, _Repository(chosen, catalogue, ledger.failed))
    ctx.features = {name: list(features) for name, features in module_set.features.items() if name in chosen}
    names = {source.place: name for name, source in chosen.items()}
    for name, source in chosen.items():
        if name not in ledger.failed:
            ctx.search_module(error.Position(source.place), name, source.revision or _NO_REVISION)
    _settle(ctx, names, ledger, [])
    _refuse_dependents(chosen, ledger)
    for name, revision in [key for key in ctx.modules if key[0] in ledger.failed]:
        del ctx.modules[name, revision]
        ctx.revs[name] = []
    refused = set(ledger.failed)
    deviations = _set_aside(ctx, module_set)
    for module in [m for m in ctx.modules.values() if m is not None]:
        _import_what_there_is(ctx, module)
    for module in [m for m in ctx.modules.values() if m is not None]:
        try:
            statements.validate_module(ctx, module)
        except Exception as problem:  # pyang fails in many ways on what is not quite YANG
            ctx.crashes[module.pos.ref] = f"cannot be understood ({type(problem).__name__}: {problem})"
    warnings: list[str] = []
    _settle(ctx, names, ledger, warnings)
    spoilt = any(
        module is not None
        and module.arg in ledger.failed.keys() - refused
        and any(child.keyword in _REACHES_OUT for child in module.substmts)
        for module in ctx.modules.values()
    )
    return _Parsed(ctx, warnings, deviations, spoilt)


def _settle(ctx: Any, names: Mapping[str, str], ledger: _Ledger, warnings: list[str]) -> None:
    """Turn pyang's errors into failures of modules; what leaves a module usable into warnings."""
    for place, what in ctx.crashes.items():
        ledger.fail(names.get(place, place), "module.broken", what, _MEND, f" ({place})")
    ctx.crashes.clear()
    for position, tag, arguments in ctx.errors:
        level = error.err_level(tag)
        if error.is_warning(level):
            continue
        text = error.err_to_str(tag, arguments)
        name = names.get(position.ref)
        if level == _CRITICAL and name is not None:
            ledger.fail(name, "module.broken", text, _MEND, _at(position))
        else:
            warnings.append(f"{position}: {text}")
    ctx.errors.clear()


def _at(position: Any) -> str:
    return f" ({position.ref}, line {position.line})" if position.line else f" ({position.ref})"


def _set_aside(ctx: Any, module_set: ModuleSet) -> dict[str, tuple[str, ...]]:
    """Take deviations out of the modules that the module set does not name; what each module deviates."""
    found: dict[str, tuple[str, ...]] = {}
    for module in ctx.modules.values():
        if module is None:
            continue
        stated = [s for s in module.substmts if s.keyword == "deviation"]
        if not stated:
            continue
        found[module.arg] = tuple(
            f"{s.arg}: {', '.join(d.arg for d in s.substmts if d.keyword == 'deviate') or 'nothing'}"
            for s in stated
        )
        owner = module.search_one("belongs-to")
        if (owner.arg if owner is not None else module.arg) not in module_set.deviating:
            module.substmts = [s for s in module.substmts if s.keyword != "deviation"]
    return found


def _import_what_there_is(ctx: Any, module: Any) -> None:
    """Forget dates of imports that nobody has; the catalogue's closure has reported them."""
    for statement in (*module.search("import"), *module.search("include")):
        dated = statement.search_one("revision-date")
        if dated is not None and all(
            revision != dated.arg for revision, _ in ctx.revs.get(statement.arg, ())
        ):
            statement.substmts.remove(dated)


# --- what came out --------------------------------------------------------------------------------


def _latest(ctx: Any) -> dict[str, Any]:
    """The module of each name that counts: where two revisions were needed, the chosen one."""
    latest: dict[str, Any] = {}
    for (name, revision), module in ctx.modules.items():
        if module is None or module.keyword != "module":
            continue
        if name not in latest or revision == ctx.chosen.get(name):
            latest[name] = module
    return latest


def _loaded(modules: Mapping[str, Any], parsed: _Parsed) -> dict[str, ModuleInfo]:
    out: dict[str, ModuleInfo] = {}
    asked = {
        word for module in parsed.context.modules.values() if module is not None for word in _asked(module)
    }
    for name, module in modules.items():
        included = [parsed.context.get_module(s.arg) for s in module.search("include")]
        texts = [module, *(part for part in included if part is not None)]
        features = [feature.arg for text in texts for feature in text.search("feature")]
        out[name] = ModuleInfo(
            name=name,
            revision=_revision(module),
            namespace=module.search_one("namespace").arg,
            source=module.pos.ref,
            features=tuple(features),
            conditional=tuple(feature for feature in features if feature in asked),
            submodules=tuple((part.arg, _revision(part), part.pos.ref) for part in texts[1:]),
            deviations=tuple(d for text in texts for d in parsed.deviations.get(text.arg, ())),
            identities=tuple(
                (name, _bases(identity))
                for name, identity in getattr(module, "i_identities", {}).items()
                if not getattr(identity, "i_not_implemented", False)
            ),
        )
    return out


def _bases(identity: Any) -> tuple[str, ...]:
    """`module:name` of what an identity is derived from."""
    found = [getattr(base, "i_identity", None) for base in identity.search("base")]
    return tuple(f"{base.main_module().arg}:{base.arg}" for base in found if base is not None)


def _asked(statement: Any) -> Iterator[str]:
    """Names of features, without prefixes, that if-features at and below a statement ask for."""
    if statement.keyword == "if-feature":
        yield from (word.rpartition(":")[2] for word in _WORD.findall(statement.arg))
    for below in statement.substmts:
        yield from _asked(below)


def _revision(module: Any) -> str:
    return max((statement.arg for statement in module.search("revision")), default="")
