"""What shapes and rules find wrong in a domain's graph, as findings. Owns their words; looks at no view.

Shapes are asked when somebody asks; what rules found is in their graphs already.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence

import pyoxigraph as ox

from domain_twin.errors import NotFound, OverCapacity
from domain_twin.model import Finding, Severity
from domain_twin.model.query import QueryForm
from domain_twin.semantic.guard import Guarded
from domain_twin.semantic.names import NDT, inferred_graph, plain_name
from domain_twin.semantic.shapes import Check, Result, check
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import OPERATOR, QueryPool

__all__ = ["asked_findings", "chosen", "rule_findings", "shape_findings", "shape_name"]

MOST = 1000
"""Findings of one shape; more are counted in one."""


def shape_name(iri: str) -> str:
    """`Link-metric` for the IRI of that shape."""
    return iri.rstrip("/#").replace("#", "/").rpartition("/")[2] or iri


def chosen(checks: Sequence[Check], name: str) -> list[Check]:
    """The checks of one shape, or of a node shape with all its property shapes; empty: all.

    Raises NotFound with what is near.
    """
    wanted = name.removeprefix("shape.")
    found = [
        item
        for item in checks
        if not wanted
        or item.shape == wanted
        or shape_name(item.shape) == wanted
        or shape_name(item.shape).startswith(f"{wanted}-")
    ]
    if found:
        return found
    known = sorted({shape_name(item.shape) for item in checks})
    near = difflib.get_close_matches(wanted, known, 3, 0.4) or known[:3]
    raise NotFound(f"there is no shape {wanted!r}; did you mean {' or '.join(near)}?")


def shape_findings(
    store: SemanticStore, checks: Iterable[Check], domain: str, graphs: Sequence[str]
) -> list[Finding]:
    """What the shapes find in the union of these graphs. Raises StoreUnwritable."""
    return _findings(check(store, checks, graphs), domain)


async def asked_findings(
    pool: QueryPool, checks: Iterable[Check], domain: str, inferred: Sequence[str] = ()
) -> list[Finding]:
    """What the shapes find in the operator's dataset, and rules have found in the graphs `inferred`.

    One question after the other, in processes: whoever gives up ends them, and another question has room
    beside them. Raises OverCapacity where one takes too long, Unreachable.
    """
    results = []
    for item in checks:
        for row in await _asked(pool, item.query, ("focus", "v"), shape_name(item.shape)):
            results.append(Result(item, row.get("focus", ""), row.get("v", "")))
    found = _findings(results, domain)
    if inferred:
        said = await _asked(pool, _FOUND, _SAID, "what rules found", inferred)
        found += (_told(row, domain) for row in said)
    return found


async def _asked(
    pool: QueryPool, text: str, variables: tuple[str, ...], what: str, graphs: Sequence[str] = ()
) -> list[dict[str, str]]:
    # Made here of shapes that were read strictly: the guard's opinion costs more than the answer.
    question = Guarded(text, QueryForm.BINDINGS, variables, None, 0)
    answer = await pool.query(OPERATOR, question, graphs=graphs)
    if "time" in answer.stopped_by:
        raise OverCapacity(
            f"{what}: {answer.stopped_by} stopped the check; check when less is going on, or raise"
            " semantic.timeout_s in agent.toml"
        )
    rows = json.loads(answer.results)["results"]["bindings"] if answer.rows else []
    return [{name: term["value"] for name, term in row.items()} for row in rows]


def _findings(violations: Iterable[Result], domain: str) -> list[Finding]:
    by_shape: dict[str, list[Result]] = {}
    for result in violations:
        by_shape.setdefault(result.check.shape, []).append(result)
    found: list[Finding] = []
    for iri, results in by_shape.items():
        told: dict[str, Finding] = {}
        for result in results:
            if result.focus not in told and len(told) < MOST:
                told[result.focus] = _finding(result, domain)
        found += told.values()
        rest = len({result.focus for result in results}) - len(told)
        if rest > 0:
            item = results[0].check
            found.append(
                Finding(
                    f"shape.{shape_name(iri)}",
                    item.severity,
                    domain,
                    f"{rest} more",
                    f"{rest} more elements: {item.message}",
                    item.remedy,
                )
            )
    return found


def _finding(result: Result, domain: str) -> Finding:
    item = result.check
    element = _called(result.focus)
    value = f" (found {_called(result.value)})" if result.value and result.value != result.focus else ""
    return Finding(
        f"shape.{shape_name(item.shape)}",
        item.severity,
        domain,
        element,
        f"{element}: {item.message}{value}",
        item.remedy,
    )


def _called(term: str) -> str:
    return (plain_name(term) if ":" in term else "") or term[:200]


_FOUND = f"""PREFIX ndt: <{NDT}>
SELECT ?code ?severity ?concerns ?message ?remedy WHERE {{
  ?finding a ndt:Finding ; ndt:code ?code ; ndt:message ?message .
  OPTIONAL {{ ?finding ndt:severity ?severity }}
  OPTIONAL {{ ?finding ndt:concerns ?concerns }}
  OPTIONAL {{ ?finding ndt:remedy ?remedy }}
}} ORDER BY ?code ?concerns ?message"""
_SAID = ("code", "severity", "concerns", "message", "remedy")


def rule_findings(store: SemanticStore, domain: str, graphs: Iterable[str]) -> list[Finding]:
    """What rules have found. Raises StoreUnwritable."""
    inferred = [name for name in graphs if name.startswith(inferred_graph(""))]
    if not inferred:
        return []
    rows = store.query(_FOUND, default=inferred, named=[])
    assert isinstance(rows, ox.QuerySolutions)
    found = []
    for row in rows:
        said = {name: t.value for name in _SAID if isinstance(t := row[name], (ox.NamedNode, ox.Literal))}
        found.append(_told(said, domain))
    return found


def _told(said: Mapping[str, str], domain: str) -> Finding:
    severity = said.get("severity", "")
    return Finding(
        said.get("code", ""),
        Severity(severity) if severity in set(Severity) else Severity.WARNING,
        domain,
        _called(said.get("concerns", "")),
        said.get("message", ""),
        said.get("remedy", ""),
    )
