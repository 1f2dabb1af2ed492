"""What configuration does not say of a network, as fitted from its history: the record, and its file.

Owns the form; `calibrate` does the fitting. A *train* is the packets that travel together: what queues see as
one arrival. Its length shows in delay variance and in the idle delay of stations, not in any counter.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from domain_twin.errors import ConfigError
from domain_twin.model import Nanoseconds
from domain_twin.simulation.twin.packet_size import ASSUMED_OCTETS

__all__ = ["DEFAULT", "FORMAT", "Calibration", "ElementFit", "Traffic", "load", "save"]

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """What packets look like to queues. `scv`: squared coefficient of variation (variance / mean^2)."""

    packet_octets: float = ASSUMED_OCTETS
    packets_per_train: float = 1.0
    size_scv: float = 1.0
    octets_counted: bool = False
    """Whether interfaces said `packet_octets`."""

    @property
    def train_octets(self) -> float:
        """Mean size of what queues see as one arrival."""
        return self.packet_octets * self.packets_per_train


@dataclass(frozen=True, slots=True)
class ElementFit:
    """One element. Fields that its kind does not have, or that history does not show, are NaN.

    `mape` (percent) and `r2` compare the fitted mean delay with what was measured in the part of history that
    was held out; `points` are the intervals fitted on. `note` says why a default stands in; empty: fitted.
    """

    element: str
    kind: str  # link, border, cell, function, host
    fixed_s: float = math.nan
    service_s: float = math.nan  # of a train
    service_scv: float = math.nan
    buffer_octets: float = math.nan
    variance_ratio: float = math.nan  # measured delay variance over that of Poisson arrivals at this load
    dispersion: float = math.nan  # variance of the rate over that of Poisson arrivals of trains
    loss: float = 0.0  # whatever the load: errors of the line
    load: float = math.nan  # links, cells: utilisation at which a queue waits as it did on the mean
    points: int = 0
    mape: float = math.nan
    r2: float = math.nan
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """All that was fitted for one domain.

    `residuals`: relative errors of held-out delays by element, one for each stretch of time; NaN: not known.
    """

    domain: str
    start: Nanoseconds = 0
    end: Nanoseconds = 0
    samples: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    elements: Mapping[str, ElementFit] = field(default_factory=lambda: MappingProxyType({}))
    residuals: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))
    stretch_s: float = 10.0  # what each residual is a mean over
    assumptions: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def mape(self) -> float:
        """Mean of the elements' held-out errors, percent; NaN where none was fitted."""
        known = [fit.mape for fit in self.elements.values() if math.isfinite(fit.mape)]
        return sum(known) / len(known) if known else math.nan


DEFAULT = Calibration("")
"""Nothing fitted: single packets of 1,000 octets on average, exponential sizes, Poisson."""


def save(calibration: Calibration, file: Path) -> None:
    """Write atomically, readable by the owner only."""
    raw = dataclasses.asdict(dataclasses.replace(calibration, elements={}, residuals={}))
    raw["residuals"] = {
        name: [None if math.isnan(x) else x for x in row] for name, row in calibration.residuals.items()
    }
    raw["elements"] = {name: _finite(dataclasses.asdict(fit)) for name, fit in calibration.elements.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(raw, out, indent=1, sort_keys=True, allow_nan=False)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def load(file: Path) -> Calibration | None:
    """Read what `save` wrote; None: there is none. Raises ConfigError for another format or a broken file."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise ConfigError(
                f"{file}: calibration format {raw['format']!r}, this release reads {FORMAT};"
                " run fedtwin calibrate again"
            )
        elements = {name: ElementFit(**_unfinite(fit)) for name, fit in raw.pop("elements").items()}
        residuals = {
            name: tuple(math.nan if x is None else float(x) for x in row)
            for name, row in raw.pop("residuals").items()
        }
        traffic = Traffic(**raw.pop("traffic"))
        assumptions = tuple(map(str, raw.pop("assumptions")))
        _check(traffic, elements)
        return Calibration(
            **raw, traffic=traffic, elements=elements, residuals=residuals, assumptions=assumptions
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{file}: not a calibration ({error}); delete it and run fedtwin calibrate"
        ) from None


_NOT_ZERO = frozenset({"packet_octets", "packets_per_train"})


def _check(traffic: Traffic, elements: Mapping[str, ElementFit]) -> None:
    """Raise ValueError for a figure that nothing can be computed with."""
    for owner, record, names in (
        ("traffic", traffic, [f.name for f in dataclasses.fields(Traffic) if f.type == "float"]),
        *((name, fit, _NOT_NEGATIVE) for name, fit in elements.items()),
    ):
        for name in names:
            value = getattr(record, name)
            unknown = owner != "traffic" and isinstance(value, float) and math.isnan(value)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if unknown or (
                number and math.isfinite(value) and value >= 0 and (value or name not in _NOT_ZERO)
            ):
                continue
            accepted = "more than 0" if name in _NOT_ZERO else "0 or more"
            raise ValueError(f"{name} of {owner} is {value!r}; it must be {accepted}")


_NOT_NEGATIVE = ("fixed_s", "service_s", "service_scv", "buffer_octets", "loss", "load")
_NUMBERS = frozenset(f.name for f in dataclasses.fields(ElementFit) if f.type == "float")


def _finite(raw: dict[str, Any]) -> dict[str, Any]:
    """Without figures that are not known: JSON has no NaN."""
    return {k: v for k, v in raw.items() if not (isinstance(v, float) and math.isnan(v))}


def _unfinite(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan for name in _NUMBERS - {"loss"}} | raw
