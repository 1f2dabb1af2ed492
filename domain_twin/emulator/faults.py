"""The faults that can be injected: typed records, from JSON and back. What they do is `plant`'s.

A link is named by its two devices (`poznan-wroclaw` or `poznan:wroclaw`), or by a termination point or
link-id; a cell by `gnb-1.cell-1` or its cell-id; a device by its name or node-id.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, get_type_hints

from domain_twin.errors import ConfigError

__all__ = [
    "FAULTS", "Attack", "DeviceReboot", "Fault", "HostOverload", "LinkCut", "LinkDegradation", "LinkLoss",
    "ManagementLoss", "RadioFade", "describe_kinds", "fault_from_json", "fault_to_json",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCut:
    """Both ends lose the light: oper-status down, admin-status unchanged."""

    kind: ClassVar[str] = "link-cut"
    link: str
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLoss:
    """A share of the packets arrives broken, in both directions."""

    kind: ClassVar[str] = "link-loss"
    link: str
    ratio: float = 0.05
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDegradation:
    """The link carries less than its nominal rate, or takes longer; the reported speed stays nominal."""

    kind: ClassVar[str] = "link-degradation"
    link: str
    rate_factor: float = 0.5
    extra_ms: float = 0.0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioFade:
    """The mean MCS index of a cell falls."""

    kind: ClassVar[str] = "radio-fade"
    cell: str
    mcs_drop: float = 6.0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOverload:
    """Something else on a host or network function takes workers away and slows the others down."""

    kind: ClassVar[str] = "host-overload"
    device: str
    workers_taken: int = 1
    service_factor: float = 1.0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A flood in bursts from a device (say, a gNB's users) to a host; `mbps` is nominal, while on."""

    kind: ClassVar[str] = "attack"
    source: str
    target: str
    mbps: float = 1000.0
    on_s: float = 0.5
    off_s: float = 0.5
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReboot:
    """A device restarts: servers closed, links dark, counters back to zero."""

    kind: ClassVar[str] = "device-reboot"
    device: str
    duration_s: float | None = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementLoss:
    """A device's management servers go away while its packets go on."""

    kind: ClassVar[str] = "management-loss"
    device: str
    duration_s: float | None = None


Fault = (
    LinkCut | LinkLoss | LinkDegradation | RadioFade | HostOverload | Attack | DeviceReboot | ManagementLoss
)
FAULTS: dict[str, Any] = {
    kind.kind: kind
    for kind in (
        LinkCut, LinkLoss, LinkDegradation, RadioFade, HostOverload, Attack, DeviceReboot, ManagementLoss,
    )
}  # fmt: skip
# Least value of a number, and largest where there is one.
_LIMITS: dict[str, tuple[float, float]] = {
    "ratio": (0.0, 1.0), "rate_factor": (1e-3, 1.0), "extra_ms": (0.0, 10_000.0), "mcs_drop": (0.0, 28.0),
    "workers_taken": (0, 1024), "service_factor": (1e-3, 1e3), "mbps": (1e-3, 1e6), "on_s": (1e-3, 1e6),
    "off_s": (1e-3, 1e6), "duration_s": (1e-3, 1e9),
}  # fmt: skip


def describe_kinds() -> list[dict[str, Any]]:
    """Every kind of fault with its fields: name, default (absent: required) and what it does."""
    result = []
    for kind, record in FAULTS.items():
        members = [
            {"name": f.name} if f.default is MISSING else {"name": f.name, "default": f.default}
            for f in fields(record)
        ]
        result.append({"kind": kind, "description": record.__doc__, "fields": members})
    return result


def fault_to_json(fault: Fault) -> dict[str, Any]:
    """The fault as `fault_from_json` reads it."""
    return {"kind": fault.kind, **asdict(fault)}


def fault_from_json(raw: Any) -> Fault:
    """Check and build a fault. Raises ConfigError naming the field and what is accepted."""
    if not isinstance(raw, dict) or raw.get("kind") not in FAULTS:
        given = raw.get("kind") if isinstance(raw, dict) else raw
        raise ConfigError(f"fault: no kind {given!r}; there are {', '.join(FAULTS)}")
    record = FAULTS[raw["kind"]]
    known = {f.name: f for f in fields(record)}
    values = {name: value for name, value in raw.items() if name != "kind"}
    for name in values:
        if name not in known:
            raise ConfigError(f"fault {record.kind}: unknown field {name}; accepted: {', '.join(known)}")
    for name, member in known.items():
        if name not in values and member.default is MISSING:
            raise ConfigError(f"fault {record.kind}: {name} is missing")
    hints = get_type_hints(record)
    for name, value in values.items():
        if value is None and name == "duration_s":
            continue
        if hints[name] is str:
            if not isinstance(value, str) or not value:
                raise ConfigError(f"fault {record.kind}: {name} must be a name, not {value!r}")
            continue
        low, high = _LIMITS[name]
        whole = hints[name] is int
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else int | float)
            or not low <= value <= high
        ):
            what = "an integer" if whole else "a number"
            raise ConfigError(
                f"fault {record.kind}: {name} must be {what} from {low:g} to {high:g}, not {value!r}"
            )
    result: Fault = record(**values)
    return result
