"""What broker and agents say to each other in a what-if across domains: a few columns of numbers a round.

Only what the domain discloses is named: border points and published end points, and the inter-domain links'
ids inside changes. Rows are (variant, ingress, egress, class): packets that enter a domain at one point and
leave it at another. A row's keys travel once; later rounds hold figures alone, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from domain_twin.errors import ContractError
from domain_twin.model import Version
from domain_twin.model.scenario import Change
from domain_twin.simulation.graph import Arrivals, FloatArray, TrafficClass
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import at_least_zero, named, part, word
from federation.wire.views import decode_version, encode_version

__all__ = [
    "Figures", "Indices", "Keys", "Offered", "PartVariant", "Prepare", "Prepared", "Round", "WayTable",
    "decode_answer", "decode_ask", "encode_answer", "encode_ask",
]  # fmt: skip

Indices: TypeAlias = npt.NDArray[np.uint32]
_CHANGE: TypeAdapter[Change] = TypeAdapter(Change)
MAX_VARIANTS = 20_000
"""In one question; a peer that asks about more is refused."""


@dataclass(frozen=True, slots=True)
class PartVariant:
    """One variant of the question, as far as it concerns a domain. Elements are named by disclosed points."""

    name: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepare:
    """Round 0: pin the twin's version, apply the variants, say what ways there are. The first is the base."""

    variants: tuple[PartVariant, ...]
    scenario: str = ""  # its name: by it the owner may add changes of its own
    at_version: Version | None = None  # of the view; refused (StaleVersion) at another one
    corrected: bool = True  # by the residual that domains learned together, where it is in service


@dataclass(frozen=True, slots=True, eq=False)
class WayTable:
    """Ways through a domain: from point to point (indices), and the sum of metrics over them.

    A way to a border point goes out over its inter-domain link, whose metric is counted.
    """

    source: Indices
    target: Indices
    metric: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """What enters a domain at its published end points now, towards other points of it; packets/s.

    `square` is the sum of squared rates of the independent flows in a row.
    """

    source: Indices
    target: Indices
    traffic_class: Indices
    rate: FloatArray
    square: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A domain's answer to Prepare. `table_of` gives the index into `tables` of each variant."""

    version: Version
    points: tuple[str, ...]
    classes: tuple[TrafficClass, ...]
    tables: tuple[WayTable, ...]
    table_of: Indices
    offered: Offered
    assumptions: tuple[str, ...] = ()
    private_changes: bool = False  # the owner added changes of its own to all variants but the base


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """What the rows of the rounds are about; points are indices into Prepared's, classes those given."""

    variant: Indices
    source: Indices
    target: Indices
    traffic_class: Indices
    classes: tuple[TrafficClass, ...]

    def __len__(self) -> int:
        return len(self.variant)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What arrives at each row's ingress: packets/s, and the sum of squared rates of independent flows."""

    rate: FloatArray
    square: FloatArray
    keys: Keys | None = None  # None: as in the round before
    final: bool = False  # all figures are wanted, not loss alone


_NONE = np.zeros(0)
_NOWHERE = np.zeros(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What each row's packets meet from ingress to egress; NaN: not known or not shared.

    All but `loss` are empty unless the round was final. `variance_s2` leaves out what the packets' own sizes
    cause, which is the same on every link of a path: size_scv * (sum of `service_s` over the whole path)^2.
    `interval_s` is half the width of the 90 % interval of `delay_s`.
    """

    loss: FloatArray
    delay_s: FloatArray = field(default_factory=lambda: _NONE)
    variance_s2: FloatArray = field(default_factory=lambda: _NONE)
    service_s: FloatArray = field(default_factory=lambda: _NONE)
    fixed_s: FloatArray = field(default_factory=lambda: _NONE)
    interval_s: FloatArray = field(default_factory=lambda: _NONE)
    unsettled: bool = False  # the losses inside the domain did not reach a fixed point
    link_variant: Indices = field(default_factory=lambda: _NOWHERE)
    link_point: Indices = field(default_factory=lambda: _NOWHERE)
    link_utilisation: FloatArray = field(default_factory=lambda: _NONE)
    """How busy the ways out over inter-domain links are, 0 to 1, by variant and border point."""


def encode_ask(ask: Prepare | Round) -> pb.SimulateAsk:
    """One step of a question as a message."""
    if isinstance(ask, Prepare):
        version = None if ask.at_version is None else encode_version(ask.at_version)
        return pb.SimulateAsk(
            prepare=pb.SimulatePrepare(
                variants=[
                    pb.SimulateVariant(
                        name=variant.name,
                        changes=[_CHANGE.dump_json(change, exclude_none=True) for change in variant.changes],
                    )
                    for variant in ask.variants
                ],
                scenario=ask.scenario,
                at_version=version,
                uncorrected=not ask.corrected,
            )
        )
    keys = None
    if ask.keys is not None:
        keys = pb.SimulateKeys(
            variant=ask.keys.variant,
            source=ask.keys.source,
            target=ask.keys.target,
            traffic_class=ask.keys.traffic_class,
            classes=[_encode_class(kind) for kind in ask.keys.classes],
        )
    return pb.SimulateAsk(
        round=pb.SimulateRound(keys=keys, rate=ask.rate, square=ask.square, final=ask.final)
    )


def decode_ask(message: pb.SimulateAsk) -> Prepare | Round:
    """One step of a question. Raises ContractError."""
    match message.WhichOneof("step"):
        case "prepare":
            body = message.prepare
            if not 1 <= len(body.variants) <= MAX_VARIANTS:
                raise ContractError(
                    f"SimulatePrepare.variants: {len(body.variants)} found, 1 to {MAX_VARIANTS} are accepted"
                )
            variants = tuple(
                PartVariant(item.name, tuple(_decode_change(change) for change in item.changes))
                for item in body.variants
            )
            if variants[0].changes:
                raise ContractError("SimulatePrepare.variants: the first is the base, and it has changes")
            version = decode_version(body.at_version) if body.HasField("at_version") else None
            return Prepare(variants, body.scenario, version, not body.uncorrected)
        case "round":
            round_ = message.round
            keys = _decode_keys(round_.keys) if round_.HasField("keys") else None
            rate, square = _amounts(round_, "rate"), _amounts(round_, "square")
            _same_length(round_, rate, square, *([keys.variant] if keys else []))
            return Round(rate, square, keys, round_.final)
        case _:
            raise ContractError("SimulateAsk: a step of a later version of the contract; update this agent")


def encode_answer(answer: Prepared | Figures) -> pb.SimulateAnswer:
    """A domain's answer to one step as a message."""
    if isinstance(answer, Figures):
        return pb.SimulateAnswer(
            figures=pb.SimulateFigures(
                **{
                    name: getattr(answer, name)
                    for name in (*_FIGURES, "link_variant", "link_point", "link_utilisation")
                },
                unsettled=answer.unsettled,
            )
        )
    offered = answer.offered
    return pb.SimulateAnswer(
        prepared=pb.SimulatePrepared(
            version=encode_version(answer.version),
            points=answer.points,
            classes=[_encode_class(kind) for kind in answer.classes],
            tables=[
                pb.SimulateWays(source=table.source, target=table.target, metric=table.metric)
                for table in answer.tables
            ],
            table_of=answer.table_of,
            offered=pb.SimulateOffered(
                source=offered.source,
                target=offered.target,
                traffic_class=offered.traffic_class,
                rate=offered.rate,
                square=offered.square,
            ),
            assumptions=answer.assumptions,
            private_changes=answer.private_changes,
        )
    )


def decode_answer(message: pb.SimulateAnswer) -> Prepared | Figures:
    """A domain's answer to one step. Raises ContractError."""
    match message.WhichOneof("step"):
        case "prepared":
            return _decode_prepared(message.prepared)
        case "figures":
            columns: dict[str, Any] = {name: _figures(message.figures, name) for name in _FIGURES}
            if (columns["loss"] > 1.0).any():
                raise ContractError("SimulateFigures.loss: more than 1 found, 0 to 1 is accepted")
            body = message.figures
            variant, point = _indices(body, "link_variant", MAX_VARIANTS), _indices(body, "link_point", None)
            utilisation = _amounts(body, "link_utilisation")
            _same_length(body, variant, point, utilisation)
            return Figures(
                **columns,
                unsettled=body.unsettled,
                link_variant=variant,
                link_point=point,
                link_utilisation=utilisation,
            )
        case _:
            raise ContractError(
                "SimulateAnswer: a step of a later version of the contract; update this broker"
            )


_FIGURES = ("loss", "delay_s", "variance_s2", "service_s", "fixed_s", "interval_s")


def _decode_prepared(message: pb.SimulatePrepared) -> Prepared:
    points = tuple(message.points)
    if len(set(points)) != len(points):
        raise ContractError("SimulatePrepared.points: a point is there twice")
    tables = []
    for table in message.tables:
        columns = (_indices(table, "source", len(points)), _indices(table, "target", len(points)))
        metric = _amounts(table, "metric")
        _same_length(table, *columns, metric)
        tables.append(WayTable(*columns, metric))
    classes = tuple(_decode_class(kind) for kind in message.classes)
    body = message.offered
    offered = Offered(
        _indices(body, "source", len(points)),
        _indices(body, "target", len(points)),
        _indices(body, "traffic_class", len(classes)),
        _amounts(body, "rate"),
        _amounts(body, "square"),
    )
    _same_length(body, offered.source, offered.target, offered.traffic_class, offered.rate, offered.square)
    return Prepared(
        version=decode_version(part(message, "version")),
        points=points,
        classes=classes,
        tables=tuple(tables),
        table_of=_indices(message, "table_of", len(tables)),
        offered=offered,
        assumptions=tuple(message.assumptions),
        private_changes=message.private_changes,
    )


def _decode_keys(message: pb.SimulateKeys) -> Keys:
    classes = tuple(_decode_class(kind) for kind in message.classes)
    keys = Keys(
        _indices(message, "variant", MAX_VARIANTS),
        _indices(message, "source", None),
        _indices(message, "target", None),
        _indices(message, "traffic_class", len(classes)),
        classes,
    )
    _same_length(message, keys.variant, keys.source, keys.target, keys.traffic_class)
    return keys


def _encode_class(kind: TrafficClass) -> pb.SimulateClass:
    return pb.SimulateClass(
        name=kind.name,
        sizes=kind.sizes,
        probabilities=kind.probabilities,
        exponential=kind.exponential,
        arrivals=kind.arrivals,
        on_s=kind.on_s,
        off_s=kind.off_s,
        priority=kind.priority,
        weight=kind.weight,
        packets=kind.packets,
        measured=kind.measured,
    )


def _decode_class(message: pb.SimulateClass) -> TrafficClass:
    sizes, probabilities = tuple(message.sizes), tuple(message.probabilities)
    name = named(message, "name")
    sound = (
        sizes
        and len(sizes) == len(probabilities)
        and all(0.0 < size <= _LARGEST for size in sizes)
        and all(0.0 <= share <= 1.0 for share in probabilities)
        and abs(sum(probabilities) - 1.0) < 1e-6
    )
    if not sound:
        raise ContractError(
            f"SimulateClass.sizes: those of {name!r} need one probability each, which sum to 1, and lie"
            f" between 0 and {_LARGEST:g} octets"
        )
    if not 0.0 < message.weight < np.inf:
        raise ContractError(f"SimulateClass.weight: {message.weight} found, more than 0 is accepted")
    packets = message.packets or 1.0  # an older peer does not say it
    if not 0.0 < packets <= _LARGEST:
        raise ContractError(
            f"SimulateClass.packets: {packets} found, more than 0 and up to {_LARGEST:g} is accepted"
        )
    return TrafficClass(
        name,
        sizes,
        probabilities,
        message.exponential,
        word(message, "arrivals", Arrivals),
        at_least_zero(message, "on_s"),
        at_least_zero(message, "off_s"),
        message.priority,
        message.weight,
        packets,
        message.measured,
    )


def _decode_change(data: bytes) -> Change:
    try:
        return _CHANGE.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ContractError(f"SimulateVariant.changes: {place or 'the change'}: {first['msg']}") from None


def _indices(message: Any, column: str, below: int | None) -> Indices:
    values = np.array(getattr(message, column), dtype=np.uint32)
    if below is not None and values.size and int(values.max()) >= below:
        raise ContractError(
            f"{message.DESCRIPTOR.name}.{column}: {int(values.max())} found, less than {below} is accepted"
        )
    return values


def _amounts(message: Any, column: str) -> FloatArray:
    values = np.array(getattr(message, column), dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0.0)).all():
        raise ContractError(
            f"{message.DESCRIPTOR.name}.{column}: a number found that is not finite, or below 0"
        )
    return values


def _figures(message: Any, column: str) -> FloatArray:
    values = np.array(getattr(message, column), dtype=np.float64)
    if np.isinf(values).any() or (values < 0.0).any():
        raise ContractError(
            f"{message.DESCRIPTOR.name}.{column}: a number found that is infinite, or below 0"
        )
    return values


def _same_length(message: Any, *columns: Any) -> None:
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise ContractError(
            f"{message.DESCRIPTOR.name}: its columns have {', '.join(map(str, sorted(lengths)))} rows; they"
            " must be equally long"
        )


_LARGEST = 65_535.0 * 10_000  # octets: packets that travel together are one arrival
