"""`fedtwin config check`: every kind of wrong file gets one clear row; the demo's own files are all fine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.cli.app import run
from federation.cli.checks import Report, Verdict, check_file
from federation.cli.demo.files import DemoFiles, write_all

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    folder = tmp_path_factory.mktemp("demo")
    files = write_all(folder, seed=1)
    for domain in ("ran", "transport", "core", "edge"):
        write_inventory(files, domain)
    return files


@pytest.fixture
def files(made: DemoFiles, tmp_path: Path) -> DemoFiles:
    folder = tmp_path / "d"
    shutil.copytree(made.folder, folder)
    return DemoFiles(folder, made.broker_address)


def write_inventory(files: DemoFiles, domain: str) -> None:
    keys = files.emulator / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    (keys / "known_hosts").write_text("[127.0.0.1]:8301 ssh-ed25519 AAAA\n")
    (keys / "password").write_text("secret")
    (keys / "password").chmod(0o600)
    files.inventory(domain).write_text(
        '[[device]]\nname = "d-1"\n[device.netconf]\naddress = "127.0.0.1:8301"\nusername = "twin"\n'
        'known_hosts = "keys/known_hosts"\npassword = "file:keys/password"\n'
    )


def wrong(report: Report) -> str:
    return "\n".join(f"{row.subject}: {row.text}" for row in report.rows if row.verdict is Verdict.WRONG)


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_demos_files_are_all_fine(files: DemoFiles) -> None:
    paths = [files.agent(d) for d in ("ran", "transport", "core", "edge")]
    reports = [check_file(p) for p in (*paths, files.broker, files.client, files.network, files.services)]

    assert [wrong(report) for report in reports] == [""] * 8
    assert [r.kind for r in reports] == ["agent"] * 4 + ["broker", "client", "network", "services"]


def test_a_wrong_key_is_named_with_what_is_meant(files: DemoFiles) -> None:
    report = check_file(change(files.agent("ran"), 'operator = "', 'opreator = "'))

    assert "no such key; did you mean 'operator'?" in wrong(report)
    assert "operator: this key is missing" in wrong(report)


def test_a_file_that_is_not_toml_says_where(files: DemoFiles) -> None:
    report = check_file(change(files.broker, 'id = "main"', 'id = "main'))

    assert "not valid TOML" in wrong(report)
    assert "line 2" in wrong(report)


def test_a_file_of_no_known_kind_says_what_each_has(tmp_path: Path) -> None:
    path = tmp_path / "what.toml"
    path.write_text("colour = 1\n")

    assert "no key tells what this file is" in wrong(check_file(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in wrong(check_file(tmp_path / "agent.toml"))


def test_an_expired_certificate_is_named(files: DemoFiles) -> None:
    authority = OperatorCA.load(files.folder / "ran" / "ca")
    long_ago = datetime.now(UTC) - timedelta(days=2)
    authority.issue(Role.AGENT, "ran", files.folder / "ran" / "pki", now=long_ago)

    report = wrong(check_file(files.agent("ran")))

    assert "agent-ran.pem: expired at" in report
    assert "renew it" in report


def test_a_certificate_of_another_identity_is_named(files: DemoFiles) -> None:
    pki = files.folder / "ran" / "pki"
    OperatorCA.load(files.folder / "ran" / "ca").issue(Role.AGENT, "transport", pki)
    for old in pki.glob("agent-transport*"):
        old.replace(pki / old.name.replace("transport", "ran"))

    report = wrong(check_file(files.agent("ran")))

    assert "is the certificate of spiffe://northcell.example/agent/transport" in report
    assert "this process is spiffe://northcell.example/agent/ran" in report


def test_a_key_of_another_certificate_is_named(files: DemoFiles) -> None:
    shutil.copy(files.folder / "core/pki/agent-core.key", files.folder / "ran/pki/agent-ran.key")

    assert "is not the key of" in wrong(check_file(files.agent("ran")))


def test_a_key_that_others_may_read_is_refused(files: DemoFiles) -> None:
    (files.folder / "ran/pki/agent-ran.key").chmod(0o644)

    assert "others may read this private key; run chmod 600" in wrong(check_file(files.agent("ran")))


def test_an_agent_as_the_broker_is_noticed(files: DemoFiles) -> None:
    path = change(
        files.agent("ran"), "spiffe://exchange.example/broker/main", "spiffe://exchange.example/agent/x"
    )

    assert "has the role agent, and the role broker belongs here" in wrong(check_file(path))


def test_two_operators_with_one_authority_are_refused(files: DemoFiles) -> None:
    shutil.copy(files.folder / "ran/ca/root.pem", files.folder / "core/ca/root.pem")

    assert "have a root with the same key, so each could speak for the other" in wrong(
        check_file(files.broker)
    )


def test_a_member_without_roots_is_named(files: DemoFiles) -> None:
    path = change(files.broker, '"edgeworks.example" = "../edge/ca/root.pem"', "")

    assert "member 'edge' belongs to 'edgeworks.example', which [trust] has no roots for" in wrong(
        check_file(path)
    )


def test_a_port_in_use_is_named(files: DemoFiles) -> None:
    host, _, port = files.broker_address.rpartition(":")
    with socket.socket() as other:
        other.bind((host, int(port)))
        other.listen()

        report = wrong(check_file(files.broker))

    assert f"{files.broker_address} cannot be listened on (Address already in use)" in report


def test_a_broker_on_a_port_in_use_ends_with_one_message(files: DemoFiles) -> None:
    host, _, port = files.broker_address.rpartition(":")
    with socket.socket() as other:
        other.bind((host, int(port)))
        other.listen()
        command = [sys.executable, "-m", "federation.cli", "broker", str(files.broker)]

        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert shown.returncode == 1
    assert shown.stderr.startswith(f"error: listen = '{files.broker_address}': cannot listen there")
    assert len(shown.stderr.splitlines()) == 1


def test_a_missing_password_and_host_key_are_named(files: DemoFiles) -> None:
    (files.emulator / "keys" / "password").unlink()
    (files.emulator / "keys" / "known_hosts").write_text("[127.0.0.1]:99 ssh-ed25519 AAAA\n")

    report = wrong(check_file(files.agent("ran")))

    assert "device d-1: secret file:" in report
    assert "has no host key for 127.0.0.1:8301" in report


def test_a_password_in_the_file_itself_is_refused(files: DemoFiles) -> None:
    path = change(files.inventory("ran"), "file:keys/password", "hunter2")

    report = wrong(check_file(path))

    assert "a secret is given by reference: env:NAME or file:PATH" in report


def test_an_alias_twice_is_refused(files: DemoFiles) -> None:
    path = change(files.agent("ran"), 'alias = "cell-2"', 'alias = "cell-1"')

    assert "alias 'cell-1' is used 2 times" in wrong(check_file(path))


def test_an_expired_agreement_is_named(files: DemoFiles) -> None:
    path = change(files.agent("ran"), 'level = "mesh"', 'level = "mesh"\nexpires = 2020-01-01T00:00:00Z')

    assert "agreement ran-exchange: expired 2020-01-01" in wrong(check_file(path))


def test_records_that_break_their_yang_module_are_named(files: DemoFiles) -> None:
    path = change(files.services, '"10.0"', '"soon"')

    report = wrong(check_file(path))

    assert "services.json" in report
    assert "one-way-delay" in report


def test_the_command_says_all_and_its_status_tells(
    files: DemoFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = change(files.client, 'address = "127.0.0.1', 'adress = "127.0.0.1')

    assert run(["config", "check", str(files.agent("ran"))]) == 0
    assert "agreement ran-exchange" in capsys.readouterr().out
    assert run(["config", "check", str(bad), str(files.agent("ran")), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [bool(item["rows"]) for item in document["files"]] == [True, True]


def test_the_examples_are_fine_once_certificates_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "four"
    shutil.copytree(ROOT / "examples" / "four_domains", folder)
    operators = {"ran": "northcell", "transport": "longhaul", "core": "corenova", "edge": "edgeworks"}
    exchange = OperatorCA.create("exchange.example", folder / "exchange" / "ca")
    exchange.issue(Role.BROKER, "main", folder / "exchange" / "pki", dns=["broker.exchange.example"])
    exchange.issue(Role.USER, "ada", folder / "client")
    files = DemoFiles(folder, "")
    for domain, operator in operators.items():
        authority = OperatorCA.create(f"{operator}.example", folder / domain / "ca")
        authority.issue(Role.AGENT, domain, folder / domain / "pki")
        write_inventory(files, domain)

    reports = [check_file(path) for path in (*folder.rglob("*.toml"), folder / "services.json")]

    assert [(str(report.file), wrong(report)) for report in reports if wrong(report)] == []
    assert sorted({report.kind for report in reports}) == [
        "agent", "agent inventory", "broker", "client", "network", "services",
    ]  # fmt: skip
