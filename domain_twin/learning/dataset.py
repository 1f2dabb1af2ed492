"""Synthetic series as a data set: CSV or Parquet, a card, and a recording that replays as a device.

Owns the files. Everything says that it is synthetic: names, the column `origin`, the card, every update of
the recording. A folder that exists is not written to.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from domain_twin.errors import ConfigError, Conflict, ContractError
from domain_twin.learning.fidelity import Fidelity
from domain_twin.learning.history import ELEMENT_KINDS, kpi_of, unit_factor
from domain_twin.learning.learner import Arrays
from domain_twin.learning.panel import Panel
from domain_twin.learning.synthetic import generate
from domain_twin.learning.task import Card, Task
from domain_twin.mapping.table import Row
from domain_twin.mapping.tables import TABLES
from domain_twin.model import (
    ACTIVE_UES,
    LOSS,
    MCS,
    QUEUE,
    UTILISATION,
    Nanoseconds,
    Origin,
    Sync,
    Update,
    UpdateBatch,
)
from domain_twin.southbound.replay import Recorder
from domain_twin.yang.paths import quote

__all__ = ["FORMS", "Exported", "export_synthetic", "write_recording"]

FORMS: Final = ("csv", "parquet")
_DEVICE: Final = "synthetic"
_COUNTS: Final = frozenset({QUEUE, ACTIVE_UES})  # whole numbers on the wire
_CEILINGS: Final[Mapping[str, float]] = {UTILISATION: 1.0, LOSS: 1.0, MCS: 28.0}  # their YANG types'


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    data: Path
    card: Path
    recording: Path | None
    rows: int
    digest: str
    """SHA-256 of `data`, hexadecimal."""


def export_synthetic(
    arrays: Arrays, task: Task, card: Card | None, folder: Path, *,
    rows: int, elements: int = 1, seed: int = 0, start: Nanoseconds = 0, form: str = "csv",
    own: bool = False, fidelity: Fidelity | None = None, record: bool = True,
) -> Exported:  # fmt: skip
    """Write `rows` steps of `elements` synthetic elements to the new `folder`.

    `data.csv` or `data.parquet` has a row per element and step; `card.json` says what it is; with `record`,
    `recording.jsonl.gz` is what a device would have said (`fedtwin replay`, or `[device.replay]` of an
    agent). `own` says that what domains say of themselves is the exporting one's in `arrays`, and not a mean
    over the contributors. `fidelity` is put on the card, and without it the card says that nothing was
    measured. The same seed gives the same data. Raises ConfigError for a form that is not known, Conflict
    where `folder` exists, ContractError where the model does not fit or, with `record`, where no device
    reports a KPI.
    """
    if form not in FORMS:
        raise ConfigError(f"form {form!r} is not known; a data set is written as {' or '.join(FORMS)}")
    if folder.exists():
        raise Conflict(f"{folder} exists: name a folder that does not, nothing is overwritten")
    panel = generate(
        arrays,
        task,
        card,
        rows,
        np.random.default_rng(seed),
        elements=elements,
        start=start,
    )
    leaves = _leaves(task) if record else []
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made ({error.strerror}); check the path and rights"
        ) from error
    try:
        data = folder / f"data.{form}"
        (_write_csv if form == "csv" else _write_parquet)(data, panel)
        recording = folder / "recording.jsonl.gz" if record else None
        if recording:
            _record(recording, panel, leaves)
        digest = hashlib.sha256(data.read_bytes()).hexdigest()
        stated = _card(panel, task, card, seed=seed, fidelity=fidelity, digest=digest, own=own)
        (folder / "card.json").write_text(
            json.dumps(stated, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a data set is none
        raise
    return Exported(folder, data, folder / "card.json", recording, rows * elements, digest)


def write_recording(path: Path, panel: Panel, task: Task) -> None:
    """What a device with the elements of `panel` would have said, with origin synthetic.

    Raises ContractError where no device reports one of the KPIs, Conflict where `path` exists.
    """
    if path.exists():
        raise Conflict(f"{path} exists: a recording would be added to it; name another file")
    _record(path, panel, _leaves(task))


def _leaves(task: Task) -> list[tuple[Row, float]]:
    """By feature: the leaf that feeds it, and what a value in the task's unit is divided by there."""
    kind = ELEMENT_KINDS.get(task.element_kind)
    rows = [row for table in TABLES for row in table if row.kpi and row.kind is kind]
    found = []
    for feature in task.features:
        own = [row for row in rows if row.attribute == kpi_of(feature)]
        if not own:
            raise ContractError(
                f"feature {feature.kpi}: no device reports it of a {task.element_kind};"
                " export without a recording"
            )
        found.append((own[0], float(own[0].convert(1.0)) * unit_factor(feature)))
    return found


def _record(path: Path, panel: Panel, leaves: list[tuple[Row, float]]) -> None:
    keys = {
        (row, element): str(number) if row.key_names == ("cellLocalId",) else element
        for number, element in enumerate(panel.elements, 1)
        for row, _ in leaves
    }
    with Recorder(path) as recorder:
        for step in range(panel.steps):
            at = panel.start + round(step * panel.step_s * 1e9)
            updates = []
            for place, element in enumerate(panel.elements):
                for column, (row, scale) in enumerate(leaves):
                    key = keys[row, element]
                    value = _on_the_wire(row.attribute, float(panel.values[place, step, column]), scale)
                    if step == 0 and row.key_names:
                        base = row.path[: row.path.rindex("]") + 1]
                        held = int(key) if key.isdigit() else key
                        leaf = _placed(f"{base}/{row.key_names[-1]}", row, key)
                        updates.append(Update(_DEVICE, leaf, held, at, Origin.SYNTHETIC))
                    updates.append(Update(_DEVICE, _placed(row.path, row, key), value, at, Origin.SYNTHETIC))
            told = tuple(dict.fromkeys(updates))
            recorder.append(UpdateBatch(_DEVICE, at, told, sync=Sync.BEGIN if step == 0 else Sync.NONE))
            if step == 0:
                recorder.append(UpdateBatch(_DEVICE, at, sync=Sync.END))


def _placed(path: str, row: Row, key: str) -> str:
    for name in row.key_names:
        path = path.replace(f"[{name}]", f"[{name}={quote(key)}]", 1)
    return path


def _on_the_wire(kpi: str, value: float, scale: float) -> float | int:
    """In the leaf's unit, within its YANG type."""
    told = min(max(value, 0.0), _CEILINGS.get(kpi, math.inf) * scale) / scale
    return round(told) if kpi in _COUNTS else told


def _write_csv(path: Path, panel: Panel) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "element", "origin", *panel.features])
        for element, series in zip(panel.elements, panel.values, strict=True):
            for step, row in enumerate(series):
                at = datetime.fromtimestamp((panel.start + round(step * panel.step_s * 1e9)) / 1e9, UTC)
                told = at.isoformat().replace("+00:00", "Z")
                writer.writerow([told, element, Origin.SYNTHETIC.value, *(repr(float(v)) for v in row)])


def _write_parquet(path: Path, panel: Panel) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    steps = np.round(np.arange(panel.steps) * panel.step_s * 1e9).astype(np.int64) + panel.start
    count = len(panel.elements)
    columns = {
        "time": pa.array(np.tile(steps, count), pa.timestamp("ns", "UTC")),
        "element": pa.array(np.repeat(panel.elements, panel.steps)),
        "origin": pa.array([Origin.SYNTHETIC.value] * (count * panel.steps)),
    }
    flat = panel.values.reshape(-1, len(panel.features))
    columns |= {name: pa.array(flat[:, place]) for place, name in enumerate(panel.features)}
    parquet.write_table(pa.table(columns), path, compression="zstd")


def _privacy(card: Card | None) -> dict[str, Any] | str:
    """What a reader may rely on; what is made of noised statistics costs nothing more."""
    if card is None or card.task.privacy is None or not card.task.tells_noised:
        return "none"
    return {
        "mechanism": "Gaussian, in each contributor, before anything leaves it",
        "record": "one step of one element",
        "epsilon": dict(card.privacy_spent),
        "delta": card.task.privacy.delta,
        "noise_multiplier": card.task.privacy.noise_multiplier,
    }


def _card(
    panel: Panel,
    task: Task,
    card: Card | None,
    *,
    seed: int,
    fidelity: Fidelity | None,
    digest: str,
    own: bool,
) -> dict[str, Any]:
    return {
        "kind": "synthetic telemetry",
        "synthetic": True,
        "note": "Every value is made by a model; none was measured.",
        "model": task.model,
        "version": card.version if card else None,
        "model_digest": card.digest if card else None,
        "contributors": list(card.contributors) if card else [],
        "element_kind": task.element_kind,
        "elements": list(panel.elements),
        "kpis": [{"term": feature.kpi, "unit": feature.unit} for feature in task.features],
        "rows": panel.steps,
        "step_s": task.step_s,
        "start": panel.start,
        "seed": seed,
        "statistics": "of the exporting domain" if own else "mean over the contributors",
        "differential_privacy": _privacy(card),
        "fidelity": asdict(fidelity) if fidelity else "not measured",
        "sha256": digest,
    }
