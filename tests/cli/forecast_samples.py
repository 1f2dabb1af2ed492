"""Reports as a twin would give them, made by hand."""

from __future__ import annotations

import math

from domain_twin.model import DomainOutcome, Finding, Outcome, Severity, StateKind, Version
from domain_twin.model.job import (
    ElementForecast,
    Figure,
    FlowFigures,
    FlowForecast,
    PathPart,
    Report,
    SweepRow,
)
from domain_twin.model.scenario import Scenario

AT = 1_800_000_000 * 10**9
LINK = "urn:ndt:transport:poznan:eth2:out"


def figure(value: float, spread: float = 0.03) -> Figure:
    return Figure(value, value * (1 - spread), value * (1 + spread))


def figures(delay_ms: float, *, loss: float = 1e-5, mbps: float = 12.5) -> FlowFigures:
    return FlowFigures(
        delay_ms=figure(delay_ms),
        delay_variance_ms2=figure(delay_ms / 20),
        p90_ms=figure(delay_ms * 1.3),
        p95_ms=figure(delay_ms * 1.5),
        p99_ms=figure(delay_ms * 2.1),
        loss=Figure(loss, 0.0, 2 * loss),
        throughput_mbps=figure(mbps),
    )


def link(source: str, target: str, delay_ms: float, domain: str = "transport") -> PathPart:
    return PathPart(
        domain,
        f"urn:ndt:{domain}:{source}-{target}",
        f"urn:ndt:{domain}:{source}",
        f"urn:ndt:{domain}:{target}",
        delay_ms,
    )


def segment(domain: str, delay_ms: float) -> PathPart:
    return PathPart(domain, "", f"{domain}/a", f"{domain}/b", delay_ms)


BORDER = PathPart("", "urn:ndt:idl:4k2m", "ran/b", "transport/a", 0.02)
REST = (segment("core", 0.6), segment("edge", 1.1))
BEFORE = (segment("ran", 2.2), BORDER, link("poznan", "wroclaw", 1.9), *REST)
AFTER = (segment("ran", 2.2), BORDER, link("poznan", "lodz", 2.1), link("lodz", "wroclaw", 2.8), *REST)


def flow(**changes: object) -> FlowForecast:
    made: dict[str, object] = {
        "source": "ran/cell-1",
        "target": "edge/host-1",
        "traffic_class": "best-effort",
        "before": figures(5.82),
        "after": figures(8.82, loss=0.002, mbps=12.4),
        "path_before": BEFORE,
        "path_after": AFTER,
        "service": "factory-control",
    }
    return FlowForecast(**(made | changes))  # type: ignore[arg-type]


def lost() -> FlowForecast:
    return flow(source="ran/cell-7", target="edge/host-3", after=None, path_after=(), service="")


def elements() -> tuple[ElementForecast, ...]:
    return (
        ElementForecast(LINK, "link", "transport", 0.41, 0.0),
        ElementForecast("urn:ndt:transport:poznan:eth1:out", "link", "transport", 0.32, 0.74),
        ElementForecast("urn:ndt:transport:lodz:eth3:out", "link", "transport", 0.55, 1.02, 0.0, 0.03),
        ElementForecast("urn:ndt:ran:gnb-1:cell-1", "cell", "ran", 0.5, 0.5),
        ElementForecast("urn:ndt:core:upf-1", "network-function", "core", math.nan, math.nan),
    )


def rows(number: int = 4) -> tuple[SweepRow, ...]:
    return tuple(
        SweepRow(
            name=f"urn:ndt:transport:r{i}-r{i + 1} fails",
            worst_delay_ms=5 + i,
            worst_flow="ran/cell-1 to edge/host-1",
            worst_loss=i * 1e-4,
            unreachable=1 if i == 2 else 0,
            missed=("factory-control",) if i >= 3 else (),
            highest_utilisation=0.5 + i / 10,
            busiest="urn:ndt:transport:lodz:eth3:out",
        )
        for i in range(number)
    )


def findings() -> tuple[Finding, ...]:
    return (
        Finding(
            "what-if.overload",
            Severity.ERROR,
            "transport",
            "urn:ndt:transport:lodz:eth3:out",
            "lodz eth3 would be offered 102 % of its capacity",
            "give it more capacity, or move traffic by a higher metric",
        ),
    )


def report(**changes: object) -> Report:
    scenario = Scenario.model_validate(
        {
            "name": "Cut poznan - wroclaw",
            "description": "A digger on the way.",
            "seed": 17,
            "changes": [
                {"kind": "element-down", "element": LINK},
                {"kind": "demand", "factor": 1.2, "traffic_class": "best-effort"},
            ],
        }
    )
    made: dict[str, object] = {
        "job": "job-4f1c",
        "scenario": scenario,
        "kind": StateKind.CANDIDATE,
        "versions": {"ran": Version("a1", 7), "transport": Version("b2", 42)},
        "rung": "tables",
        "flows": (flow(), lost()),
        "elements": elements(),
        "findings": findings(),
        "domains": (DomainOutcome("ran", Outcome.OK), DomainOutcome("transport", Outcome.OK)),
        "assumptions": ("Queue lengths of transport were not configured: 1,000 packets each were taken.",),
        "digest": "9f" * 32,
        "answered_at": AT,
    }
    return Report(**(made | changes))  # type: ignore[arg-type]


def partial() -> Report:
    """Without core: the flow that crosses it has no figures from end to end."""
    silent = segment("core", math.nan)
    nothing = figures(math.nan, loss=math.nan, mbps=math.nan)
    crossing = flow(
        source="ran/cell-2",
        before=nothing,
        after=nothing,
        path_before=(*BEFORE[:3], silent, BEFORE[-1]),
        path_after=(*AFTER[:4], silent, AFTER[-1]),
    )
    return report(
        flows=(flow(), lost(), crossing),
        domains=(
            DomainOutcome("ran", Outcome.OK),
            DomainOutcome("core", Outcome.UNREACHABLE, reason="not connected for 12 s"),
        ),
    )
