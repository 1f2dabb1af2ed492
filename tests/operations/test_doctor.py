"""`fedtwin doctor`: a healthy federation is all OK; each planted defect is named, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_federation import Federation

from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.cli.app import run
from federation.cli.checks import Report, Verdict
from federation.cli.doctor.examine import examine

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

Plant = Callable[[Federation], None]


def problems(reports: list[Report]) -> set[str]:
    """Subjects of what is not fine."""
    return {row.subject for report in reports for row in report.rows if row.verdict is not Verdict.FINE}


def told(reports: list[Report]) -> str:
    return "\n".join(
        f"{row.verdict} {row.subject}: {row.text} $ {row.remedy}"
        for report in reports
        for row in report.rows
        if row.verdict is not Verdict.FINE
    )


def change(path: Path, pattern: str, new: str) -> None:
    text = path.read_text()
    changed, number = re.subn(pattern, new, text, count=1)
    assert number == 1, f"{path} has no {pattern}"
    path.write_text(changed)


@pytest.fixture
def copied(federation: Federation, tmp_path: Path) -> Federation:
    """The same configuration with a state of its own: of an agent that does not run."""
    folder = tmp_path / "c"
    sockets = shutil.ignore_patterns("*.sock", "state", "metrics.address")
    shutil.copytree(federation.folder, folder, ignore=sockets)
    return Federation(folder, federation.broker_port)


def test_a_healthy_federation_is_all_fine(federation: Federation) -> None:
    reports = examine([federation.agent, federation.broker, federation.client, federation.network])

    assert told(reports) == ""
    subjects = {row.subject for report in reports for row in report.rows}
    assert {
        "python",
        "broker session",
        "broker tls",
        "device upf-1 gnmi read",
        "device upf-1 netconf login",
    } <= (subjects)
    assert {
        "checkpoint",
        "history",
        "ready: devices",
        "listen",
        "chain",
        "broker access",
        "space",
    } - subjects <= {
        "checkpoint"  # not written in the first minute
    }


def test_an_agent_that_does_not_run_would_be_accepted(copied: Federation, federation: Federation) -> None:
    before = federation.get("broker", "/metrics")[1]

    reports = examine([copied.agent])

    assert told(reports) == ""
    (row,) = [row for row in reports[1].rows if row.subject == "broker session"]
    assert "would accept domain core" in row.text
    assert not (copied.folder / "core" / "state").exists()  # it changed nothing
    opened = re.search(r"fedtwin_broker_sessions_total (\S+)", before)
    again = re.search(r"fedtwin_broker_sessions_total (\S+)", federation.get("broker", "/metrics")[1])
    assert opened
    assert again
    assert opened[1] == again[1]


def wrong_root(f: Federation) -> None:
    change(f.agent, r"\.\./exchange/ca/root\.pem", "ca/root.pem")


def expired_certificate(f: Federation) -> None:
    authority = OperatorCA.load(f.folder / "core" / "ca")
    authority.issue(Role.AGENT, "core", f.folder / "core" / "pki", now=datetime.now(UTC) - timedelta(days=2))


def future_certificate(f: Federation) -> None:
    authority = OperatorCA.load(f.folder / "core" / "ca")
    authority.issue(Role.AGENT, "core", f.folder / "core" / "pki", now=datetime.now(UTC) + timedelta(days=2))


def ending_certificate(f: Federation) -> None:
    authority = OperatorCA.load(f.folder / "core" / "ca")
    issued = datetime.now(UTC) - timedelta(hours=21)
    authority.issue(Role.AGENT, "core", f.folder / "core" / "pki", now=issued)


def readable_key(f: Federation) -> None:
    (f.folder / "core/pki/agent-core.key").chmod(0o644)


def mismatched_key(f: Federation) -> None:
    shutil.copy(f.folder / "exchange/pki/broker-main.key", f.folder / "core/pki/agent-core.key")


def missing_certificate(f: Federation) -> None:
    (f.folder / "core/pki/agent-core.pem").unlink()


def other_identity(f: Federation) -> None:
    pki = f.folder / "core" / "pki"
    OperatorCA.load(f.folder / "core" / "ca").issue(Role.AGENT, "edge", pki)
    for path in pki.glob("agent-edge*"):
        path.replace(pki / path.name.replace("edge", "core"))


def closed_port(f: Federation) -> None:
    change(f.agent, r'address = "127\.0\.0\.1:\d+"', f'address = "127.0.0.1:{free_port()}"')


def unknown_name(f: Federation) -> None:
    change(f.agent, r'address = "127\.0\.0\.1', 'address = "broker.nowhere.invalid')


def wrong_server_name(f: Federation) -> None:
    change(f.agent, r'server_name = "broker\.', 'server_name = "other.')


def other_broker(f: Federation) -> None:
    change(f.agent, r"broker/main", "broker/second")


def unknown_authority(f: Federation) -> None:
    shutil.rmtree(f.folder / "core" / "ca")
    authority = OperatorCA.create("corenova.example", f.folder / "core" / "ca")
    authority.issue(Role.AGENT, "core", f.folder / "core" / "pki")


def no_member(f: Federation) -> None:
    change(f.agent, r'domain = "core"', 'domain = "edge"')
    other_identity(f)
    for path in (f.folder / "core" / "pki").glob("agent-core*"):
        path.replace(path.with_name(path.name.replace("core", "edge")))
    f.agent.write_text(f.agent.read_text().replace("pki/agent-core", "pki/agent-edge"))


def bad_toml(f: Federation) -> None:
    change(f.agent, r'operator = "corenova', "operator = corenova")


def unknown_key(f: Federation) -> None:
    change(f.agent, r"server_name", "servername")


def open_metrics(f: Federation) -> None:
    change(f.agent, r'listen = "127\.0\.0\.1', 'listen = "0.0.0.0')


def missing_module(f: Federation) -> None:
    change(f.inventory, r'name = "amf-1"', 'name = "amf-1"\npaths = ["/acme-router:router"]')


def wrong_host_key(f: Federation) -> None:
    known = f.inventory.parent / re.search(r'known_hosts = "([^"]+)"', f.inventory.read_text())[1]  # type: ignore[index]
    lines = known.read_text().splitlines()
    keys = [line.split(" ", 1)[1] for line in lines]
    known.write_text(
        "\n".join(f"{line.split(' ', 1)[0]} {keys[i - 1]}" for i, line in enumerate(lines)) + "\n"
    )


def wrong_password(f: Federation) -> None:
    password = f.inventory.parent / re.search(r'password = "file:([^"]+)"', f.inventory.read_text())[1]  # type: ignore[index]
    password.write_text("not the password")
    password.chmod(0o600)


def device_gone(f: Federation) -> None:
    change(f.inventory, r'(\[device\.gnmi\]\naddress = )"[^"]+"', rf'\1"127.0.0.1:{free_port()}"')


def wrong_device_root(f: Federation) -> None:
    shutil.copy(f.folder / "exchange/ca/root.pem", f.folder / "devices" / "other.pem")
    change(f.inventory, r'root = "[^"]+"', 'root = "other.pem"')


def leftover_socket(f: Federation) -> None:
    state = f.folder / "core" / "state"
    state.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(state / "agent.sock"))


def damaged_checkpoint(f: Federation) -> None:
    state = f.folder / "core" / "state"
    state.mkdir(mode=0o700)
    (state / "checkpoint.parquet").write_bytes(b"PAR1 rubbish PAR1")


def damaged_history(f: Federation) -> None:
    folder = f.folder / "core" / "state" / "history" / "changes" / "day=2026-01-01"
    folder.mkdir(parents=True)
    (f.folder / "core" / "state").chmod(0o700)
    (folder / "00.parquet").write_bytes(b"rubbish")


def damaged_instance(f: Federation) -> None:
    state = f.folder / "core" / "state"
    state.mkdir(mode=0o700)
    (state / "instance.json").write_text("{")


def clock_set_back(f: Federation) -> None:
    state = f.folder / "core" / "state"
    state.mkdir(mode=0o700)
    (state / "note").touch()
    ahead = time.time() + 7200
    os.utime(state / "note", (ahead, ahead))


def open_state(f: Federation) -> None:
    (f.folder / "core" / "state").mkdir()
    (f.folder / "core" / "state").chmod(0o755)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


DEFECTS: list[tuple[Plant, str, str]] = [
    (wrong_root, r"broker tls", "was not issued under"),
    (expired_certificate, r"identity|broker (tls|session)", "expired at"),
    (future_certificate, r"identity|broker (tls|session)", "check this machine's clock"),
    (ending_certificate, r"(signing )?certificate", "most of its"),
    (readable_key, r"identity|broker session", "chmod 600"),
    (mismatched_key, r"identity|broker tls", "is not the key of"),
    (missing_certificate, r"identity|broker tls", "cannot be read"),
    (
        other_identity,
        r"identity|broker session",
        "is the certificate of spiffe://corenova.example/agent/edge",
    ),
    (closed_port, r"broker tcp", "Connection refused"),
    (unknown_name, r"broker dns", "has no address"),
    (wrong_server_name, r"broker tls", "is not one for 'other.exchange.example'"),
    (other_broker, r"broker identity", "the configuration says spiffe://exchange.example/broker/second"),
    (unknown_authority, r"broker tls", "does not accept our certificate"),
    (no_member, r"broker session", "is no member of this federation"),
    (bad_toml, r"keys", "not valid TOML"),
    (unknown_key, r"keys", "did you mean 'server_name'"),
    (open_metrics, r"keys", "can be reached from other machines"),
    (missing_module, r"device amf-1.*", "acme-router"),
    (wrong_host_key, r"device .* netconf host key", "and .* pins SHA256:"),
    (wrong_password, r"device .* netconf login", "refuses"),
    (device_gone, r"device .* gnmi tcp", "Connection refused"),
    (wrong_device_root, r"device .* gnmi tls", "is not signed by"),
    (leftover_socket, r"agent", "was left by an agent"),
    (damaged_checkpoint, r"checkpoint", "cannot be used"),
    (damaged_history, r"history", "damaged"),
    (damaged_instance, r"instance", "cannot be read"),
    (clock_set_back, r"clock", "in the future"),
    (open_state, r"state folder", "others may look into"),
]


@pytest.mark.parametrize(("plant", "subject", "text"), DEFECTS, ids=[item[0].__name__ for item in DEFECTS])
def test_a_planted_defect_is_named_and_no_other(
    copied: Federation, plant: Plant, subject: str, text: str
) -> None:
    plant(copied)

    reports = examine([copied.agent])

    found = problems(reports)
    assert found, "nothing was found"
    assert [name for name in found if not re.fullmatch(subject, name)] == [], told(reports)
    assert re.search(text, told(reports)), told(reports)


def test_a_full_disk_is_named(copied: Federation) -> None:
    reports = examine([copied.agent], free_mb=1e12)

    assert problems(reports) == {"space"}


def test_a_foreign_process_at_the_brokers_port_is_named(copied: Federation) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        change(
            copied.broker, r'listen = "127\.0\.0\.1:\d{4,}"', f'listen = "127.0.0.1:{other.getsockname()[1]}"'
        )

        assert problems(examine([copied.broker])) == {"listen"}


def test_an_engineer_without_access_is_told(copied: Federation) -> None:
    shutil.rmtree(copied.folder / "client")
    authority = OperatorCA.load(copied.folder / "core" / "ca")
    authority.issue(Role.USER, "ada", copied.folder / "client")

    assert problems(examine([copied.client])) == {"broker access"}


def test_one_device_is_looked_at_alone(copied: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(copied.agent), "--device", "upf-1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert document["ok"]
    names = {
        r["subject"].split()[1] for r in document["files"][1]["rows"] if r["subject"].startswith("device ")
    }
    assert names == {"upf-1"}
    assert run(["doctor", str(copied.agent), "--device", "nobody"]) == 1
    assert "there are amf-1, smf-1" in capsys.readouterr().err


def test_the_exit_status_tells(copied: Federation, capsys: pytest.CaptureFixture[str]) -> None:
    readable_key(copied)

    assert run(["doctor", str(copied.agent), "--problems"]) == 1
    assert "FAIL" in capsys.readouterr().out
    assert run(["doctor"]) == 0
