"""What agents answer over their sessions while they train, decrypted: no sample of any domain is in it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from learning_session_parts import TASK, LearningFederation, ended

from domain_twin.learning.panel import Panel
from domain_twin.learning.run import RunState
from domain_twin.learning.task import Task

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))
from raw_samples import Scanner


async def test_no_answer_of_a_training_carries_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Arrange
    federation = LearningFederation(tmp_path)
    panels: dict[str, Panel] = {}
    task = replace(TASK, rounds=1)
    async with federation.running() as broker, federation.client(broker) as client:
        for name, domain in federation.domains.items():
            made = domain.learning._panel

            async def kept(of: Task, now: int, *, name: str = name, made: object = made) -> Panel:
                panels[name] = await made(of, now)  # type: ignore[operator]
                return panels[name]

            monkeypatch.setattr(domain.learning, "_panel", kept)
        # Act
        run = await ended(client, await client.start(task))
        # Assert
        assert (run.state, run.problem) == (RunState.DONE, "")
        assert set(panels) == set(federation.domains)
        for name, domain in federation.domains.items():
            scanner = Scanner(panels[name], task)
            said = [answer.SerializeToString() for answer in domain.answers]
            assert sum(map(len, said)) > 1000
            assert [scanner.findings(data) for data in said] == [[]] * len(said)
            planted = said[-1] + panels[name].values[0, 5:7, 0].astype("<f4").tobytes()
            assert scanner.findings(planted)
