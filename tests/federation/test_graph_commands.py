"""`fedtwin query`, `impact` and `check` against a real broker with three real domains, and an agent."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest
import pytest_asyncio
from federation_parts import EXCHANGE, Federation, local, until
from query_parts import federation, running
from what_if_parts import PUBLISHED, inner, networks

from domain_twin.agent.local import serve_local
from domain_twin.agent.semantics import Semantics
from domain_twin.config import SemanticConfig
from domain_twin.datastore.snapshot import Snapshot
from domain_twin.model import DeviceStatus, Network, ServiceRecords, Version
from domain_twin.semantic.names import NDT, points_graph
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.wire.event_log import EventLog

with warnings.catch_warnings():  # typer uses what click 8.5 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from federation.cli.app import run

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALIASES = "SELECT ?a { ?p a ndt:BorderPoint ; ndt:alias ?a } ORDER BY ?a"
DELAYS = "SELECT ?a ?ms { ?s a ndt:Segment ; ndt:hasSource/ndt:alias ?a ; ndt:delayMs ?ms } ORDER BY ?a ?ms"


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs commands as a person would, and gives what they print."""

    captured: pytest.CaptureFixture[str]
    at: dict[str, str] = field(default_factory=dict)

    async def __call__(self, *words: str, at: str = "broker") -> Ran:
        self.captured.readouterr()
        status = await asyncio.to_thread(run, [*words, "--at", self.at[at]])
        shown = self.captured.readouterr()
        return Ran(status, shown.out, shown.err)


class GraphTwin:
    """What an agent's socket needs of a twin for questions about its graph."""

    domain = "transport"
    operator = "longhaul.example"

    def __init__(self, network: Network, state: Path) -> None:
        self.events = EventLog()
        self.now = network
        self.published: Mapping[str, str] = PUBLISHED.get(network.domain, {})
        self.records = ServiceRecords()
        self.semantics = Semantics(
            SemanticConfig(),
            domain=self.domain,
            operator=self.operator,
            state=state,
            network=self.network,
            published=self.published,
            records=self.records,
            schema_of=self._no_schema,
            snapshot=lambda: Snapshot(Version("e", 1), {}),
            views=dict,
        )

    def network(self) -> Network:
        return self.now

    def device_statuses(self) -> Sequence[DeviceStatus]:
        return ()

    def session(self) -> tuple[str, str]:
        return "", ""

    def _no_schema(self, device: str) -> Any:
        raise AssertionError(f"{device} has no leaves here")


@asynccontextmanager
async def agent(folder: Path) -> AsyncIterator[Path]:
    """The transport operator's own agent, with its graph in step."""
    twin: Any = GraphTwin(networks()["transport"], folder / "own")
    path = folder / "own" / "agent.sock"
    keeping = asyncio.create_task(twin.semantics.run())
    try:
        async with serve_local(twin, path):
            await until(lambda: _in_step(twin.semantics))
            yield path
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _in_step(semantics: Semantics) -> bool:
    live = semantics.live
    return live is not None and points_graph("transport") in live.store.graphs()


def profile(fed: Federation, broker: Broker, folder: Path) -> Path:
    """A client profile as `--at` takes it."""
    issued = fed.pki.identity(EXCHANGE, Role.USER, "eve")
    file = folder / "client.toml"
    file.write_text(
        f'address = "{local(broker)}"\nidentity = "spiffe://{EXCHANGE}/broker/main"\n'
        f'root = "{fed.pki.roots[EXCHANGE]}"\ncertificate = "{issued.certificate}"\nkey = "{issued.key}"\n',
        encoding="utf-8",
    )
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """One federation for all tests here: none of them changes it."""
    folder = tmp_path_factory.mktemp("f")
    fed = federation(folder)
    async with running(fed) as (_, broker), agent(folder) as socket:
        yield {"broker": str(profile(fed, broker, folder)), "agent": str(socket)}


@pytest.fixture
def shell(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, places)


def triples(text: str, form: ox.RdfFormat) -> set[ox.Triple]:
    return {quad.triple for quad in ox.parse(text.encode(), form)}


async def test_query_shows_rows_and_each_domains_part(shell: Shell) -> None:
    shown = await shell("query", ALIASES)

    assert (shown.status, shown.err) == (0, "")
    assert [line.strip() for line in shown.out.splitlines()[:7]] == [
        "a",
        "edge/idl-b",
        "ran/idl-a1",
        "ran/idl-a2",
        "transport/idl-a1",
        "transport/idl-a2",
        "transport/idl-b",
    ]
    assert "6 rows" in shown.out
    assert "answered by edge, ran, transport" in shown.out


async def test_query_finds_a_service_by_its_name_alone(shell: Shell) -> None:
    shown = await shell("query", "SELECT ?id { ?s ndt:name 'uplink' ; ndt:identifier ?id }", "--csv")

    assert shown.out.splitlines() == ["id", "urn:s:1"]


async def test_query_writes_every_form_that_programs_read(shell: Shell, tmp_path: Path) -> None:
    document = json.loads((await shell("query", DELAYS, "--json")).out)
    rows = list(csv.reader(io.StringIO((await shell("query", DELAYS, "--csv")).out)))
    tabs = (await shell("query", DELAYS, "--format", "tsv")).out
    xml = (await shell("query", DELAYS, "--format", "xml")).out
    file = tmp_path / "out.json"
    written = await shell("query", DELAYS, "--json", "-o", str(file))

    found = [(each["a"]["value"], each["ms"]["value"]) for each in document["results"]["bindings"]]
    assert len(found) > 4
    assert rows[0] == ["a", "ms"]
    assert [(name, float(ms)) for name, ms in rows[1:]] == [(name, float(ms)) for name, ms in found]
    assert len(tabs.splitlines()) == len(rows)
    assert "<sparql" in xml
    assert json.loads(file.read_text()) == document
    assert written.out == ""
    assert f"{len(found)} rows" in written.err


async def test_query_answers_construct_with_triples_in_every_form(shell: Shell) -> None:
    text = "CONSTRUCT { ?p ndt:alias ?a } WHERE { ?p a ndt:BorderPoint ; ndt:alias ?a }"

    turtle = triples((await shell("query", text)).out, ox.RdfFormat.TURTLE)
    lines = triples((await shell("query", text, "--format", "n-triples")).out, ox.RdfFormat.N_TRIPLES)
    linked = triples((await shell("query", text, "--json")).out, ox.RdfFormat.JSON_LD)

    assert len(turtle) == 6
    assert turtle == lines == linked


async def test_query_asks_and_the_exit_status_is_the_answer(shell: Shell) -> None:
    yes = await shell("query", "ASK { ?x a ndt:Segment }")
    no = await shell("query", "ASK { ?x a ndt:Customer ; ndt:name 'nobody' }")
    document = await shell("query", "ASK { ?x a ndt:Customer ; ndt:name 'nobody' }", "--json")

    assert (yes.status, yes.out.splitlines()[0]) == (0, "yes")
    assert (no.status, no.out.splitlines()[0]) == (1, "no")
    assert (document.status, json.loads(document.out)["boolean"]) == (1, False)


async def test_query_exports_all_that_may_be_seen_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "all.ttl"

    shown = await shell("query", "--all", "-o", str(file))
    linked = await shell("query", "--all", "--format", "json-ld")

    everything = triples(file.read_text(), ox.RdfFormat.TURTLE)
    assert shown.status == 0
    assert everything == triples(linked.out, ox.RdfFormat.JSON_LD)
    assert {triple.object.value for triple in everything if triple.predicate.value == NDT + "alias"} >= {
        "ran/cell-1",
        "edge/app",
    }
    assert "secret" not in file.read_text()
    inside = (await shell("query", "--all", at="agent")).out
    assert "secret" in inside


async def test_query_explains_how_and_asks_nothing(shell: Shell) -> None:
    shown = await shell("query", DELAYS, "--explain")
    document = json.loads((await shell("query", DELAYS, "--explain", "--json")).out)

    assert shown.status == 0
    for domain in ("edge", "ran", "transport"):
        assert domain in shown.out
    assert len(document["plan"]) == len(shown.out.splitlines())


async def test_query_stops_at_the_limit_and_says_so(shell: Shell) -> None:
    few = await shell("query", ALIASES, "--limit", "2")
    csv_rows = await shell("query", ALIASES, "--limit", "2", "--csv")

    assert "2 rows" in few.out
    assert "cut short: " in few.out
    assert len(csv_rows.out.splitlines()) == 3
    assert "cut short: " in csv_rows.err


@pytest.mark.parametrize("at", ["broker", "agent"])
async def test_query_shows_where_an_error_is(shell: Shell, at: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.rq"
    file.write_text("# all of them\nSELECT ?x WHERE {\n  ?x a ndt:Service ,, }\n")

    shown = await shell("query", str(file), at=at)

    assert (shown.status, shown.out) == (1, "")
    first, *lines = shown.err.splitlines()
    assert first.startswith(f"error: {file}, line 3, column 21: ")
    assert lines[-2] == "  3 |   ?x a ndt:Service ,, }"
    assert lines[-1] == " " * (6 + 20) + "^"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT * { SERVICE <http://x.example/> { ?a ?b ?c } }", "refused"),
        ("SELECT * FROM <file:///etc/passwd> { ?a ?b ?c }", "refused"),
        ("INSERT DATA { <urn:a> <urn:b> <urn:c> }", "refused"),
        ("DESCRIBE <urn:a> {}", "refused"),
    ],
)
async def test_query_is_refused_with_the_reason(shell: Shell, query: str, reason: str) -> None:
    shown = await shell("query", query)

    assert shown.status == 1
    assert reason in shown.err
    assert "^" in shown.err


async def test_a_domain_that_is_gone_is_named_in_the_answer_or_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fed = federation(tmp_path)
    async with running(fed, ("ran", "transport")) as (_, broker):
        shell = Shell(capsys, {"broker": str(profile(fed, broker, tmp_path))})

        async def attached() -> bool:
            return "transport/idl-b" in (await shell("query", ALIASES)).out

        await until(attached)
        partial = await shell("query", ALIASES)
        table = await shell("query", ALIASES, "--csv")
        none = await shell("query", ALIASES, "--require", "all")
        impact = await shell("impact", "ran/cell-1", "--require", "all")

    assert partial.status == 0
    assert "edge " in partial.out.partition("requests")[2]
    assert "edge/idl-b" not in partial.out
    assert table.err.startswith("partial, without all of edge: ")
    assert (none.status, none.out) == (1, "")
    assert "edge" in none.err
    assert impact.status == 1


async def test_impact_at_the_broker_names_services_slices_and_customers(shell: Shell) -> None:
    shown = await shell("impact", "transport/idl-b")
    document = json.loads((await shell("impact", "transport/idl-b", "--json")).out)

    assert shown.status == 0
    assert "1 service, 1 slice and 1 customer are affected" in shown.out
    for words in ("uplink  service", "in slice gold", "for customer Harbour", "answered by"):
        assert words in shown.out
    kinds = {each["kind"]: each for each in document["affected"]}
    assert kinds["customer"]["name"] == "Harbour"
    assert kinds["customer"]["evidence"][-1]["relation"] == "forCustomer"
    lengths = [len(each["evidence"]) for each in document["affected"]]
    assert lengths == sorted(lengths)
    assert {part["domain"]: part["outcome"] for part in document["parts"]} == dict.fromkeys(
        ("edge", "ran", "transport"), "ok"
    )


async def test_impact_of_an_inner_link_goes_through_its_own_agent_to_the_customer(shell: Shell) -> None:
    link = inner("transport", "t1:to-t2:out")

    joined = await shell("impact", link, "--broker", shell.at["broker"], at="agent")
    alone = await shell("impact", link, "--broker", "none", at="agent")
    at_broker = await shell("impact", link)

    assert "uplink  service" in joined.out
    assert "for customer Harbour" in joined.out
    assert "transport/idl-a1>transport/idl-b  segment, uses it" in joined.out
    assert "no service is affected, as far as this twin sees" in alone.out
    assert at_broker.status == 1
    assert f"no element '{link}' is known here" in at_broker.err
    assert "secret-t3" not in at_broker.err


async def test_impact_of_a_link_that_carries_nothing_names_no_service(shell: Shell) -> None:
    shown = await shell(
        "impact", inner("transport", "t3:to-t2:out"), "--broker", shell.at["broker"], at="agent"
    )

    assert "no service is affected" in shown.out
    assert "that carry no service (--full)" in shown.out


async def test_unknown_elements_are_refused_with_what_is_near(shell: Shell) -> None:
    shown = await shell("impact", "ran/cell-9")

    assert (shown.status, shown.out) == (1, "")
    assert "did you mean ran/cell-1" in shown.err


async def test_an_inner_element_is_the_agents_to_know_and_the_broker_says_so(shell: Shell) -> None:
    broker = await shell("impact", "qqqqqq-router")
    agent = await shell("impact", "qqqqqq-router", at="agent")

    assert "known are " in broker.err
    assert "ask that with --at" in broker.err
    assert "--at" not in agent.err
    assert (broker.status, agent.status) == (1, 1)


async def test_query_that_finds_nothing_says_what_may_be_wrong(shell: Shell) -> None:
    wrong = await shell("query", "SELECT ?x { ?x a ndt:Cel }", "--csv")
    within = await shell("query", "SELECT ?x { ?x a ndt:Cel }", at="agent")
    asked = await shell("query", "ASK { ?x a ndt:Cel }", at="agent")
    inside = await shell("query", "SELECT ?x { ?x a ndt:Cell }")
    right = await shell("query", "SELECT ?x { ?x a ndt:Service }")

    assert wrong.out.split() == ["x"]
    assert wrong.err.count("ndt:Cel:") == wrong.err.count("did you mean ndt:Cell?") == 1
    assert within.err == "note: ndt:Cel is no term of the ontology; did you mean ndt:Cell?\n"
    assert (asked.status, asked.err) == (1, within.err)
    assert "note: no domain was asked" in inside.err
    assert (inside.status, right.err) == (0, "")


async def test_documents_on_the_screen_end_with_a_line_end(shell: Shell) -> None:
    shown = await shell("query", "SELECT * { ?s a ndt:Service }", "--json")

    assert shown.out.endswith("}\n")


@pytest.mark.parametrize("at", ["broker", "agent"])
async def test_check_says_what_the_shapes_find(shell: Shell, at: str) -> None:
    shown = await shell("check", at=at)
    document = await shell("check", "--json", at=at)

    assert document.err == ""
    told = json.loads(document.out)
    errors = [finding for finding in told["findings"] if finding["severity"] == "error"]
    assert shown.status == document.status == (1 if errors else 0)
    assert told["ok"] is not bool(errors)
    assert told["shapes"] > 0
    assert f"{told['shapes']} shapes checked" in shown.out
    for finding in told["findings"]:
        assert finding["element"]
        assert finding["remedy"]


async def test_check_of_an_unknown_shape_is_refused(shell: Shell) -> None:
    shown = await shell("check", "--shape", "NoSuchShape", at="agent")

    assert shown.status == 1
    assert "NoSuchShape" in shown.err
