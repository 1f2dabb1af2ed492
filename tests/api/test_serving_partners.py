"""`fedtwin api api.toml`, as a process in front of a real broker: its start, its answers, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from broker_parts import EXCHANGE, PARTNERS, ROOT, Federation, local, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from domain_twin.config import AccessConfig
from domain_twin.operations import process
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.cli.app import run
from twin_api.api_metrics import INSTRUMENTS
from twin_api.issuer import DEFAULT_ISSUER, TrialIssuer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
ORDERS = "/tmf-api/serviceOrdering/v4/serviceOrder"
CATALOG = "/tmf-api/serviceCatalogManagement/v4/serviceSpecification"
PUBLIC = "https://twins.exchange.example"
SCOPE = "ndt.order ndt.catalog.read ndt.query"
API = f"spiffe://{EXCHANGE}/api/main"


@dataclass(slots=True)
class Started:
    """The process that runs, and how it is reached."""

    child: asyncio.subprocess.Process
    address: str
    issuer: TrialIssuer
    folder: Path

    def client(self, tenant: str = "acme", scope: str = SCOPE) -> httpx.AsyncClient:
        token = self.issuer.issue(tenant, scope.split(), audience=PUBLIC)
        return httpx.AsyncClient(
            base_url=self.address, headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )

    async def stopped(self) -> tuple[int, str, str]:
        """The status, stdout and stderr after SIGTERM."""
        self.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            out, err = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, out.decode(), err.decode()


API_TOML = f"""\
listen = "127.0.0.1:0"
public_address = "{PUBLIC}"
broker = "client.toml"
state = "."
max_age_s = 3

[[issuer]]
iss = "{DEFAULT_ISSUER}"
jwks = "issuer/jwks.json"
trial = true

[metrics]
listen = "127.0.0.1:0"
"""


def profile_text(address: str, root: Path, certificate: object, key: object) -> str:
    return (
        f'address = "{address}"\nidentity = "spiffe://{EXCHANGE}/broker/main"\n'
        f'root = "{root}"\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )


def write(folder: Path, federation: Federation, broker: Broker) -> Path:
    issued = federation.pki.identity(EXCHANGE, Role.API, "main")
    text = profile_text(local(broker), federation.pki.roots[EXCHANGE], issued.certificate, issued.key)
    (folder / "client.toml").write_text(text)
    (folder / "api.toml").write_text(API_TOML)
    return folder / "api.toml"


@asynccontextmanager
async def started(folder: Path, federation: Federation, broker: Broker) -> AsyncIterator[Started]:
    issuer = TrialIssuer.create(folder / "issuer")
    path = write(folder, federation, broker)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "federation.cli", "api", str(path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        assert child.stderr
        async with asyncio.timeout(60):
            async for line in child.stderr:
                if told := re.search(r"serving partners at (http://127\.0\.0\.1:\d+);", line.decode()):
                    break
            else:
                raise AssertionError("it ended")
        yield Started(child, told.group(1), issuer, folder)
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    access = (AccessConfig(subject=API, partners=True),)
    return Federation.make(tmp_path, partner=PARTNERS, access=access)


async def test_partners_are_served_from_start_to_end(federation: Federation, tmp_path: Path) -> None:
    async with (
        federation.broker() as broker,
        started(tmp_path, federation, broker) as api,
        api.client() as http,
    ):

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await until(ready)
        catalogue = await http.get(CATALOG, params={"name": "NdtTwin"})
        item = {"id": "1", "action": "delete", "service": {"id": "x"}}
        made = await http.post(ORDERS, json={"description": "marker", "serviceOrderItem": [item]})
        read = await http.get(made.headers["location"].removeprefix(PUBLIC))
        async with api.client("globex") as other, api.client("acme", "ndt.events") as few:
            foreign = await other.get(f"{ORDERS}/{made.json()['id']}")
            hidden = await other.get(ORDERS)
            narrow = await few.get(ORDERS)
        asked = await http.get("/sparql", params={"query": "ASK { ?s ?p ?o }"})
        async with api.client("nobody") as stranger:
            paths = ("/sparql?query=ASK%20%7B%7D", CATALOG, ORDERS, "/events", "/3gpp-ndt/v1/NDTJob")
            unserved = [await stranger.get(path) for path in paths]
        document = (await http.get("/openapi/serviceOrdering.json")).json()
        listed = (await http.get("/")).json()["openapi"]
        described = [path for each in listed for path in (await http.get(each)).json()["paths"]]
        metrics_at = (tmp_path / "metrics.address").read_text().strip()
        async with httpx.AsyncClient(trust_env=False) as plain:
            form = {"accept": "application/openmetrics-text; version=1.0.0"}
            metrics = (await plain.get(f"http://{metrics_at}/metrics", headers=form)).text
            details = (await plain.get(f"http://{metrics_at}/readyz")).json()
        status, out, err = await api.stopped()

    assert catalogue.json()[0]["href"].startswith(PUBLIC)
    assert made.status_code == 201
    assert read.json()["description"] == "marker"
    assert foreign.status_code == 404
    assert "marker" not in foreign.text + hidden.text + narrow.text
    assert (hidden.json(), narrow.status_code) == ([], 403)
    assert asked.status_code == 200, asked.text
    assert [each.status_code for each in unserved] == [403] * len(paths)
    assert all("no partner 'nobody' is served here" in each.text for each in unserved)
    assert document["openapi"]
    assert {"/serviceOrder", "/hub", "/NDTJob", "/events", "/.well-known/jwks.json"} <= set(described)
    assert {check["name"] for check in details["checks"]} == {"broker", "issuer", "certificate"}
    shown = {family.name: family.type for family in text_string_to_metric_families(metrics)}
    instruments = (*process.INSTRUMENTS, *INSTRUMENTS)
    declared = {each.name.removesuffix("_total"): each.kind.value for each in instruments}
    assert {name: kind for name, kind in shown.items() if name.startswith("fedtwin")} == declared
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert ("POST", ORDERS, 201, "acme") in [
        (line["method"], line["route"], line["status"], line["tenant"]) for line in lines
    ]
    assert "marker" not in out + err
    assert not re.search(r"eyJ[\w-]+\.", out + err)


@pytest.mark.slow
async def test_a_broker_that_goes_away_is_told_and_found_again(
    federation: Federation, tmp_path: Path
) -> None:
    async with AsyncExitStack() as first, AsyncExitStack() as rest:
        broker = await first.enter_async_context(federation.broker())
        api = await rest.enter_async_context(started(tmp_path, federation, broker))
        http = await rest.enter_async_context(api.client())

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        async def is_unready() -> bool:
            return not await is_ready()

        await until(is_ready)
        await first.aclose()
        await until(is_unready)
        stale = await http.get(CATALOG)
        refused = await http.post(ORDERS, json={"serviceOrderItem": [{"id": "1", "action": "add"}]})
        asked = await http.get("/sparql", params={"query": "ASK {}"})
        async with federation.broker(port=int(broker.address.rpartition(":")[2])):
            await until(is_ready, 60)
        status, _, err = await api.stopped()

    assert stale.status_code == 200  # read from memory, which says how old it is
    for answer in (refused, asked):
        assert answer.status_code in (400, 503), answer.text
        assert not re.search(r"127\.0\.0\.1|localhost", answer.text)
    assert status == 0
    assert "cannot be followed" in err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("api-main", "user-ann"), "is the certificate of spiffe://exchange.example/user/ann, and an api"),
        (("jwks.json", "none.json"), "the keys of urn:fedtwin:trial-issuer cannot be read"),
        (("127.0.0.1:0", "localhost"), "is not host:port"),
        (("trial = true", "trial = false"), "need `trial = true` under"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(
    tmp_path: Path, change: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = OperatorCA.create(EXCHANGE, tmp_path / "ca")
    for role, name in ((Role.API, "main"), (Role.USER, "ann")):
        authority.issue(role, name, tmp_path / "pki")
    TrialIssuer.create(tmp_path / "issuer")
    (tmp_path / "client.toml").write_text(
        profile_text("127.0.0.1:9", authority.root, "pki/api-main.pem", "pki/api-main.key").replace(*change)
    )
    (tmp_path / "api.toml").write_text(API_TOML.replace(*change))

    assert run(["api", str(tmp_path / "api.toml")]) == 1
    assert sentence in capsys.readouterr().err.replace("\n", " ")
