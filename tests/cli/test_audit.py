from __future__ import annotations

import json
from pathlib import Path

import pytest

from domain_twin.config import AuditConfig, IdentityConfig
from domain_twin.trust.audit_files import segments
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.identity import Role
from federation.cli.app import run

WHO = "spiffe://northcell.example/agent/ran"
BROKER = "spiffe://exchange.example/broker/main"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with agent.toml, the audit that this agent left, and its operator's root."""
    ca = OperatorCA.create("northcell.example", tmp_path / "ca")
    issued = ca.issue(Role.AGENT, "ran", tmp_path / "ran")
    identity = IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )
    keys = load_identity(identity, operator="northcell.example", role=Role.AGENT, name="ran")
    (tmp_path / "agent.toml").write_text(
        'domain = "ran"\noperator = "northcell.example"\nstate = "state"\n[identity]\n'
        + "\n".join(f'{name} = "{path}"' for name, path in identity.model_dump().items())
    )
    log = AuditLog(
        tmp_path / "state" / "audit", who=WHO, identity=lambda: keys, config=AuditConfig(segment_bytes=4096)
    )
    for number in range(10):
        log.append("disclosed", peer=BROKER, action="evaluate", bytes=number)
    log.append("refused", peer=BROKER, action="view", reason="too fine", outcome="not shared")
    log.append("disclosed", peer="spiffe://other.example/broker/b", action="describe")
    log.close()
    (tmp_path / "root.pem").write_bytes(ca.root.read_bytes())
    return tmp_path


def test_a_whole_audit_is_said_to_be_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["audit", "verify", str(place / "agent.toml"), "--root", str(place / "root.pem")])

    told = capsys.readouterr().out
    assert status == 0
    assert "every record follows from the one before" in told
    assert "Note" not in told


def test_a_changed_record_is_named_with_its_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = segments(place / "state" / "audit")[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"evaluate", b"describe")
    path.write_bytes(b"".join(lines))

    status = run(["audit", "verify", str(place / "state"), "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 1
    assert told["whole"] is False
    assert (told["report"]["fault"]["file"], told["report"]["fault"]["line"]) == (path.name, 5)
    assert run(["audit", "verify", str(place / "agent.toml")]) == 1
    assert "line 5" in capsys.readouterr().out


def test_an_audit_of_another_operator_is_not_taken(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = OperatorCA.create("northcell.example", place / "other").root

    assert run(["audit", "verify", str(place / "agent.toml"), "--root", str(other)]) == 1
    assert "does not chain to the roots" in capsys.readouterr().out


def test_what_the_other_side_noted_is_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trail = next(iter((place / "state" / "audit").glob("head.json")))
    head = json.loads(trail.read_text())
    other = AuditLog(place / "broker" / "audit", who=BROKER)
    other.append("peer-head", trail=head["trail"], seq=head["seq"] + 5, sha256="0" * 64)
    other.close()

    status = run(["audit", "verify", str(place / "state"), "--against", str(place / "broker")])

    assert status == 1
    assert "cut off" in capsys.readouterr().out


def test_records_are_found_by_peer_action_and_time(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def count(*words: str) -> int:
        assert run(["audit", "show", str(place / "agent.toml"), "--json", *words]) == 0
        return len(json.loads(capsys.readouterr().out)["records"])

    assert count("--peer", BROKER) == 11
    assert count("--action", "refused") == 1
    assert count("--action", "evaluate") == 10
    assert count("--since", "1h", "--peer", "spiffe://other.example/broker/b") == 1
    assert run(["audit", "show", str(place / "agent.toml"), "--action", "refused"]) == 0
    assert "not" in capsys.readouterr().out


def test_an_export_has_one_event_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "export", str(place / "agent.toml"), "--ocsf", "--action", "refused"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["class_uid"], json.loads(line)["status_id"]) == (6003, 2)

    assert run(["audit", "export", str(place / "agent.toml")]) == 0
    whole = b"".join(path.read_bytes() for path in segments(place / "state" / "audit"))
    assert capsys.readouterr().out.encode() == whole


def test_a_place_without_an_audit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: there is no audit" in capsys.readouterr().err
