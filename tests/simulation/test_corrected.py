"""The rung residual in a twin: corrected inside of what was fitted, marked outside, refused without a fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bnn_folder import write_folder
from typer.testing import CliRunner
from whatif_network import DOMAIN, link, name, ring

from domain_twin.errors import ConfigError
from domain_twin.model import Version
from domain_twin.model.job import Report
from domain_twin.simulation.learned.features import DELAY_FEATURES, VARIANCE_FEATURES
from domain_twin.simulation.learned.residual import Hull, Residual
from domain_twin.simulation.questions.scenario_file import make_scenario
from domain_twin.simulation.questions.whatif import Question, answer
from federation.cli.app import app

WIDE = Hull(0.99, (0.0, np.inf), (0.0, 10.0))
CUT = {"kind": "element-down", "element": link("r1", "r2")}


def fitted(hull: Hull) -> Residual:
    """One that adds a tenth of the wait, and of its variance, behind a busy queue."""
    delay, variance = np.zeros(len(DELAY_FEATURES)), np.zeros(len(VARIANCE_FEATURES))
    delay[DELAY_FEATURES.index("wait*share*load")] = 0.1
    variance[VARIANCE_FEATURES.index("variance*share*load")] = 0.1
    return Residual(delay, variance, hull, 100)


def ask(residual: Residual | None, **document: object) -> Report:
    scenario = make_scenario({"changes": [CUT], **document})
    return answer(ring(), Question(scenario, DOMAIN, Version("e", 7, 123), residual=residual), now=5)


def test_delays_inside_of_what_was_fitted_are_corrected_and_say_so() -> None:
    plain, corrected = ask(None), ask(fitted(WIDE), rung="residual")

    def delays(report: Report) -> dict[tuple[str, str], tuple[float, float]]:
        return {
            (flow.source, flow.target): (flow.after.delay_ms.value, flow.after.delay_variance_ms2.value)
            for flow in report.flows
            if flow.after
        }

    ends = name("cell-1"), name("host-1")
    assert delays(corrected)[ends][0] > delays(plain)[ends][0]
    assert delays(corrected)[ends][1] > delays(plain)[ends][1]
    assert corrected.rung == "residual"
    assert any("are corrected by what was learned" in said for said in corrected.assumptions)
    assert not [finding for finding in corrected.findings if finding.code == "what-if.outside-training"]


def test_links_outside_of_what_was_fitted_stay_as_they_are_and_are_named() -> None:
    plain = ask(None)

    report = ask(fitted(replace(WIDE, utilisation=0.01)), rung="residual")

    (marked,) = [finding for finding in report.findings if finding.code == "what-if.outside-training"]
    assert "busy up to 1%" in marked.message
    assert link("r2", "r3") in marked.message
    assert [flow.after for flow in report.flows] == [flow.after for flow in plain.flows]


def test_sweeps_are_not_corrected() -> None:
    with pytest.raises(ConfigError, match="a sweep is not corrected; sweep at tables"):
        ask(fitted(WIDE), rung="residual", changes=[], sweep={"kind": "failures"})


def test_the_command_fits_folders_of_samples_and_an_agent_can_read_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "samples", loads=(0.3, 0.5, 0.7))
    file = tmp_path / "residual.json"

    ran = CliRunner().invoke(
        app,
        ["residual", str(tmp_path / "samples"), "--out", str(file), "--json"],
        catch_exceptions=False,
    )

    told = json.loads(ran.stdout)
    found = Residual.load(file)
    assert (told["networks"], told["flows"]) == (3, found.flows)
    assert told["hull"]["rooms"] == [32.0, 32.0]
    assert 0.3 < found.hull.utilisation < 0.8
