"""The same training as a Flower app: what a SuperLink's ServerApp and a SuperNode's ClientApp run.

Owns what run and node configuration mean. The app folder that `deploy.py` writes holds two lines that import
from here: what runs in a domain is what the domain installed, and a task is data. Flower starts a process for
every message, so this module imports late and keeps nothing between messages.

A node's configuration: `domain`, its name; `csv`, the folder with its files (or `panel`, a file of
`save_panel`); `task`, the file of the task that its operator agreed to; `state`, the folder of its privacy
ledger; `epsilon` and `delta`, its own limit.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from domain_twin.errors import ConfigError, NotFound
from domain_twin.learning.flower import ClientApp, Context, Grid, Message, ServerApp

if TYPE_CHECKING:
    from domain_twin.learning.panel import Panel
    from domain_twin.learning.task import Task
    from federation.learning.reports import Outcome, RoundReport

__all__ = ["OUT", "client", "load_panel", "save_panel", "server"]

OUT: Final = "FEDTWIN_LEARN_OUT"
"""Environment of the SuperLink: the folder that results are written to, one folder a run."""

log = logging.getLogger(__name__)

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, held: Context) -> Message:
    """Train in this domain."""
    return _domain_app(held)(message, held)


@client.evaluate()
def evaluate(message: Message, held: Context) -> Message:
    """Judge in this domain."""
    return _domain_app(held)(message, held)


@client.query("statistics")
def statistics(message: Message, held: Context) -> Message:
    """Say what scalers are made of."""
    return _domain_app(held)(message, held)


@client.query("sums")
def sums(message: Message, held: Context) -> Message:
    """Tell the sums that a model is fitted from in one round."""
    return _domain_app(held)(message, held)


@client.query("alone")
def alone(message: Message, held: Context) -> Message:
    """Judge what the domain learns alone."""
    return _domain_app(held)(message, held)


@server.main()
def main(grid: Grid, held: Context) -> None:
    """Train the task of the run's configuration, and write what came of it."""
    from domain_twin.learning.arrays import encode_arrays
    from domain_twin.learning.task import Task
    from federation.learning.rounds import Plan
    from federation.learning.rounds import train as train_rounds

    told = held.run_config
    task = Task.from_json(str(told["task"]).encode())
    names = {int(node): str(name) for node, name in json.loads(str(told["nodes"])).items()}
    plan = Plan(
        deadline_s=float(told["deadline-s"]), min_domains=max(2, len(names)), explain=bool(told["explain"])
    )
    folder = Path(os.environ.get(OUT) or os.environ["FLWR_HOME"]) / str(held.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    reports: list[RoundReport] = []

    def keep(report: RoundReport) -> None:
        reports.append(report)
        _write(folder / "rounds.json", json.dumps([one.as_record() for one in reports], indent=1).encode())

    outcome = train_rounds(
        task, grid, plan=plan, on_round=keep, name_of=lambda node: names.get(node, str(node))
    )
    _write(folder / "model.npz", encode_arrays(outcome.arrays))
    _write(folder / "outcome.json", json.dumps(_plain(outcome), indent=1).encode())


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "accepted": outcome.accepted,
        "contributors": list(outcome.contributors),
        "scores": {row: dict(cells) for row, cells in outcome.scores.items()},
        "gains": dict(outcome.gains),
        "privacy_spent": dict(outcome.privacy_spent),
        "notes": list(outcome.notes),
        "problem": outcome.problem,
    }


def _domain_app(held: Context) -> ClientApp:
    """The ClientApp of the domain that this node's configuration describes. Raises ConfigError."""
    from domain_twin.learning.client import client_app
    from domain_twin.learning.task import Profile, Task

    told = held.node_config
    try:
        domain = str(told["domain"])
        agreed = Task.from_json(Path(str(told["task"])).read_bytes())
    except (KeyError, OSError) as error:
        raise ConfigError(f"--node-config: `domain` and `task` (a file) must be given ({error})") from None
    if agreed.profile is not Profile.PRIVATE:
        return client_app(lambda task: _panel(told, task), domain=domain, task=agreed)
    from domain_twin.learning.ledger import Ledger
    from domain_twin.learning.private import private_app

    ledger = Ledger(
        Path(str(told["state"])) / "privacy.json",
        epsilon=float(told.get("epsilon", 8.0)),
        delta=float(told.get("delta", 1e-5)),
    )
    return private_app(lambda task: _panel(told, task), domain=domain, ledger=ledger, task=agreed)


def _panel(told: Any, task: Task) -> Panel:
    """The data that the node's configuration names. Raises NotFound, ConfigError."""
    if "panel" in told:
        return load_panel(Path(str(told["panel"])))
    from domain_twin.learning.csv_data import panel_of

    folder = Path(str(told.get("csv", "")))
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise NotFound(f"{folder}: no CSV file to learn from")
    return panel_of(task, files)


def save_panel(panel: Panel, path: Path) -> None:
    """Write `panel` to a file that `load_panel` reads; it holds raw samples and stays in the domain."""
    import numpy as np

    with path.open("wb") as file:
        np.savez(
            file,
            elements=np.array(panel.elements),
            features=np.array(panel.features),
            values=panel.values,
            grid=np.array([panel.start, panel.holdout_from], np.int64),
            step_s=np.array(panel.step_s),
            known=np.array([json.dumps(dict(panel.known))]),
        )


def load_panel(path: Path) -> Panel:
    """The panel that `save_panel` wrote. Raises NotFound, ConfigError."""
    from zipfile import BadZipFile

    import numpy as np

    from domain_twin.learning.panel import Panel

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            start, holdout_from = (int(value) for value in held["grid"])
            return Panel(
                tuple(map(str, held["elements"])),
                tuple(map(str, held["features"])),
                np.asarray(held["values"], np.float64),
                start,
                float(held["step_s"]),
                holdout_from,
                json.loads(str(held["known"][0])) if "known" in held else {},
            )
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; write it with save_panel") from None
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise ConfigError(f"{path}: no panel as save_panel writes it ({error})") from None


def _write(path: Path, data: bytes) -> None:
    written = path.with_name(path.name + ".new")
    written.write_bytes(data)
    written.replace(path)
