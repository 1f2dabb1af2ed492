"""What agents answer over their sessions while they train, decrypted: no sample of any domain is in it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from learning_session_parts import TASK, LearningFederation, ended

from domain_twin.agent.learning import UNJUDGED
from domain_twin.errors import ContractError
from domain_twin.learning.panel import Panel
from domain_twin.learning.run import RunState
from domain_twin.learning.task import Kind, Privacy, Profile, Task
from domain_twin.trust.audit_files import records

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))
from raw_samples import Scanner


async def test_no_answer_of_a_training_carries_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Arrange
    federation = LearningFederation(tmp_path)
    panels: dict[str, Panel] = {}
    task = replace(TASK, rounds=1)
    # It spends 7.8 of the 8 that each domain has.
    privacy = Privacy(epsilon=20.0, noise_multiplier=1.3)
    noised = replace(
        task, model="telemetry", kind=Kind.GAN, profile=Profile.PRIVATE, privacy=privacy, settings={}
    )
    async with federation.running() as broker, federation.client(broker) as client:
        for name, domain in federation.domains.items():
            made = domain.learning._panel

            async def kept(of: Task, now: int, *, name: str = name, made: object = made) -> Panel:
                panels[name] = await made(of, now)  # type: ignore[operator]
                return panels[name]

            monkeypatch.setattr(domain.learning, "_panel", kept)
        # Act
        run = await ended(client, await client.start(task))
        told = await ended(client, await client.start(noised))
        again = await ended(client, await client.start(replace(noised, model="telemetry-2")))
        # Assert
        assert (run.state, run.problem) == (RunState.DONE, "")
        assert (told.state, told.problem) == (RunState.DONE, "")
        card = (await client.card("telemetry")).card
        assert (card.contributors, card.scores) == (tuple(sorted(federation.domains)), {})
        assert card.privacy_spent == pytest.approx(dict.fromkeys(federation.domains, 7.82), abs=0.01)
        trail = list(records(tmp_path / "broker" / "learning" / "rounds"))
        (made,) = [r.data for r in trail if (r.kind, r.data.get("run")) == ("version", told.id)]
        assert (made["delta"], made["noise_multiplier"]) == ("1e-05", "1.3")
        assert {float(epsilon) for epsilon in made["epsilon"].values()} == set(card.privacy_spent.values())
        assert again.state is RunState.FAILED
        assert "edge has too little of its privacy left" in again.problem
        ran = federation.domains["ran"].learning
        assert (ran.store.in_service("telemetry"), ran.store.get("telemetry").reason) == (1, UNJUDGED)
        with pytest.raises(ContractError, match="own statistics would bear no noise"):
            await ran.own("telemetry", 0)
        assert set(panels) == set(federation.domains)
        for name, domain in federation.domains.items():
            scanner = Scanner(panels[name], task)
            said = [answer.SerializeToString() for answer in domain.answers]
            assert sum(map(len, said)) > 1000
            assert [scanner.findings(data) for data in said] == [[]] * len(said)
            planted = said[-1] + panels[name].values[0, 5:7, 0].astype("<f4").tobytes()
            assert scanner.findings(planted)
