"""What may be wrong with a query whose grammar is right: terms nobody knows, variables that nothing binds.

SPARQL answers such a query without a word, with nothing. Owns what is told about it; refuses nothing.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence

from domain_twin.semantic.names import NDT
from federation.cli.sparql_text import tokens_of

__all__ = ["hints", "in_order", "known_terms"]

_TERM = re.compile(r"ndt:([A-Za-z]\w*)\Z")
_OTHER = re.compile(rf"\bPREFIX\s+ndt:\s*<(?!{re.escape(NDT)}>)", re.IGNORECASE)
_ALL = re.compile(r"\bSELECT\s+(?:DISTINCT\s+|REDUCED\s+)?\*", re.IGNORECASE)


def hints(query: str, *, rows: int, asked: int, results: bytes = b"", said: Sequence[str] = ()) -> list[str]:
    """Sentences about a query that was answered with `rows` rows by `asked` domains.

    `results` is the answer to a SELECT, as SPARQL Results JSON; `said` is what the twin noted itself.
    """
    unknown = [sentence for sentence in _unknown_terms(query) if not _told(sentence, said)]
    found = [*unknown, *_unbound(query, results)]
    if not rows and not asked:
        found.append(
            "no domain was asked: none shows what this needs. A domain's nodes, links, cells and devices are"
            " its own operator's to see: ask its agent with --at"
        )
    return found


def known_terms() -> frozenset[str]:
    """Names of the ontology's terms, without their prefix."""
    from domain_twin.semantic import terms

    values = (value for value in vars(terms).values() if isinstance(value, str))
    return frozenset(value.removeprefix(NDT) for value in values if value.startswith(NDT))


def in_order(query: str, names: Sequence[str]) -> list[str]:
    """Names of columns: of `SELECT *` in the order in which the query has them first, else as they are."""
    if not _ALL.search(query):
        return list(names)
    said = [word[1:] for word in tokens_of(query) if word[0] in "?$"]
    return sorted(names, key=lambda name: said.index(name) if name in said else len(said))


def _told(sentence: str, said: Sequence[str]) -> bool:
    name = sentence.partition(" ")[0]
    return any(note.startswith(f"{name}:") for note in said)


def _unknown_terms(query: str) -> Iterator[str]:
    names = dict.fromkeys(match[1] for word in tokens_of(query) if (match := _TERM.match(word)))
    if not names or _OTHER.search(query):
        return
    known = known_terms()
    lower = {name.lower(): name for name in sorted(known)}
    for name in names:
        if name in known:
            continue
        near = [lower[each] for each in difflib.get_close_matches(name.lower(), list(lower), 2, 0.6)]
        meant = f"; did you mean {' or '.join(f'ndt:{each}' for each in near)}?" if near else ""
        yield f"ndt:{name} is no term of the ontology{meant}"


def _unbound(query: str, results: bytes) -> Iterator[str]:
    """Variables that a SELECT asks for, and that stand nowhere else in the query."""
    if not results or _ALL.search(query):
        return
    words = [word[1:] for word in tokens_of(query) if word[0] in "?$"]
    for name in json.loads(results)["head"]["vars"]:
        made = re.search(rf"\bAS\s+[?$]{re.escape(name)}\b", query, re.IGNORECASE)
        if words.count(name) == 1 and not made:
            yield f"?{name} is asked for, and stands nowhere in the pattern"
