"""Looks for a domain's samples in bytes that left it: as they are, scaled, and as text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task
from domain_twin.learning.windows import Windows, local_scale

Values = NDArray[np.float64]

_DIGITS = (6, 8, 12)
"""Significant digits of a sample as text."""


class Scanner:
    """Knows everything that must not leave one domain during one training.

    A float64 is told by its eight bytes alone. A float32 has too few for that (chance finds one in every
    megabyte for each thousand samples), so that two of them in a row are looked for. Zeros and whole numbers
    are no evidence.
    """

    def __init__(self, panel: Panel, task: Task) -> None:
        self._names = [name.encode() for name in panel.elements]
        forms = dict(_forms(panel, task))
        self._doubles = {
            (form, order): np.unique(_telling(values).astype(f"{order}f8").view(np.uint64))
            for form, values in forms.items()
            for order in "<>"
        }
        self._pairs = {
            (form, order): np.unique(_pairs(values, order))
            for form, values in forms.items()
            for order in "<>"
        }
        self._all = np.unique(np.concatenate([*self._doubles.values(), *self._pairs.values()]))
        self._texts = {
            text.encode(): float(value)
            for value in _telling(forms["units"])
            for text in {repr(float(value)), *(f"{value:.{digits}g}" for digits in _DIGITS)}
            if len(text.lstrip("-").replace(".", "")) >= 6
        }

    def findings(self, data: bytes) -> list[str]:
        """What of the domain is in `data`; empty where nothing is."""
        found = [f"name {name.decode()}" for name in self._names if name in data]
        words = _windows(data)
        words = words[self._all[np.searchsorted(self._all, words).clip(max=len(self._all) - 1)] == words]
        if words.size:
            for (form, order), patterns in self._doubles.items():
                if count := int(np.isin(words, patterns).sum()):
                    found.append(f"{count} float64 {order} ({form})")
            for (form, order), patterns in self._pairs.items():
                if count := int(np.isin(words, patterns).sum()):
                    found.append(f"{count} pairs of float32 {order} ({form})")
        found += [f"text {text.decode()}" for text in self._texts if text in data]
        return found


def _forms(panel: Panel, task: Task) -> Iterator[tuple[str, Values]]:
    """The samples [rows, steps] as they might be sent: in units, and scaled in the known ways."""
    values = panel.values.transpose(0, 2, 1).reshape(-1, panel.steps)
    yield "units", values
    yield "z", (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    yield "min-max", (values - low) / (high - low)
    yield (
        "scaler",
        local_scale(panel.training()).to_z(panel.values).transpose(0, 2, 1).reshape(-1, panel.steps),
    )
    windows = Windows(task, panel)
    yield "windows", windows.inputs(*windows.steps(holdout=False)).astype(np.float64)


def _telling(values: Values) -> Values:
    flat = values[np.isfinite(values)]
    return flat[(flat != np.round(flat, 3)) & (np.abs(flat) > 1e-6)]


def _pairs(values: Values, order: str) -> NDArray[np.uint64]:
    """Two float32 in a row, along the steps and along the elements, as eight bytes."""
    single = values.astype(f"{order}f4")
    along = [np.stack([single[:, :-1], single[:, 1:]], axis=-1), np.stack([single[:-1], single[1:]], axis=-1)]
    rows = np.concatenate([part.reshape(-1, 2) for part in along])
    fine = (
        np.isfinite(rows).all(axis=1)
        & (np.abs(rows) > 1e-6).all(axis=1)
        & (rows != np.round(rows, 3)).any(axis=1)
    )
    words: NDArray[np.uint64] = np.ascontiguousarray(rows[fine]).view(np.uint64).ravel()
    return words


def _windows(data: bytes) -> NDArray[np.uint64]:
    """The eight bytes at every offset."""
    if len(data) < 8:
        return np.empty(0, np.uint64)
    raw = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 8)
    words: NDArray[np.uint64] = np.ascontiguousarray(raw).view(np.uint64).ravel()
    return words
