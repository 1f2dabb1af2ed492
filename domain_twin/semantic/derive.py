"""What follows from the graph by rules. Owns which rule runs when, in which order, and how long it may take.

A rule is one CONSTRUCT in a file of its own, `ontology/rules/NAME.rq` or in a folder of the operator's. Its
header says what it reads: `topo`, `kpi`, `records`, `config`, `state`, `counters`, or `inferred/RULE`. It
runs when one of these has changed, and what it derives is a graph of its own, made anew as a whole.
Rules of an operator's own pass the guard of queries: they cannot ask the outside.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pyoxigraph as ox

from domain_twin.errors import ConfigError, ContractError, OverCapacity, TwinError
from domain_twin.resources import data_folder
from domain_twin.semantic.names import (
    figures_graph,
    inferred_graph,
    points_graph,
    records_graph,
    topology_graph,
)
from domain_twin.semantic.store import SemanticStore

__all__ = ["MAX_S", "Rule", "derived", "due", "graphs_read", "in_graph", "load_rules", "shipped_rules"]

log = logging.getLogger(__name__)

READS = ("topo", "kpi", "records", "config", "state", "counters")
"""What a rule can read besides what other rules derive."""
_INFERRED = "inferred/"
_HEADER = re.compile(r"^#\s*(derives|reads):\s*(.*)$")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
MAX_TRIPLES = 500_000
MAX_S = 10.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it derives in words, what it reads, its CONSTRUCT."""

    name: str
    derives: str
    reads: tuple[str, ...]
    text: str
    own: bool = False
    """Whether it is the operator's, and not the product's."""

    @property
    def graph(self) -> str:
        """The graph of what it derives."""
        return inferred_graph(self.name)


def shipped_rules() -> list[Rule]:
    """The product's own rules, in an order in which each follows those that it reads."""
    return load_rules(None)


def load_rules(folder: Path | None) -> list[Rule]:
    """The product's rules and those in `folder`, in an order in which each follows those that it reads.

    Raises ConfigError with the file and what would be accepted.
    """
    rules = {path.stem: _read(path, own=False) for path in _files(data_folder("ontology") / "rules")}
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"[semantic] rules: there is no folder {folder}")
        for path in _files(folder):
            if path.stem in rules:
                raise ConfigError(f"{path}: a shipped rule has that name; give the file another one")
            rules[path.stem] = _read(path, own=True)
    return _ordered(rules)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rq"))


def _read(path: Path, *, own: bool) -> Rule:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the rule cannot be read ({error})") from error
    said = _header(text)
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: a rule's file is named in lower case, digits and hyphens")
    if "reads" not in said:
        raise ConfigError(
            f"{path}: its header does not say what it reads; write '# reads:' and some of"
            f" {', '.join(READS)}, {_INFERRED}RULE"
        )
    reads = tuple(word.strip() for word in said["reads"].split(",") if word.strip())
    for word in reads:
        if word not in READS and not word.startswith(_INFERRED):
            raise ConfigError(
                f"{path}: it reads {word!r}; accepted are {', '.join(READS)} and {_INFERRED}RULE"
            )
    rule = Rule(path.stem, said.get("derives", ""), reads, text, own)
    _check(path, rule)
    return rule


def _header(text: str) -> dict[str, str]:
    """What the comment at the top says; a line that goes on is indented."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if match := _HEADER.match(line):
            last = match[1]
            found[last] = match[2].strip()
        elif last and line.startswith("#   "):
            found[last] += " " + line[1:].strip()
    return found


def _check(path: Path, rule: Rule) -> None:
    """Raises ConfigError for what is not one CONSTRUCT that the guard lets pass."""
    if rule.own:
        from domain_twin.model.query import QueryForm
        from domain_twin.semantic.guard import guarded

        try:
            form = guarded(rule.text).form
        except TwinError as error:
            raise ConfigError(f"{path}: {error}") from error
        if form is not QueryForm.TRIPLES:
            raise ConfigError(f"{path}: a rule is one CONSTRUCT, and this is not")
        return
    try:
        answer = ox.Store().query(rule.text)
    except SyntaxError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(answer, ox.QueryTriples):
        raise ConfigError(f"{path}: a rule is one CONSTRUCT, and this is not")


def _ordered(rules: dict[str, Rule]) -> list[Rule]:
    needs = {
        rule.name: {word.removeprefix(_INFERRED) for word in rule.reads if word.startswith(_INFERRED)}
        for rule in rules.values()
    }
    for name, others in needs.items():
        for other in others - rules.keys():
            raise ConfigError(f"the rule {name} reads inferred/{other}, and there is no rule {other}")
    try:
        ordered = TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)}).static_order()
        return [rules[name] for name in ordered]
    except CycleError as error:
        ring = " -> ".join(error.args[1])
        raise ConfigError(f"rules read each other in a ring: {ring}; take one of these reads out") from error


def graphs_read(rule: Rule, domain: str, known: Iterable[str]) -> list[str]:
    """Names of the graphs that a rule reads in a domain's store, of those `known` to hold something."""
    return _graphs(rule.reads, domain, known)


def _graphs(reads: Sequence[str], domain: str, known: Iterable[str]) -> list[str]:
    fixed: dict[str, tuple[str, ...]] = {
        "topo": (topology_graph(domain), points_graph(domain)),
        "kpi": (figures_graph(domain),),
        "records": (records_graph(),),
    }
    ends = {"config": "/config", "state": "/state", "counters": "/kpi"}
    of_devices = topology_graph(domain).removesuffix("topo")
    wanted: set[str] = set()
    suffixes: list[str] = []
    for word in reads:
        if word.startswith(_INFERRED):
            wanted.add(inferred_graph(word.removeprefix(_INFERRED)))
        elif word in fixed:
            wanted.update(fixed[word])
        else:
            suffixes.append(ends[word])
    return [
        name
        for name in known
        if name in wanted or (name.startswith(of_devices) and name.endswith(tuple(suffixes)) and suffixes)
    ]


def due(rules: Iterable[Rule], domain: str, touched: Iterable[str]) -> list[Rule]:
    """The rules that read something of what was touched, not counting what rules derive."""
    names = list(touched)
    return [rule for rule in rules if _graphs(rule.reads, domain, names)]


def derived(rule: Rule, store: SemanticStore, domain: str) -> list[ox.Quad]:
    """What a rule derives now. Raises OverCapacity where that is too much, StoreUnwritable."""
    read = graphs_read(rule, domain, store.graphs())
    if not read:
        return []
    answer = store.query(rule.text, default=read, named=[])
    assert isinstance(answer, ox.QueryTriples)  # `_check` has seen to it
    try:
        return in_graph(rule, answer)
    finally:
        del answer


def in_graph(rule: Rule, triples: Iterable[ox.Triple]) -> list[ox.Quad]:
    """What a rule derives, each once, in its graph. Raises ContractError, OverCapacity for too much."""
    graph = ox.NamedNode(rule.graph)
    until = time.monotonic() + MAX_S
    found: dict[ox.Quad, None] = {}
    try:
        for number, triple in enumerate(triples, 1):
            if isinstance(triple.subject, ox.BlankNode) or isinstance(triple.object, ox.BlankNode):
                raise ContractError(f"the rule {rule.name} makes blank nodes; name what it makes with IRI(…)")
            found[ox.Quad(triple.subject, triple.predicate, triple.object, graph)] = None
            if len(found) > MAX_TRIPLES:
                raise OverCapacity(
                    f"the rule {rule.name} derives more than {MAX_TRIPLES:,} triples; narrow it"
                )
            if number % 256 == 0 and time.monotonic() > until:
                raise OverCapacity(f"the rule {rule.name} takes longer than {MAX_S:g} s; narrow it")
    finally:
        del triples  # the engine's may only go in this thread, and an error would carry it out
    return list(found)
