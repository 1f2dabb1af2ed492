"""Trainings over real sessions: asked of a real broker, worked on by real agents' processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from learning_session_parts import TASK, LearningFederation, ended

from domain_twin.learning.run import RunState


@pytest.fixture
def federation(tmp_path: Path) -> LearningFederation:
    return LearningFederation(tmp_path)


async def test_three_domains_train_a_model_and_use_it(federation: LearningFederation) -> None:
    async with federation.running() as broker, federation.client(broker) as client:
        # Act
        run = await ended(client, await client.start(TASK))
        # Assert
        assert (run.state, run.problem) == (RunState.DONE, "")
        print(run)
        print(await client.models())
