"""Read a query that is asked across domains. Owns what SERVICE and GRAPH name there: domains, by their IRIs.

SERVICE is never dereferenced. A domain's IRI in it means the graph of what that domain shows, so the text is
read with GRAPH in its place, letter for letter, and errors keep their places.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from domain_twin.errors import ContractError
from domain_twin.semantic.guard import Guarded, guarded
from domain_twin.semantic.names import domain_node
from domain_twin.semantic.tokens import Token, place, tokens
from federation.query.needs import Scope, needs_of
from federation.query.wording import Wording, prefixes_of

__all__ = ["Reading", "read"]


@dataclass(frozen=True, slots=True)
class _Service:
    """SERVICE SILENT: where its pattern stands in the text, and whom it names (empty: a variable)."""

    name: str
    start: int
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A query and what it needs."""

    guarded: Guarded
    needs: Scope
    graphs: bool
    """Whether it names graphs: each domain's triples are then needed in a graph of their own."""
    named: frozenset[str]
    """The domains that SERVICE and GRAPH name."""
    wording: Wording
    """How its terms are shown to whoever asks it."""
    _text: str
    _silent: tuple[_Service, ...]

    def without(self, missing: Collection[str]) -> Guarded:
        """The query to evaluate where these domains did not answer: SERVICE SILENT then asks for nothing."""
        text = _blanked(self._text, self._silent, {domain_node(domain) for domain in missing})
        return self.guarded if text == self._text else guarded(text, named_graphs=True)


def read(text: str, domains: Collection[str]) -> Reading:
    """Read a query over these domains. Blocks for milliseconds. Raises ContractError, OverCapacity."""
    nodes = {domain_node(domain): domain for domain in domains}
    words = tokens(text)
    written, silent = text, []
    for index, word in enumerate(words):
        if _is(word, "SERVICE"):
            written = _put(written, word, "GRAPH  ")
            quiet = index + 1 < len(words) and _is(words[index + 1], "SILENT")
            if quiet:
                written = _put(written, words[index + 1], "      ")
            name = words[index + 1 + quiet] if index + 1 + quiet < len(words) else word
            if name.kind == "IRI" and name.text[1:-1] not in nodes and not quiet:
                known = ", ".join(f"<{node}>" for node in sorted(nodes)[:8])
                raise ContractError(
                    f"query, {place(text, name.start)}: SERVICE {name.text[:200]} is refused: it is no domain"
                    f" of this federation; there are {known or 'none'}"
                )
            if quiet and name.kind == "IRI" and (service := _service(words, index + 2, name, word)):
                silent.append(service)
    # Nothing is asked of strangers, and nothing fails.
    written = _blanked(written, silent, {service.name for service in silent} - nodes.keys())
    query = guarded(written, named_graphs=True)
    named = frozenset(
        nodes[word.text[1:-1]]
        for before, word in pairwise(words)
        if word.kind == "IRI" and word.text[1:-1] in nodes and before.text.upper() in _BEFORE
    )
    needs = needs_of(query.algebra)
    wording = Wording(prefixes_of(text[: words[0].start]), needs.stand_ins)
    return Reading(query, needs, query.named_graphs, named, wording, written, tuple(silent))


_BEFORE = frozenset({"SERVICE", "SILENT", "GRAPH"})


def _blanked(text: str, services: Iterable[_Service], nodes: Collection[str]) -> str:
    """The text with nothing inside the patterns of those services that name one of `nodes`."""
    for service in services:
        if service.name in nodes:
            lead, inner = text[service.start : service.opens], text[service.opens + 1 : service.closes]
            blank = [re.sub(r"[^\n]", " ", part) for part in (lead, inner)]
            text = f"{text[: service.start]}{blank[0]}{{{blank[1]}{text[service.closes :]}"
    return text


def _is(word: Token, name: str) -> bool:
    return word.kind == "WORD" and word.text.upper() == name


def _put(text: str, word: Token, instead: str) -> str:
    """`instead` in place of a word, of the same length."""
    end = word.start + len(word.text)
    return f"{text[: word.start]}{instead[: len(word.text)]}{text[end:]}"


def _service(words: Sequence[Token], name_at: int, name: Token, service: Token) -> _Service | None:
    """Where the pattern of a SERVICE SILENT begins and ends; None where its braces do not match."""
    depth, opens = 0, -1
    for word in words[name_at + 1 :]:
        if word.kind == "{":
            depth += 1
            if opens < 0:
                opens = word.start
        elif word.kind == "}":
            depth -= 1
            if depth == 0:
                return _Service(name.text[1:-1], service.start, opens, word.start)
        elif opens < 0:
            return None
    return None
