"""The runner of conformance kits, tried on a small kit of our own: newman is the real one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ctk_kits import Failed, Waiver, environment, judged, kits, newman, rewritten, run, turned, waivers

sys.path.insert(0, str(Path(__file__).parents[1] / "tmf630"))

from tmf630_server import OwnServer, own_server, sandbox
from tmf630_suite import Suite
from tmf630_table import TARGETS

HERE = "http://127.0.0.1:8080"
CHECK = "pm.test('{0}', function () {{ {1} }});"


def _asks(name: str, method: str, url: str, tests: dict[str, str], body: object = None) -> dict[str, object]:
    script = [CHECK.format(title, text) for title, text in tests.items()]
    request: dict[str, object] = {"method": method, "url": {"raw": url, "host": [url]}, "header": []}
    if body is not None:
        request["header"] = [{"key": "Content-Type", "value": "application/json"}]
        request["body"] = {"mode": "raw", "raw": json.dumps(body)}
    return {"name": name, "request": request, "event": [{"listen": "test", "script": {"exec": script}}]}


IS_200 = "pm.response.to.have.status(200)"
COLLECTION = {
    "info": {
        "name": "TMF638 small kit",
        "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
    },
    "auth": {"type": "basic"},
    "item": [
        {
            "name": "services",
            "item": [
                _asks(
                    "GET services",
                    "GET",
                    "{{inventory}}service",
                    {"is found": IS_200, "has two": "pm.expect(pm.response.json().length).to.eql(2)"},
                ),
                _asks(
                    "GET services, wrongly",
                    "GET",
                    "{{inventory}}service",
                    {"is a teapot": "pm.response.to.have.status(418)"},
                ),
                _asks(
                    "GET literally",
                    "GET",
                    "http://localhost:9999/tmf-api/serviceInventory/v4/service?limit=1",
                    {"is found too": IS_200, "has one": "pm.expect(pm.response.json().length).to.eql(1)"},
                ),
            ],
        }
    ],
}
ORDERS_V3 = {
    "info": {**COLLECTION["info"], "name": "TMF641 kit"},  # type: ignore[dict-item]
    "item": [
        _asks(
            "POST order",
            "POST",
            "{{orders}}/serviceOrder",
            {
                "is made": "pm.response.to.have.status(201)",
                "speaks v3": "pm.expect(pm.response.json().orderItem.length).to.eql(1)",
            },
            {"orderItem": [{"id": "1", "action": "add", "service": {"id": "of-nobody"}}]},
        )
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("ctk"), decide=sandbox, dialects=["v3"]) as running:
        yield running


@pytest.fixture(scope="module")
def command() -> list[str]:
    told = newman()
    if isinstance(told, str):
        pytest.skip(f"THE RUNNER OF CONFORMANCE KITS WAS NOT TRIED: {told}")
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two kits as they would be cloned."""
    for name, collection, key, value in (
        ("TMF638_ServiceInventory", COLLECTION, "inventory", "http://localhost/tmf-api/serviceInventory/v4/"),
        ("TMF641-CTK", ORDERS_V3, "orders", "https://host.example:8080/serviceOrdering/v3"),
    ):
        place = tmp_path / "kits" / name / "CTK"
        place.mkdir(parents=True)
        (place / f"{name}.postman_collection.json").write_text(json.dumps(collection))
        values = {"name": "e", "values": [{"key": key, "value": value, "enabled": True}]}
        (place / "TMFENV.postman_environment.json").write_text(json.dumps(values))
        (place / "package.json").write_text("{}")
    return tmp_path / "kits"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kit_is_run_and_its_failures_are_named(
    folder: Path, command: list[str], server: OwnServer, tmp_path: Path
) -> None:
    inventory, orders = kits(folder)
    address = server.listen()
    with server.client(address) as http:
        for _ in range(2):
            suite = Suite(http, TARGETS)
            suite.make(suite.targets["service"])

    found = run(inventory, command, address, server.token, tmp_path)
    in_v3 = run(orders, command, address, server.token, tmp_path)

    assert (found.requests, found.assertions) == (3, 5)
    (failed,) = found.failed
    assert (failed.kit, failed.request, failed.test) == ("TMF638", "GET services, wrongly", "is a teapot")
    assert "418" in failed.message
    assert (in_v3.assertions, in_v3.failed) == (2, ())


def test_kits_are_found_by_what_they_are(folder: Path) -> None:
    assert [(kit.number, kit.environment is not None) for kit in kits(folder)] == [
        ("TMF638", True),
        ("TMF641", True),
    ]
    assert "sha256" in kits(folder)[0].identity


def test_a_folder_without_kits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "TMF638").mkdir()
    (tmp_path / "TMF638" / "package.json").write_text("{}")

    with pytest.raises(ValueError, match="no Postman collection of TMF633, TMF638"):
        kits(tmp_path)


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [
        ("TMF641", "http://a:1/tmf-api/serviceOrdering/v3/", f"{HERE}/tmf-api/serviceOrdering/v3/"),
        ("TMF641", "https://a/x/serviceOrdering/v4", f"{HERE}/tmf-api/serviceOrdering/v4"),
        ("TMF638", "https://a/serviceInventory/v3/service?limit=1",
         f"{HERE}/tmf-api/serviceInventory/v4/service?limit=1"),
        ("TMF639", "http://a", f"{HERE}/tmf-api/resourceInventoryManagement/v4"),
        ("TMF641", "{{orders}}serviceOrder", "{{orders}}serviceOrder"),
    ],
)  # fmt: skip
def test_addresses_are_turned(number: str, text: str, expected: str) -> None:
    assert turned(text, number, HERE) == expected


def test_every_request_bears_the_token() -> None:
    made = rewritten(COLLECTION, "TMF638", HERE, "t")

    (inner,) = made["item"]
    assert made["auth"] == {"type": "noauth"}
    for each in inner["item"]:
        assert {"key": "Authorization", "value": "Bearer t"} in each["request"]["header"]
    assert inner["item"][2]["request"]["url"] == f"{HERE}/tmf-api/serviceInventory/v4/service?limit=1"
    values = [{"key": "a", "value": "http://a/v4/"}, {"key": "n", "value": 7}]
    turned_values = environment({"values": values}, "TMF638", HERE)["values"]
    assert [each["value"] for each in turned_values] == [f"{HERE}/tmf-api/serviceInventory/v4/", 7]


def test_failures_are_waived_one_by_one_and_waivers_must_be_needed() -> None:
    failed = [Failed("TMF633", "PATCH a", "is 201", "m"), Failed("TMF633", "PATCH b", "is 201", "m")]
    one = Waiver("TMF633", "PATCH a", "is 201", "why")

    assert judged(failed, [one], ["TMF633"]) == ([failed[1]], [])
    assert judged(failed, [Waiver("TMF633", "PATCH *", "*", "why")], ["TMF633"]) == ([], [])
    assert judged([], [one], ["TMF633"]) == ([], [one])
    assert judged([], [one], ["TMF641"]) == ([], [])


def test_every_waiver_has_its_reason(tmp_path: Path) -> None:
    assert all(each.reason for each in waivers())
    (tmp_path / "w.toml").write_text('[[waiver]]\nkit = "TMF633"\nrequest = "*"\ntest = "*"\n')
    with pytest.raises(TypeError, match="reason"):
        waivers(tmp_path / "w.toml")
