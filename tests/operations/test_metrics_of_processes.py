"""What real processes show: every documented metric and no other, health, logs without secrets."""

from __future__ import annotations

import json
import re
import signal
import stat
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from small_federation import ROOT, Federation, eventually

from domain_twin.agent import metrics as agent
from domain_twin.emulator import metrics as emulator
from domain_twin.operations import process
from domain_twin.operations.instruments import Kind
from federation import metrics as broker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DECLARED = {"agent": agent.INSTRUMENTS, "broker": broker.INSTRUMENTS, "emulate": emulator.INSTRUMENTS}


def scrape(federation: Federation, kind: str) -> dict[str, object]:
    status, body = federation.get(kind, "/metrics", Accept=OPENMETRICS)
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(body)}


def value(families: dict[str, object], sample: str, **labels: str) -> float:
    found = [
        s.value
        for family in families.values()
        for s in family.samples  # type: ignore[attr-defined]
        if s.name == sample and s.labels == labels
    ]
    assert len(found) == 1, f"{sample} {labels}: {found}"
    return float(found[0])


@pytest.mark.parametrize("kind", DECLARED)
def test_what_is_shown_is_what_is_documented(federation: Federation, kind: str) -> None:
    families = scrape(federation, kind)

    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(fedtwin\w+)` \| (\w+) \|", page, re.MULTILINE))
    shown = {
        f"{name}_total" if family.type == "counter" else name: family.type  # type: ignore[attr-defined]
        for name, family in families.items()
    }
    ours = {name: word for name, word in shown.items() if name.startswith("fedtwin")}
    assert ours == {item.name: item.kind.value for item in (*process.INSTRUMENTS, *DECLARED[kind])}
    assert ours.items() <= documented.items()
    assert shown.keys() - ours.keys() == set(process.LIBRARY_METRICS)


@pytest.mark.parametrize("kind", DECLARED)
def test_every_declared_label_is_the_shown_one(federation: Federation, kind: str) -> None:
    families = scrape(federation, kind)

    for item in (*process.INSTRUMENTS, *DECLARED[kind]):
        family = families[item.name.removesuffix("_total")]
        for sample in family.samples:  # type: ignore[attr-defined]
            assert sample.labels.keys() - {"le"} == set(item.labels), item.name
            if item.kind is Kind.COUNTER:
                assert sample.value >= 0


def test_an_agent_in_step_shows_it(federation: Federation) -> None:
    def whole() -> dict[str, object] | None:
        families = scrape(federation, "agent")
        asked = any(s.labels.get("action") == "describe" for s in families["fedtwin_agent_asks"].samples)  # type: ignore[attr-defined]
        return families if asked and value(families, "fedtwin_agent_view_deltas_sent_total") else None

    families = eventually(whole, what="a view that was sent and a question that was answered")

    assert value(families, "fedtwin_agent_devices", connection="synchronised") == 4
    assert value(families, "fedtwin_agent_device_connection", device="upf-1", connection="synchronised") == 1
    assert value(families, "fedtwin_agent_device_updates_total", device="upf-1") > 50
    assert value(families, "fedtwin_agent_device_leaves", device="upf-1") > 50
    assert value(families, "fedtwin_agent_session_up") == 1
    assert value(families, "fedtwin_agent_sessions_total") == 1
    assert value(families, "fedtwin_agent_asks_total", action="describe", outcome="ok") >= 1
    assert 0 < value(families, "fedtwin_agent_certificate_expiry_seconds") <= 86_400
    assert value(families, "fedtwin_log_records_total", level="info") > 0


def test_a_broker_shows_its_domains_and_asks(federation: Federation) -> None:
    families = scrape(federation, "broker")

    assert value(families, "fedtwin_broker_domain_connected", domain="core") == 1
    assert value(families, "fedtwin_broker_sessions_total") == 1
    assert value(families, "fedtwin_broker_asks_total", domain="core", action="describe", outcome="ok") >= 1
    assert value(families, "fedtwin_broker_ask_duration_seconds_count", domain="core") >= 1
    assert value(families, "fedtwin_broker_storage_writable") == 1


def test_an_emulated_network_shows_who_looks_at_it(federation: Federation) -> None:
    families = scrape(federation, "emulate")

    assert value(families, "fedtwin_emulator_devices", up="yes") == 4
    assert value(families, "fedtwin_emulator_sessions", protocol="gnmi") == 4
    assert value(families, "fedtwin_emulator_packets_total", fate="delivered") > 0
    assert value(families, "fedtwin_emulator_lag_seconds") < 5


@pytest.mark.parametrize("kind", DECLARED)
def test_health_and_readiness_answer(federation: Federation, kind: str) -> None:
    status, body = federation.get(kind, "/healthz")
    ready_status, ready_body = federation.get(kind, "/readyz")

    assert (status, json.loads(body)["pid"]) == (200, federation.running[kind].popen.pid)
    assert ready_status == 200
    assert all(check["ok"] and check["detail"] for check in json.loads(ready_body)["checks"])


def test_a_storm_of_signals_changes_the_level_and_ends_nothing(federation: Federation) -> None:
    running = federation.running["agent"]
    for _ in range(200):
        running.popen.send_signal(signal.SIGHUP)
        running.popen.send_signal(signal.SIGUSR1)
        time.sleep(0.001)

    assert federation.ready("agent")["ready"]
    told = [json.loads(line) for line in running.text().splitlines() if "log level switched" in line]
    assert 0 < len(told) <= 60


def test_no_log_holds_a_secret(federation: Federation) -> None:
    """At debug level, with every process having used its password, keys and certificates."""
    folder = federation.folder
    secrets = [path.read_text().strip() for path in folder.rglob("password")]
    assert secrets
    assert all(secrets)
    keys = [path for path in folder.rglob("*") if path.is_file() and _private(path)]
    secrets += [
        line for path in keys for line in path.read_text(errors="replace").splitlines() if len(line) > 40
    ]
    assert len(keys) >= 6

    for name, running in federation.running.items():
        text = running.text()
        assert text, name
        assert "PRIVATE KEY" not in text, name
        assert [secret for secret in secrets if secret in text] == [], name


def _private(path: Path) -> bool:
    small = path.stat().st_size < 20_000 and stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    return small and b"PRIVATE KEY" in path.read_bytes()


def test_logs_are_one_typed_record_a_line(federation: Federation) -> None:
    for running in federation.running.values():
        records = [json.loads(line) for line in running.text().splitlines() if line.strip()]
        assert records
        assert all({"at", "level", "logger", "message"} <= record.keys() for record in records)
    attached = [r for r in map(json.loads, federation.running["broker"].text().splitlines()) if "peer" in r]
    assert attached


def test_a_lost_agent_is_said_and_each_process_ends_in_good_order(federation: Federation) -> None:
    """Last of this file: it ends the processes."""
    assert federation.running["agent"].end() == 0

    def not_ready() -> dict[str, object] | None:
        status, body = federation.get("broker", "/readyz")
        return json.loads(body) if status == 503 else None

    said = eventually(not_ready, what="a broker that misses a domain")
    assert "core" in str(said)
    assert [federation.running[kind].end() for kind in ("broker", "emulate")] == [0, 0]
    assert [path for path in federation.folder.rglob("metrics.address")] == []
