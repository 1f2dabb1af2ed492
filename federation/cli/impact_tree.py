"""Chains of dependency as one tree, from the element outwards. Owns how chains meet; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from federation.cli.bindings import short

if TYPE_CHECKING:
    from domain_twin.model.query import Affected, Dependency, Impact

__all__ = ["CONCERNS", "Branch", "joined", "key", "outcome", "reach", "tree"]

CONCERNS = ("carriedBy", "forCustomer")
"""From a service or slice to whom it concerns."""


@dataclass(slots=True)
class Branch:
    """One thing in the tree: what it is, how it hangs on the one before, and what hangs on it."""

    id: str
    relation: str = ""
    forwards: bool = False
    """Whether it is the object of the relation, as a customer is; else it is what depends."""
    said_by: str = ""
    affected: Affected | None = None
    branches: list[Branch] = field(default_factory=list)

    def count(self) -> int:
        """How many things hang on this one, near and far."""
        return sum(1 + branch.count() for branch in self.branches)


def tree(impact: Impact) -> Branch:
    """All chains in one tree, each thing once, below what its shortest chain has it on.

    What is concerned by several services stands below each of them.
    """
    root = Branch(impact.element)
    places: dict[str, Branch] = {key(impact.element): root}
    for affected in sorted(impact.affected, key=reach):
        length = reach(affected)
        at = root
        for step in affected.evidence[:length]:
            at = _grown(places, at, step)
        if at is root or key(at.id) != key(affected.id):  # no chain, or one that ends elsewhere
            at = places.setdefault(key(affected.id), Branch(affected.id))
            if at is not root and at not in root.branches and not affected.evidence:
                root.branches.append(at)
        at.affected = affected
        for step in affected.evidence[length:]:
            place = places.get(key(step.subject))
            if place and step.relation in CONCERNS:
                place.branches.append(Branch(affected.id, step.relation, True, step.domain, affected))
    _shorten(root)
    return root


def reach(affected: Affected) -> int:
    """How many steps its chain has; what follows in its evidence are other ways in which it is concerned."""
    own = key(affected.id)
    for number, step in enumerate(affected.evidence, start=1):
        if own in (key(step.subject), key(step.object)):
            return number
    return len(affected.evidence)


def _shorten(branch: Branch) -> None:
    """Leave out paths, which stand between each service and what its traffic crosses."""
    shown: list[Branch] = []
    for each in branch.branches:
        _shorten(each)
        passed = each.affected is not None and each.affected.kind == "path"
        shown += each.branches if passed else [each]
    for each in shown:
        each.relation = "" if each.relation == "follows" else each.relation
    branch.branches = shown


def _grown(places: dict[str, Branch], at: Branch, step: Dependency) -> Branch:
    """The next thing on a chain, put below `at` where it has no place yet."""
    subject, other = key(step.subject), key(step.object)
    forwards = subject == key(at.id) or (subject in places and other not in places)
    target, origin = (step.object, step.subject) if forwards else (step.subject, step.object)
    if key(target) in places:
        return places[key(target)]
    parent = places.get(key(origin), at)
    branch = Branch(target, step.relation, forwards, step.domain)
    parent.branches.append(branch)
    places[key(target)] = branch
    return branch


def key(name: str) -> str:
    """One spelling for an IRI and the name that people use for the same thing."""
    return short(name) if name.startswith(("http://", "https://")) else name


def outcome(impact: Impact, kind: str) -> list[Affected]:
    """What of one kind is affected, nearest first."""
    return [each for each in impact.affected if each.kind == kind]


def joined(inner: Impact, outer: Impact) -> Impact:
    """What an agent found inside, and what the broker found beyond that, as one.

    A chain of the broker that begins at something the agent found goes on from the agent's chain.
    """
    chains = {key(each.id): each.evidence for each in inner.affected}
    known = {key(each.id) for each in inner.affected}
    beyond = []
    for each in outer.affected:
        if key(each.id) in known or key(each.id) == key(inner.element):
            continue
        first = each.evidence[0] if each.evidence else None
        ends = (key(first.object), key(first.subject)) if first else ()
        start: tuple[Dependency, ...] = next((chains[end] for end in ends if end in chains), ())
        beyond.append(replace(each, evidence=(*start, *each.evidence)))
    parts = {part.domain: part for part in (*inner.parts, *outer.parts)}
    ordered = sorted((*inner.affected, *beyond), key=reach)
    return replace(inner, affected=tuple(ordered), parts=tuple(parts.values()))
