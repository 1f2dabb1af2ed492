"""The residual in service at an agent: judged on its own history, used only where it helps, rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from domain_twin.agent.corrections import Corrections, traffic_known
from domain_twin.agent.learning import Learning, Step
from domain_twin.config import LearningConfig
from domain_twin.datastore.history import History
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import Arrays
from domain_twin.learning.models.residual import TRAFFIC
from domain_twin.learning.presets import preset
from domain_twin.learning.store import ModelStore
from domain_twin.learning.task import Card, Window
from domain_twin.model import Change, Delta, Link, Network, Origin, Version
from domain_twin.simulation.twin.calibration import Calibration, Traffic

MINUTE = 60_000_000_000
END = 1_790_000_000_000_000_000 // MINUTE * MINUTE
STEPS = 200
LINKS = tuple(f"urn:l:{number}" for number in range(1, 7))
FEW = LINKS[:2]
"""With too few points for a fit of the domain's own."""
TASK = replace(preset("residual"), window=Window(length_s=STEPS * 60.0))
CALIBRATION = Calibration("ran", traffic=Traffic(1000.0, 20.0, 1.0))


def network(names: Sequence[str] = LINKS) -> Network:
    links = {name: Link(name, "r1", "n1", "t1", "n2", "t2") for name in names}
    return Network("ran", Version("e", 1), {}, {}, links, {}, {}, {})


async def recorded(folder: Path, names: Sequence[str] = LINKS) -> History:
    """Links as M/M/1 queues of trains, whose wait is more than the law's by 0.8 times the load."""
    history = await History.open(folder, raw_days=36_500.0, retention_days=36_500.0, clock=lambda: END)
    service_ms = 0.16
    for step in range(STEPS):
        at = END - (STEPS - step) * MINUTE
        changes = []
        for place, name in enumerate(names):
            load = 0.3 + 0.04 * place + 0.2 * np.sin(step / 9 + place)
            wait = service_ms * load / (1 - load)
            figures = {
                "utilisation": load,
                "carried-rate": load * 1000,
                "one-way-delay": 1e3 * (1.0 + service_ms + wait * (1 + 0.8 * load)),
                "delay-variance": (1e3 * service_ms / (1 - load)) ** 2,
            }
            path = f"/fedtwin-performance:performance/link[link-id='{name}']"
            changes += [
                Change("r1", f"{path}/{leaf}", float(value), at, at, Origin.MEASURED)
                for leaf, value in figures.items()
            ]
        history.append(Delta(Version("e", step), Version("e", step + 1, at), tuple(changes)))
    return history


def version(
    number: int, arrays: Arrays, contributors: tuple[str, ...] = ("core", "ran")
) -> tuple[Card, bytes]:
    data = encode_arrays(arrays)
    card = Card(
        "residual", number, TASK, forms_of(arrays), number, "run", 1, contributors, digest=digest_of(data)
    )
    return card, data


def coefficients(*values: float, reach: float = 0.9) -> Arrays:
    return {"coefficients": np.array(values), "reach": np.array([reach])}


async def test_a_residual_is_used_where_it_helps_and_one_that_is_worse_than_none_is_not(
    tmp_path: Path,
) -> None:
    history = await recorded(tmp_path / "history", FEW)
    made = Learning(
        LearningConfig(worse_by=0.5),
        tmp_path / "learning",
        domain="ran",
        network=lambda: network(FEW),
        history=history,
        calibration=lambda: CALIBRATION,
        clock=lambda: END + MINUTE // 2,
    )
    told = []
    try:
        # The last errs less than a half more than none does, which another kind of model would be let.
        for number, strength in ((1, 0.8), (2, -0.3)):
            card, data = version(number, coefficients(0.0, strength, 0.0, 0.0, 0.0))
            step = Step("run", "deliver", card=card.to_json(), arrays=data)
            told.append((await made.take(step, "broker")).facts)
        used = made.corrections.in_service()
        made.store.serve("residual", 2)
        other = made.corrections.in_service()
        await made.put_back("residual", 1)
        back = made.corrections.in_service()
    finally:
        await made.aclose()
        await history.close()

    assert [facts["in_service"] for facts in told] == [True, False]
    assert told[0]["scores"]["loss"] < 0.2 * told[0]["scores"]["naive:tables"]
    assert told[1]["reason"] == "it is worse here than tables"
    assert 1.0 < told[1]["scores"]["loss"] / told[1]["scores"]["naive:tables"] < 1.5
    assert [one.name for one in (used, other, back) if one] == ["residual 1", "residual 2", "residual 1"]
    assert used is not None
    assert used.contributors == 2
    assert used.curve.coefficients == pytest.approx([0.0, 0.8, 0.0, 0.0, 0.0])


async def test_a_domains_own_history_says_how_much_it_takes_and_what_it_made_survives_restart_and_roll_back(
    tmp_path: Path,
) -> None:
    history = await recorded(tmp_path / "history")
    made = Learning(
        LearningConfig(),
        tmp_path / "learning",
        domain="ran",
        network=network,
        history=history,
        calibration=lambda: CALIBRATION,
        clock=lambda: END + MINUTE // 2,
    )
    store, curves = made.store, []
    try:
        card, data = version(
            1, coefficients(0.0, 0.2, 0.0, 0.0, 0.0, reach=0.75), ("core", "edge", "transport")
        )
        told = await made.take(Step("run", "deliver", card=card.to_json(), arrays=data), "broker")
        noted = store.get("residual", 1).reason
        curves.append(made.corrections.in_service())
        store.put(
            *version(2, coefficients(0.0, 0.8, 0.0, 0.0, 0.0, reach=0.75), ("core", "edge", "transport"))
        )
        store.serve("residual", 2)
        curves.append(made.corrections.in_service())
        await made.put_back("residual", 1)
        curves.append(made.corrections.in_service())
    finally:
        await made.aclose()
        await history.close()
    again = ModelStore(store.folder, owner="ran", max_bytes=1 << 20)
    curves.append(Corrections(again).in_service())
    first, second, back, restarted = curves

    assert first is not None
    assert second is not None
    assert back is not None
    assert restarted is not None
    assert told.facts["reason"] == "better than tables here"
    assert noted == "better than tables here; fitted to its own history, too"
    assert [one.name for one in (first, second, back)] == ["residual 1", "residual 2", "residual 1"]
    assert first.share < second.share == 1.0
    assert back.share == restarted.share == first.share
    assert (back.curve.coefficients == first.curve.coefficients).all()
    assert (restarted.curve.coefficients == first.curve.coefficients).all()
    assert "own" in first.taught
    assert second.taught == "what 3 domains taught each other"
    # A form of its own that is damaged is not taken for the delivered one, which nobody judged good here.
    (store.folder / "residual" / "1" / "here.npz").write_bytes(b"PK")
    damaged = ModelStore(store.folder, owner="ran", max_bytes=1 << 20)
    assert Corrections(damaged).in_service() is None
    assert damaged.in_service("residual") == 2
    assert [finding.code for finding in damaged.findings()] == ["learning.damaged"]


@pytest.mark.parametrize(
    "arrays",
    [
        coefficients(0.1, 0.2),
        coefficients(0.1, 0.2, 0.3, 0.4, 0.5, reach=1.5),
        {"coefficients": np.zeros(5)},
        coefficients(*np.zeros(20_000)),
    ],
    ids=["fewer terms", "beyond full", "no reach", "large"],
)
def test_what_is_no_residual_corrects_nothing(tmp_path: Path, arrays: Arrays) -> None:
    store = ModelStore(tmp_path, owner="ran", max_bytes=1 << 20)
    store.put(*version(1, arrays))
    store.serve("residual", 1)

    assert Corrections(store).in_service() is None


def test_a_panel_knows_what_calibration_found_packets_to_look_like() -> None:
    assert traffic_known(None) == {}
    assert tuple(traffic_known(CALIBRATION)) == TRAFFIC
    assert Traffic(*(traffic_known(CALIBRATION)[name] for name in TRAFFIC)) == CALIBRATION.traffic
