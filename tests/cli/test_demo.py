"""The demo as a newcomer runs it: whole, interrupted, killed, kept. Real processes, real protocols."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from partner_commands import use_as_partner

from domain_twin.emulator.assemble import _paths
from domain_twin.emulator.network import load_network
from domain_twin.emulator.topology import build_topology
from domain_twin.emulator.traffic import plan_flows
from federation.cli.demo.files import published_by, service_records
from federation.client import TwinClient

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
FEDTWIN = [sys.executable, "-m", "federation.cli"]
WHATIF = Path(__file__).resolve().parents[2] / "examples" / "whatif"
EXAMPLES = {
    "config-edit": "transport",
    "drain-link": "transport",
    "single-failures": "transport",
    "growth": "transport",
    "busy-cell": "ran",
    "upf-worker": "core",
}
NOT_HERE = {"expires"}  # the demo's agreements have no end
QUERIES = sorted((WHATIF.parent / "queries").glob("*.rq"))
DOMAINS = {"ran", "transport", "core", "edge"}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The what-if engine compiled, as `./dev setup` leaves it."""
    subprocess.run([sys.executable, "-m", "domain_twin.simulation.warm"], check=True, timeout=250)


@pytest.fixture
def place() -> Iterator[Path]:
    """A working folder with a short name, as Unix sockets need it; what runs there at the end is killed."""
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    yield folder
    for process in processes(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def processes(folder: Path) -> list[psutil.Process]:
    """Processes that were started with something in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def sockets(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


def fedtwin(place: Path, *words: str, status: int = 0) -> str:
    run = subprocess.run(
        [*FEDTWIN, *words], cwd=place, capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == status, run.stdout + run.stderr
    return run.stdout if status == 0 else run.stderr


def emptied(place: Path, within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while processes(place) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not processes(place)


def test_the_story_is_told_and_its_numbers_agree_with_the_packets(place: Path) -> None:
    shown = fedtwin(place, "demo", "--quick", "--folder", "d", "--json", "times.json")

    told = json.loads((place / "times.json").read_text())
    assert told["outcome"] == "done"
    assert {domain["domain"] for domain in told["domains"]} == DOMAINS
    assert sum(domain["hidden_nodes"] for domain in told["domains"]) == 26
    assert told["first_view_s"] >= told["all_joined_s"] > 0
    before, cut, repaired = told["phases"]
    assert [phase["name"] for phase in told["phases"]] == ["before", "cut", "repaired"]
    assert before["met"] is True
    assert before["metric"] == repaired["metric"] < cut["metric"]
    assert cut["delay_ms"] > before["delay_ms"] + 2
    assert cut["packets_delay_ms"] > before["packets_delay_ms"] + 2
    for phase in told["phases"]:
        assert phase["packets"] > 100
        assert phase["delay_ms"] == pytest.approx(phase["packets_delay_ms"], rel=0.15)
        assert {share["domain"] for share in phase["budget"]} == {*DOMAINS, ""}
    assert [reaction["name"] for reaction in told["reactions"]] == ["cut", "repair"]
    (prediction,) = told["predictions"]
    assert prediction["problem"] is None
    assert prediction["same_route"] is True
    assert prediction["predicted_ms"] > before["delay_ms"] + 2
    assert set(prediction["part_changes_ms"]) == DOMAINS
    assert prediction["packets_ms"] == cut["packets_delay_ms"]
    (impact,) = told["impacts"]
    crossing = services_across(place / "d", impact["link"])
    assert set(impact["services"]) == set(impact["changed"]) == crossing
    assert "urn:service:factory-control" in crossing
    assert impact["unchanged"]
    assert impact["slices"] == ["low latency"]
    assert "Northworks, car bodies" in impact["customers"]
    assert set(impact["domains"]) == DOMAINS
    assert [audit["whole"] for audit in told["audits"]] == [True] * 5
    assert all(audit["views"] > 0 for audit in told["audits"])
    (outage,) = told["outages"]
    assert outage["same"] is True
    assert outage["values"] > 1000
    assert 0 < outage["kill_to_lost_ms"] <= outage["kill_to_stale_ms"]
    assert outage["start_to_back_ms"] <= outage["start_to_whole_ms"]
    assert all(reaction["commit_to_event_ms"] > 0 for reaction in told["reactions"])
    (partner,) = told["partners"]
    assert partner["problem"] is None
    assert partner["order_state"] == "completed"
    assert partner["levels"] == dict.fromkeys(DOMAINS, "mesh")
    assert partner["other_levels"]["transport"] == "node"
    assert partner["inside"]["ran"]["endPoint"] == 2
    assert partner["verdict"] in ("pass", "fail")
    assert (partner["delay_ms"] > partner["threshold_ms"]) is (partner["verdict"] == "fail")
    assert partner["same_refusal"] is True
    assert partner["ended"] == "terminated"
    (learned,) = told["trainings"]
    assert learned["problem"] is None
    together, attacked, averaged = (learned[name] for name in ("together", "attacked", "averaged"))
    assert together["accepted"] > 0
    assert together["after"] < together["before"]
    assert attacked["left_out"]["transport"] == attacked["rounds"]
    assert attacked["after"] < together["after"] * 1.2
    assert averaged["worst"] is None or averaged["worst"] > 2 * together["after"]
    assert averaged["used_by"] == []
    assert learned["forecast"] or not together["used_by"]
    assert told["history_samples"] > 10
    for words in (
        "What the broker sees",
        "packets say",
        "─✕─",
        "What if a link were cut?",
        "And what had been said of it",
        "Who depends on this link?",
        "as was said",
        "A partner orders a twin",
        "Learning together",
        "<commit> is sent",
        "The same minute, once more",
        "One figure changed in a copy",
    ):
        assert words in shown
    assert "\x1b" not in shown
    assert processes(place) == []
    assert sockets(place) == []


def services_across(folder: Path, link: str) -> set[str]:
    """Services whose packets cross a link, in either direction: by the emulated network's own routing."""
    spec = load_network(folder / "network.toml")
    topology = build_topology(spec)
    flows = plan_flows(spec, topology)
    paths = dict(zip((flow.name for flow in flows), _paths(topology, flows, None), strict=True))
    cut = next(each.adjacency for each in topology.links if each.source.link_id == link)
    aliases = {f"{domain}/{alias}": name for domain in DOMAINS for name, alias in published_by(domain)}
    records = service_records()["fedtwin-service:service-records"]
    found = set()
    for service in records["service"]:  # type: ignore[index]
        gnb, cell = aliases[service["from"]].split(":")[-2:]
        host = aliases[service["to"]].rpartition(":")[2]
        crossed = {topology.links[index].adjacency for index in paths[f"{gnb}.{cell}:{host}"]}
        found |= {service["service-id"]} if cut in crossed else set()
    return found


@pytest.mark.parametrize(("after", "number"), [("emulator", signal.SIGTERM), ("agent-edge", signal.SIGINT)])
def test_a_signal_stops_every_process(place: Path, after: str, number: int) -> None:
    with begin(place, after) as demo:
        demo.send_signal(number)
        demo.wait(timeout=60)

        assert demo.returncode == 130
        assert processes(place) == []
        assert sockets(place) == []


def test_a_killed_demo_leaves_no_process_and_the_next_one_starts(place: Path) -> None:
    with begin(place, "agent-edge") as demo:
        demo.kill()
        demo.wait(timeout=60)

        assert emptied(place)
    with begin(place, "emulator") as demo:
        demo.send_signal(signal.SIGINT)
        demo.wait(timeout=60)


def begin(place: Path, after: str) -> subprocess.Popen[bytes]:
    """A demo whose process `after` was started."""
    demo = subprocess.Popen([*FEDTWIN, "demo", "--folder", "d"], cwd=place, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (place / "d" / "logs" / f"{after}.log").exists():
        assert demo.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)
    return demo


async def unanswered(folder: Path) -> list[str]:
    """Queries of the page with fewer than two rows, or with a column that says nothing."""
    found = []
    for path in QUERIES:
        whom = path.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ask: ")
        at = folder / "client.toml" if whom == "broker" else folder / whom / "state" / "agent.sock"
        async with TwinClient.connect(at) as twin:
            reply = await twin.query(path.read_text(encoding="utf-8"))
        assert not reply.stopped_by
        assert {part.outcome.value for part in reply.parts} == {"ok"}
        bound, wanted = set[str](), set[str]()
        if reply.form.value == "bindings":
            document = json.loads(reply.data)
            wanted = set(document["head"]["vars"]) - NOT_HERE
            bound = {name for row in document["results"]["bindings"] for name in row}
        if reply.rows < 2 or not wanted <= bound:
            found.append(path.name)
    return found


@pytest.mark.minutes
@pytest.mark.timeout(420)
def test_a_kept_demo_answers_every_command_and_stops(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / ".fedtwin" / "demo"
    shown = fedtwin(place, "demo", "--quick", "--keep", "--json", "times.json")
    own = str(folder / "transport" / "state" / "agent.sock")
    assert "fedtwin demo --stop" in shown
    assert json.loads((place / "times.json").read_text())["outcome"] == "kept"
    assert len(processes(place)) == 7

    second = fedtwin(place, "demo", status=1)
    assert "a demo was kept running here" in second
    domains = json.loads(fedtwin(place, "domains", "--json"))["domains"]
    assert {each["domain"] for each in domains if each["connected"]} == DOMAINS
    services = json.loads(fedtwin(place, "services", "--json"))
    assert {each["service"]["name"] for each in services["statuses"]} >= {"factory-control"}
    assert "end to end" in fedtwin(place, "services", "factory-control")
    path = json.loads(fedtwin(place, "path", "ran/cell-1", "edge/host-1", "--best", "-k", "2", "--json"))
    assert len(path["paths"]) == 2
    assert "did you mean edge/host-" in fedtwin(place, "path", "ran/cell-1", "edge/host-99", status=1)
    assert "stay inside their domains" in fedtwin(place, "devices", status=1)
    devices = json.loads(fedtwin(place, "devices", "--at", own, "--json"))["devices"]
    assert {each["connection"] for each in devices} == {"synchronised"}
    view = json.loads(fedtwin(place, "view", "transport", "--json"))["views"][0]
    assert view["level"] == "mesh"
    assert {point["kind"] for point in view["points"]} == {"border"}
    assert "warsaw" not in fedtwin(place, "view")
    assert "warsaw" in fedtwin(place, "view", "transport", "--at", own)
    history = json.loads(fedtwin(place, "history", "factory-control", "--last", "2m", "--json"))
    assert len(history["statuses"]) > 10
    assert "one-way delay" in fedtwin(place, "history", "factory-control", "--plot")
    leaf = "/ietf-interfaces:interfaces/interface[name='eth0']/statistics/in-octets"
    assert len(fedtwin(place, "history", "warsaw", leaf, "--last", "30s", "--at", own).splitlines()) > 5
    lines = fedtwin(place, "watch", "--json", "--limit", "5").splitlines()
    assert [json.loads(line)["kind"] for line in lines]
    assert "findings" in json.loads(fedtwin(place, "findings", "--json"))
    told = json.loads(fedtwin(place, "whatif", str(WHATIF / "link-cut.yaml"), "--json", "--at", own))
    assert told["flows"]
    assert told["state"] == "FINISHED"
    for name, domain in EXAMPLES.items():
        command = "sweep" if name in ("single-failures", "growth") else "whatif"
        at = ("--at", str(folder / domain / "state" / "agent.sock"))
        assert "what if" in fedtwin(place, command, str(WHATIF / f"{name}.yaml"), *at)
    service = ("--flow", "ran/cell-1>edge/host-1")
    across = json.loads(fedtwin(place, "whatif", str(WHATIF / "new-service.yaml"), *service, "--json"))
    assert across["partial"] is False
    assert {domain["domain"] for domain in across["domains"]} == DOMAINS
    note = json.loads(
        fedtwin(place, "whatif", "--demand", "x1", "--name", "maintenance-1", *service, "--json")
    )
    (cut,) = [flow for flow in note["flows"] if flow["source"] == "ran/cell-1"]
    assert cut["after"]["delay_ms"]["value"] > cut["before"]["delay_ms"]["value"] + 2
    assert "poznan" not in json.dumps(note)
    fits = json.loads(fedtwin(place, "calibrate", "--try", "--window", "5m", "--json", "--at", own))
    assert fits["domain"] == "transport"
    assert any(fit["points"] for fit in fits["elements"])
    assert "The link that the demo cuts" in fedtwin(place, "jobs", "list", "--at", own)
    assert asyncio.run(unanswered(folder)) == []
    impact = json.loads(fedtwin(place, "impact", "edge/host-1", "--json"))
    assert {each["name"] for each in impact["affected"] if each["kind"] == "service"} >= {"factory-control"}
    assert "for customer" in fedtwin(place, "impact", "urn:ndt:transport:poznan", "--at", own)
    assert "shapes checked" in fedtwin(place, "check", "--at", own)
    everything = fedtwin(place, "query", "--all")
    assert "ran/cell-1" in everything
    assert "poznan" not in everything
    assert json.loads(fedtwin(place, "fault", "truth", "--json", "--last", "2s"))["count"] > 0
    assert "Nothing is broken." in fedtwin(place, "fault", "list")
    fedtwin(place, "record", str(folder / "transport" / "agent.toml"), "-o", "r.jsonl.gz", "--for", "4s")
    state = json.loads(fedtwin(place, "replay", "r.jsonl.gz", "--state", "--device", "warsaw", "--json"))
    assert len(state["leaves"]) > 50

    monkeypatch.setenv("FEDTWIN_API", str(folder / "partner.toml"))
    use_as_partner(folder, capsys)
    stopped = fedtwin(place, "demo", "--stop")

    assert "7 processes" in stopped
    assert emptied(place)
    assert sockets(place) == []
    assert list((folder / "logs").iterdir())
