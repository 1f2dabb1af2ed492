"""What is checked of a contribution before it leaves its domain, and again where it arrives.

Owns names, shapes, dtypes, finiteness, size, the norm of an update, replays, and the few words that a domain
says when it does not contribute. Both sides use the same code and neither relies on the other's. Knows no
Flower and no model.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import numpy as np

from domain_twin.errors import ContractError
from domain_twin.learning.learner import Arrays

__all__ = ["WORDS", "Absence", "Replays", "check", "clipped", "fingerprint", "measures", "norm", "update"]

MAX_ARRAYS: Final = 512
MAX_MEASURES: Final = 64
_KEPT_RUNS: Final = 16
_KEPT_IDS: Final = 4096
_MEASURE: Final = re.compile(r"[a-z][a-z0-9:._-]{0,63}")


class Absence(StrEnum):
    """Why a domain did not contribute. The word is all that leaves: an error's text may quote data."""

    NO_DATA = "no-data"
    TOO_LITTLE = "too-little"
    NOT_SHARED = "not-shared"
    SPENT = "spent"
    MALFORMED = "malformed"
    REPLAYED = "replayed"
    BROKEN = "broken"
    FAILED = "failed"
    LATE = "late"
    UNREACHABLE = "unreachable"


WORDS: Final[Mapping[Absence, str]] = {
    Absence.NO_DATA: "the domain has no data for this task",
    Absence.TOO_LITTLE: "the domain's data is too little for this task",
    Absence.NOT_SHARED: "the domain's policy does not let it take part",
    Absence.SPENT: "the domain's privacy budget is spent",
    Absence.MALFORMED: "a message was not what the round asks for",
    Absence.REPLAYED: "a message was seen before",
    Absence.BROKEN: "the domain's own check held its contribution back",
    Absence.FAILED: "training failed in the domain; its log says why",
    Absence.LATE: "no answer before the round's deadline",
    Absence.UNREACHABLE: "the domain could not be reached",
}
"""What a reader is told of each absence."""


def check(arrays: Mapping[str, np.ndarray[Any, Any]], like: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raise ContractError where `arrays` are no finite arrays of the names, shapes and dtypes of `like`."""
    if len(arrays) > MAX_ARRAYS:
        raise ContractError(f"{len(arrays)} arrays; {MAX_ARRAYS} are taken at most")
    if missing := sorted(like.keys() - arrays.keys()):
        raise ContractError(f"array {missing[0]!r} is missing")
    if unknown := sorted(arrays.keys() - like.keys()):
        raise ContractError(f"array {unknown[0][:64]!r} is not of this model")
    for name, wanted in like.items():
        array = arrays[name]
        if array.shape != wanted.shape:
            raise ContractError(f"array {name!r}: shape {list(array.shape)}, not {list(wanted.shape)}")
        if array.dtype != wanted.dtype:
            raise ContractError(f"array {name!r}: dtype {array.dtype}, not {wanted.dtype}")
        if not np.isfinite(array).all():
            raise ContractError(f"array {name!r}: NaN or infinite values")


def update(arrays: Arrays, base: Arrays) -> Arrays:
    """What training changed: `arrays` - `base`, float64."""
    return {name: arrays[name].astype(np.float64) - base[name] for name in base}


def norm(changes: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """The Euclidean norm of all `changes` together; infinite where float64 cannot hold it."""
    with np.errstate(over="ignore"):
        return math.sqrt(sum(float(np.square(change, dtype=np.float64).sum()) for change in changes.values()))


def clipped(changes: Arrays, limit: float) -> Arrays:
    """`changes`, made shorter where they are longer than `limit`; their direction stays."""
    length = norm(changes)
    if length <= limit:
        return changes
    if not math.isfinite(length):  # finite values whose squares are not
        largest = max(float(np.abs(change).max(initial=0.0)) for change in changes.values())
        changes = {name: change / largest for name, change in changes.items()}
        length = norm(changes)
    return {name: change * (limit / length) for name, change in changes.items()}


def measures(said: Mapping[str, Any]) -> dict[str, float]:
    """Of what a model says of itself, the finite numbers under plain names; `loss` may be infinite."""
    kept: dict[str, float] = {}
    for name, value in said.items():
        if not isinstance(value, int | float | np.integer | np.floating) or not _MEASURE.fullmatch(str(name)):
            continue
        number = float(value)
        if name == "loss" and not math.isfinite(number):
            number = math.inf
        if math.isfinite(number) or name == "loss":
            kept[str(name)] = number
        if len(kept) == MAX_MEASURES:
            break
    return kept


def fingerprint(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """SHA-256 over names, dtypes, shapes and values, hexadecimal: equal where the arrays are equal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class Replays:
    """Which messages of which runs were seen. Bounded: the oldest runs and the oldest ids are forgotten.

    A round never goes back, so that a forgotten id of an earlier round is refused all the same.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[int, _Seen] = OrderedDict()

    def admit(self, run: int, round_: int, message_id: str) -> None:
        """Raise ContractError where this message was seen before, or its round is over."""
        seen = self._runs.setdefault(run, _Seen())
        self._runs.move_to_end(run)
        if len(self._runs) > _KEPT_RUNS:
            self._runs.popitem(last=False)
        if not message_id or message_id in seen.ids:
            raise ContractError("a message of this round was seen before")
        if round_ < seen.round:
            raise ContractError(f"a message of round {round_}; round {seen.round} is under way")
        seen.round = round_
        seen.ids[message_id] = None
        if len(seen.ids) > _KEPT_IDS:
            seen.ids.popitem(last=False)


class _Seen:
    def __init__(self) -> None:
        self.round = 0
        self.ids: OrderedDict[str, None] = OrderedDict()
