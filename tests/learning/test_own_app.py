"""A domain's own ClientApp (`[learning] app`): it is used, its faults stay its own, its poison fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_parts import DOMAINS, PLAN, TASK, panel, run, sources

from domain_twin.agent.learner_child import ChildSettings, _answered, _Work, own_app
from domain_twin.errors import ConfigError
from domain_twin.learning.client import client_app
from domain_twin.learning.task import Privacy, Profile
from federation.learning.grid import InProcess

GOOD = '''
"""Trains as FedTwin does, and keeps a note of it."""
from pathlib import Path
from domain_twin.learning.client import client_app as usual

def client_app(source, *, domain, task):
    Path(__file__).with_suffix(".used").write_text(f"{domain} {task.model}")
    return usual(source, domain=domain, task=task)
'''
POISON = '''
"""Sends the opposite of what it learned, many times over."""
from domain_twin.learning.client import client_app as usual
from domain_twin.learning.flower import ClientApp, Message, MetricRecord, RecordDict, arrays_in, record_of

def client_app(source, *, domain, task):
    inner, app = usual(source, domain=domain, task=task), ClientApp()

    @app.train()
    def train(message, context):
        base = arrays_in(next(iter(message.content.array_records.values())))
        reply = inner(message, context)
        made = arrays_in(next(iter(reply.content.array_records.values())))
        bad = {name: (base[name] - 20 * (made[name] - base[name])).astype(base[name].dtype) for name in base}
        said = MetricRecord({"num-examples": 10**9, "loss": 0.0})
        return Message(RecordDict({"arrays": record_of(bad), "metrics": said}), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        return inner(message, context)

    return app
'''


def written(folder: Path, text: str) -> Path:
    path = folder / "app.py"
    path.write_text(text)
    return path


def work(path: Path) -> _Work:
    return _Work(ChildSettings("core", str(path.parent), 1 << 32, 15_000_000, app=str(path)))


def test_a_domains_own_app_answers_its_rounds(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    child = work(path)

    child.check(TASK.to_json())
    child.open("r", TASK.to_json(), panel(0))

    assert path.with_suffix(".used").read_text() == "core load"


def test_it_is_read_when_a_training_begins(tmp_path: Path) -> None:
    path = written(tmp_path, "client_app = 1 / 0")
    child = work(path)
    with pytest.raises(ConfigError):
        child.open("r", TASK.to_json(), panel(0))

    path.write_text(GOOD)  # mended while the process runs
    child.open("r", TASK.to_json(), panel(0))

    assert path.with_suffix(".used").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def app(): ...\n", "has no function client_app(source, *, domain, task)"),
        ("client_app = 3\n", "has no function client_app(source, *, domain, task)"),
        (
            "raise RuntimeError('customer 4711')\n",
            "cannot be used for learning (RuntimeError: customer 4711)",
        ),
        ("raise SystemExit(3)\n", "cannot be used for learning (SystemExit: 3)"),
        ("def client_app(:\n", "cannot be used for learning (SyntaxError: "),
        (None, "cannot be used for learning (FileNotFoundError: "),
    ],
)
def test_the_operator_learns_what_is_wrong_and_nobody_else_does(
    tmp_path: Path, text: str | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "app.py" if text is None else written(tmp_path, text)

    with pytest.raises(ConfigError) as raised:
        own_app(path)
    ok, answer = _answered(work(path), "check", (TASK.to_json(),))

    assert str(raised.value).startswith(f"{path}: {words}")
    assert (ok, answer) == (
        False,
        ("ConfigError", "core cannot use its own app for learning; its log says why"),
    )
    assert f"{path}: {words}" in caplog.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError(f'{source(task).elements[0]} fell silent')", "secret-link-0-0 fell silent"),
        ("return 3", "client_app answered int, not a ClientApp of Flower"),
    ],
)
def test_an_app_that_cannot_be_made_says_nothing_of_the_data(
    tmp_path: Path, body: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, f"def client_app(source, *, domain, task):\n    {body}\n")

    ok, answer = _answered(work(path), "open", ("r", TASK.to_json(), panel(0)))

    assert (ok, answer) == (
        False,
        ("ConfigError", "core cannot use its own app for learning; its log says why"),
    )
    assert words in caplog.text


def test_under_private_it_is_not_used(tmp_path: Path) -> None:
    private = replace(TASK, profile=Profile.PRIVATE, privacy=Privacy())
    child = work(tmp_path / "missing.py")

    child.check(private.to_json())
    child.open("r", private.to_json(), panel(0))


def test_a_poisoned_app_does_not_spoil_what_others_learn(tmp_path: Path) -> None:
    bad = own_app(written(tmp_path, POISON))
    held = sources()
    liars = {
        name: (bad if name == "transport" else client_app)(source, domain=name, task=TASK)
        for name, source in held.items()
    }
    honest = {name: client_app(source, domain=name, task=TASK) for name, source in held.items()}
    plan = replace(PLAN, explain=False)

    with InProcess(liars) as carrier:
        poisoned = run(carrier, plan=plan)
    with InProcess({name: app for name, app in honest.items() if name != "transport"}) as carrier:
        among_themselves = run(carrier, plan=plan)

    assert poisoned.accepted >= 2
    assert all(np.isfinite(array).all() for array in poisoned.arrays.values())
    first = poisoned.scores["first"]["loss"]
    for name in set(DOMAINS) - {"transport"}:
        own = poisoned.scores[f"operator:{name}"]["loss"]
        assert own < 1.15 * among_themselves.scores[f"operator:{name}"]["loss"]
    assert poisoned.scores["model"]["loss"] < 0.9 * first
