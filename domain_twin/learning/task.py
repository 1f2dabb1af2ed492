"""What is learned together: the task that all domains are told, and the card of the model that comes of it.

Owns both as data, and their JSON. No code travels between operators: a task names a kind of model that every
domain has installed itself.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from domain_twin.errors import ContractError
from domain_twin.model import Nanoseconds

__all__ = ["Array", "Card", "Feature", "Kind", "Privacy", "Profile", "Role", "Task", "Window"]

MAX_BYTES: Final = 256 << 10
MAX_FEATURES: Final = 64
MAX_STEPS: Final = 10_000

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1, le=MAX_STEPS)]
_Share = Annotated[float, Field(gt=0, lt=1)]
_Seconds = Annotated[float, Field(ge=1e-3, le=1e9)]
_Instant = Annotated[Nanoseconds, Field(ge=0, lt=1 << 63)]
_Text = Annotated[str, Field(max_length=256)]


class Kind(StrEnum):
    """What a model does."""

    FORECASTER = "forecaster"
    VAE = "vae"
    GAN = "gan"
    DETECTOR = "detector"
    RESIDUAL = "residual"


class Profile(StrEnum):
    """Who trusts whom, and so how contributions are joined."""

    MISTRUSTFUL = "mistrustful"
    PRIVATE = "private"
    TRUSTED = "trusted"


class Role(StrEnum):
    """What a feature is for: models read all of them and foretell the targets."""

    INPUT = "input"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Feature:
    """One KPI of every element, in one unit: `kpi` is a term of the ontology (`ndt:utilisation`)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kpi: _Text
    unit: _Text
    role: Role = Role.TARGET


@dataclass(frozen=True, slots=True)
class Window:
    """Which history is learned from: the last `length_s`, or from `start` to `end` where they are given."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    length_s: _Seconds = 86_400.0
    start: _Instant = 0
    end: _Instant = 0


@dataclass(frozen=True, slots=True)
class Privacy:
    """The hard budget of the profile `private`, per domain and model: records, DP-SGD (Abadi et al. 2016)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    epsilon: _Positive = 8.0
    delta: _Share = 1e-5
    noise_multiplier: _Positive = 1.0
    clip_norm: _Positive = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """One training, as every domain is told of it.

    `model` is the name under which versions are kept; `element_kind` the kind of element that is learned
    from (`link`, `cell`, `network-function`, `host`). `lags` and `horizons` count steps of `step_s` seconds.
    `settings` are the model's own (hidden units, ...); a domain refuses names that its model does not know.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    model: _Name
    kind: Kind = Kind.FORECASTER
    element_kind: _Text = "link"
    features: Annotated[tuple[Feature, ...], Field(max_length=MAX_FEATURES)] = ()
    step_s: _Seconds = 60.0
    lags: _Count = 10
    horizons: Annotated[tuple[_Count, ...], Field(min_length=1, max_length=64)] = (1,)
    quantiles: Annotated[tuple[_Share, ...], Field(min_length=1, max_length=64)] = (0.05, 0.5, 0.95)
    window: Window = Window()
    profile: Profile = Profile.MISTRUSTFUL
    rounds: _Count = 10
    epochs: _Count = 1
    batch: _Count = 128
    learning_rate: _Positive = 1e-3
    holdout: _Share = 0.2
    """Share of every series, its end, that is judged on and never trained on."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    privacy: Privacy | None = None
    explain: bool = True
    """Ask at the end what each domain brought and gained: as long as all rounds again, in every domain."""
    settings: Annotated[Mapping[_Text, float | _Text], Field(max_length=64)] = field(default_factory=dict)

    @property
    def tells_noised(self) -> bool:
        """Whether domains tell noised statistics, once, and train nothing: a generator under `private`."""
        return self.kind is Kind.GAN and self.profile is Profile.PRIVATE

    def to_json(self) -> bytes:
        """This task as canonical JSON in UTF-8."""
        return _encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The task that `data` is. Raises ContractError, which names what is wrong."""
        task: Self = _decode(_TASK, data, "task")
        return task


@dataclass(frozen=True, slots=True)
class Array:
    """The form of one named array of a model."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Card:
    """What one version of a model is, how it came about, and how good it is beside its naive rivals.

    `scores` are by row and measure: rows are `model`, the names of naive rivals, and operators where the
    profile lets that be known (`operator:NAME`). `privacy_spent` is epsilon by domain, at the task's delta.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    model: str
    version: Annotated[int, Field(ge=0, lt=1 << 31)]
    task: Task
    arrays: tuple[Array, ...]
    created_at: Nanoseconds
    run: str
    rounds: int
    contributors: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    """Relative: how much less error the model has on a domain's own holdout than what it learned alone."""
    scaler: Mapping[str, Any] = field(default_factory=dict)
    privacy_spent: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    """SHA-256 of the arrays as they are kept, hexadecimal."""
    notes: tuple[str, ...] = ()
    """What a reader must know: guarantees that do not hold, rounds that were refused."""

    def to_json(self) -> bytes:
        """This card as canonical JSON in UTF-8."""
        return _encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The card that `data` is. Raises ContractError, which names what is wrong."""
        card: Self = _decode(_CARD, data, "card")
        return card


_TASK = TypeAdapter(Task)
_CARD = TypeAdapter(Card)


def _encode(value: Any) -> bytes:
    return json.dumps(
        dataclasses.asdict(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _decode(adapter: TypeAdapter[Any], data: bytes, what: str) -> Any:
    if len(data) > MAX_BYTES:
        raise ContractError(f"{what}: {len(data)} bytes, {MAX_BYTES} at most")
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the document"
        raise ContractError(f"{what}: {place}: {first['msg']}") from None
