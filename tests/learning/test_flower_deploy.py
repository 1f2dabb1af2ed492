"""Folders for operators who run Flower: what is in them, that they are safe, and Flower's private parts."""

from __future__ import annotations

import inspect
import io
import json
import signal
import stat
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from learning_parts import TASK, panel

from domain_twin.errors import ConfigError, NotFound, Unreachable
from domain_twin.learning.flower import ConfigRecord, Context, Message, RecordDict, node_number, record_of
from domain_twin.learning.learner import learner
from domain_twin.learning.task import Privacy, Profile
from federation.learning import flower_app
from federation.learning.deploy import APP_FOLDER, Layout, superlink_command, supernode_command, write
from federation.learning.flower_app import load_panel, save_panel
from federation.learning.flower_control import Control, build_app, key_id, linked, store_app
from federation.learning.superlink import run

DOMAINS = ("ran", "core", "transport")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    out = tmp_path / "flower"
    write(out, Layout(TASK, DOMAINS))
    return out


def test_every_operator_gets_its_own_key_and_nobody_elses(folders: Path) -> None:
    keys = {domain: (folders / "nodes" / domain / "node.key").read_bytes() for domain in DOMAINS}

    assert len(set(keys.values())) == len(DOMAINS)
    for domain, data in keys.items():
        private = load_ssh_private_key(data, password=None)
        public = load_ssh_public_key((folders / "superlink" / "nodes" / f"{domain}.pub").read_bytes())
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert private.public_key() == public
    assert not list((folders / "superlink").rglob("node.key"))
    for path in folders.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_start_files_are_strict(folders: Path) -> None:
    superlink = (folders / "superlink" / "start.sh").read_text()
    nodes = [(folders / "nodes" / domain / "start.sh").read_text() for domain in DOMAINS]

    assert "--enable-supernode-auth" in superlink
    assert "--disable-runtime-dependency-installation" in superlink
    for text in nodes:
        assert "--trusted-entities" in text
        assert "--root-certificates" in text
        assert "--auth-supernode-private-key" in text
    for text in (superlink, *nodes):
        assert "--insecure" not in text
        assert "--allow-runtime-dependency-installation" not in text
        assert 'FLWR_TELEMETRY_ENABLED="0"' in text
        assert 'FLWR_DISABLE_UPDATE_CHECK="1"' in text
        assert 'FLWR_HOME="$here/state/flwr"' in text
        assert str(folders) not in text  # a folder is moved to its operator's machine
        assert subprocess.run(["sh", "-n"], input=text.encode(), check=False).returncode == 0
    ports = [text.split("--port")[1].split()[1] for text in nodes]
    assert len(set(ports)) == len(DOMAINS)


def test_options_are_ones_that_flower_knows(folders: Path) -> None:
    from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

    layout = Layout(TASK, DOMAINS)
    link = _parse_args_run_superlink().parse_args(superlink_command(folders / "superlink", layout)[1:])
    node = _parse_args_run_supernode().parse_args(
        supernode_command(folders / "nodes" / "ran", layout, "ran", 9101)[1:]
    )

    assert link.enable_supernode_auth
    assert not link.runtime_dependency_install
    assert not node.runtime_dependency_install
    assert not node.insecure


def test_node_configuration_is_read_as_it_is_written(folders: Path) -> None:
    from flwr.common.config import parse_config_args

    layout = Layout(TASK, DOMAINS, data={"ran": {"panel": "/data/my panel=1.npz"}})
    command = supernode_command(folders / "nodes" / "ran", layout, "ran", 9101)

    told = parse_config_args([command[-1]])

    assert told["domain"] == "ran"
    assert told["panel"] == "/data/my panel=1.npz"
    assert told["task"] == str(folders / "nodes" / "ran" / "task.json")


def test_app_is_the_same_bytes_everywhere_and_brings_no_code(folders: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", Layout(replace(TASK, rounds=9), ("a", "b")))

    app = build_app(folders / "superlink" / APP_FOLDER)

    assert app.id == "@fedtwin/fedtwin-learning"
    assert app == build_app(tmp_path / "again" / "superlink" / APP_FOLDER)
    with zipfile.ZipFile(io.BytesIO(app.content)) as held:
        code = {name: held.read(name).decode() for name in held.namelist() if name.endswith(".py")}
        project = tomllib.loads(held.read("pyproject.toml").decode())
    assert project["project"]["dependencies"] == []
    for name, text in code.items():
        lines = [line for line in text.splitlines() if line and not line.startswith(('"""', "__all__"))]
        assert all(line.startswith("from federation.learning.flower_app import ") for line in lines), name


def verified(folders: Path, app: Any, database: Path) -> bool:
    """Whether a node of `folders` takes the app that a SuperLink with `database` would give it."""
    import yaml
    from flwr.supernode.start_client_internal import _verify_fab

    with linked(database) as state:
        fab = state.get_fab(app.digest)
    trusted = yaml.safe_load((folders / "nodes" / "ran" / "trusted-entities.yaml").read_text())
    assert fab.verifications["valid_license"]
    return bool(_verify_fab(fab, trusted))


def test_nodes_take_the_app_with_our_signature_and_no_other(folders: Path, tmp_path: Path) -> None:
    write(tmp_path / "stranger", Layout(TASK, DOMAINS))
    app = build_app(folders / "superlink" / APP_FOLDER)
    ours, theirs = folders / "superlink" / "app.key", tmp_path / "stranger" / "superlink" / "app.key"

    store_app(app, tmp_path / "ours.db", [ours])
    store_app(app, tmp_path / "theirs.db", [theirs])
    store_app(app, tmp_path / "nobodys.db", [])

    assert verified(folders, app, tmp_path / "ours.db")
    assert not verified(folders, app, tmp_path / "theirs.db")
    assert not verified(folders, app, tmp_path / "nobodys.db")


def test_signature_does_not_hold_for_other_code(folders: Path, tmp_path: Path) -> None:
    app = build_app(folders / "superlink" / APP_FOLDER)
    store_app(app, tmp_path / "s.db", [folders / "superlink" / "app.key"])
    from flwr.supercore.fab import Fab
    from flwr.supernode.start_client_internal import _verify_fab

    with linked(tmp_path / "s.db") as state:
        signed = state.get_fab(app.digest)
    public = (folders / "nodes" / "ran" / "trusted-entities.yaml").read_text().split("'")[1]

    assert _verify_fab(signed, {key_id(public): public})
    assert not _verify_fab(Fab("", app.content + b"x", signed.verifications), {key_id(public): public})


def test_apps_are_signed_with_ed25519_only(folders: Path, tmp_path: Path) -> None:
    app = build_app(folders / "superlink" / APP_FOLDER)

    with pytest.raises(ConfigError, match="signed with Ed25519 keys"):
        store_app(app, tmp_path / "s.db", [folders / "nodes" / "ran" / "node.key"])


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(TASK, ("ran",)), "mistrustful needs 2"),
        (Layout(TASK, ("ran", "ran")), "needs 2 different ones"),
        (Layout(TASK, ("ran", "../core")), "make the name of a folder"),
        (Layout(replace(TASK, profile=Profile.PRIVATE, privacy=Privacy()), ("a", "b")), "private needs 3"),
        (Layout(replace(TASK, profile=Profile.PRIVATE), DOMAINS), "says its budget"),
        (Layout(TASK, DOMAINS, data={"ran": {"csv": 'a" task="/tmp/other'}}), "reads no quotes"),
    ],
)
def test_layout_that_cannot_be_trained_is_refused(tmp_path: Path, layout: Layout, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        write(tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(ConfigError, match="is not empty"):
        write(tmp_path, Layout(TASK, DOMAINS))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_folder_without_an_app_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write one with `fedtwin learn deploy`"):
        build_app(tmp_path)


def test_superlink_that_is_not_there_is_named(folders: Path) -> None:
    file = folders / "superlink" / "superlink.json"
    file.write_text(json.dumps({"host": "127.0.0.1", "port": 1}))

    with pytest.raises(Unreachable, match=r"no SuperLink answers at 127\.0\.0\.1:1"):
        run(folders / "superlink", timeout_s=5)


def test_private_parts_of_flowers_command_line_are_as_they_are_used() -> None:
    from flwr.cli.build import build_fab_from_disk
    from flwr.common.constant import NOOP_FLWR_AID
    from flwr.server.superlink.linkstate import LinkStateFactory
    from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.corestate.sql_corestate import SqlCoreState
    from flwr.supercore.fab import Fab
    from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign

    assert list(inspect.signature(build_fab_from_disk).parameters) == ["app"]
    assert list(inspect.signature(create_message_to_sign).parameters) == ["fab_digest", "timestamp"]
    assert list(inspect.signature(Fab).parameters) == ["hash_str", "content", "verifications"]
    assert [*inspect.signature(SqlCoreState.store_app).parameters][1:6] == [
        *("fab", "federation_id", "app_id", "app_type", "added_by"),
    ]
    assert next(iter(inspect.signature(LinkStateFactory).parameters)) == "database"
    for method in ("RegisterNode", "ListNodes", "StartRun", "ListRuns", "StopRun"):
        assert callable(getattr(ControlHttpClient, method))
    assert NOOP_FLWR_AID
    assert NOOP_FEDERATION_ID
    assert TaskType.SERVER_APP == "flwr-serverapp"
    assert {"admit", "online", "start", "status", "stop"} <= set(dir(Control))


# What a node's process does.


def told(folder: Path, task: Any = TASK, **settings: str) -> Context:
    (folder / "task.json").write_bytes(task.to_json())
    config = {"domain": "ran", "task": str(folder / "task.json"), "state": str(folder), **settings}
    return Context(1, node_number("ran"), config, RecordDict(), {})  # type: ignore[arg-type]


def asked(kind: str, task: Any = TASK) -> Message:
    content = RecordDict({"config": ConfigRecord({"task": task.to_json().decode(), "server-round": 1})})
    content["arrays"] = record_of(learner(task).initial(np.random.default_rng(task.seed)))
    message = Message(content, node_number("ran"), kind)
    message.metadata.__dict__["_message_id"] = "m"
    return message


def test_node_trains_on_its_panel(tmp_path: Path) -> None:
    save_panel(panel(1), tmp_path / "ran.npz")

    reply = flower_app.client(asked("train"), told(tmp_path, panel=str(tmp_path / "ran.npz")))

    assert not reply.has_error()
    assert next(iter(reply.content.array_records.values()))


@pytest.mark.parametrize("kind", ["query.statistics", "query.sums", "query.alone"])
def test_node_answers_all_that_rounds_ask(tmp_path: Path, kind: str) -> None:
    save_panel(panel(1), tmp_path / "ran.npz")

    reply = flower_app.client(asked(kind), told(tmp_path, panel=str(tmp_path / "ran.npz")))

    assert reply.has_content() or reply.error.reason == "malformed"  # not asked of this model


def test_node_trains_on_csv(tmp_path: Path) -> None:
    held = panel(1)
    rows = "\n".join(f"{60 * step},{held.values[0, step, 0]}" for step in range(held.steps))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "link-1.csv").write_text(f"time,utilisation\n{rows}\n")

    reply = flower_app.client(asked("evaluate"), told(tmp_path, csv=str(tmp_path / "csv")))

    assert not reply.has_error()


def test_node_trains_nothing_but_the_task_that_its_operator_agreed_to(tmp_path: Path) -> None:
    save_panel(panel(1), tmp_path / "ran.npz")
    held = told(tmp_path, panel=str(tmp_path / "ran.npz"))

    other = flower_app.client(asked("train", replace(TASK, rounds=7)), held)

    assert other.has_error()
    assert other.error.reason == "malformed"


def test_node_under_private_sends_nothing_plain(tmp_path: Path) -> None:
    save_panel(panel(1), tmp_path / "ran.npz")
    task = replace(TASK, profile=Profile.PRIVATE, privacy=Privacy())
    held = told(tmp_path, task, panel=str(tmp_path / "ran.npz"))

    for kind in ("train", "evaluate"):
        assert flower_app.client(asked(kind, task), held).has_error()


def test_node_without_data_says_so(tmp_path: Path) -> None:
    reply = flower_app.client(asked("train"), told(tmp_path, csv=str(tmp_path / "none")))

    assert reply.error.reason == "no-data"


def test_node_without_a_task_is_a_mistake_of_configuration(tmp_path: Path) -> None:
    held = Context(1, node_number("ran"), {"domain": "ran"}, RecordDict(), {})

    with pytest.raises(ConfigError, match="`domain` and `task`"):
        flower_app.client(asked("train"), held)


def test_panel_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_panel(replace(panel(3), known={"size_scv": 0.85}), tmp_path / "p.npz")
    back = load_panel(tmp_path / "p.npz")

    assert (back.elements, back.features, back.start, back.step_s, back.holdout_from) == (
        *(panel(3).elements, panel(3).features, panel(3).start, panel(3).step_s, panel(3).holdout_from),
    )
    assert back.known == {"size_scv": 0.85}
    np.testing.assert_array_equal(back.values, panel(3).values)


def test_panel_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04 half")

    with pytest.raises(ConfigError, match="no panel as save_panel writes it"):
        load_panel(tmp_path / "half.npz")
    with pytest.raises(NotFound, match="no such file"):
        load_panel(tmp_path / "none.npz")


# Supervision.

STUBBORN = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def supervised(seconds: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "federation.learning.supervise", sys.executable, "-c", STUBBORN, str(seconds)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    pids = [int(part) for part in process.stdout.readline().split()]
    process.stdout.close()
    return process, pids


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


@pytest.mark.parametrize("told_to", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_what_is_told_to_end(told_to: signal.Signals) -> None:
    process, pids = supervised(300)
    assert len(alive(pids)) == 2

    process.send_signal(told_to)
    process.wait(60)

    assert alive(pids) == []


def test_nothing_is_left_when_the_command_ends_by_itself() -> None:
    process, pids = supervised(0)

    assert process.wait(60) == 0
    assert alive(pids) == []


def test_exit_status_is_the_commands() -> None:
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    supervisor = [sys.executable, "-m", "federation.learning.supervise"]

    assert subprocess.run([*supervisor, *command], check=False).returncode == 7
