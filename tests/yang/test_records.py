"""Service records: from file to model, and clear words for what is wrong in them."""

from __future__ import annotations

import json

import pytest

from domain_twin.errors import ConfigError
from domain_twin.model import Objective
from domain_twin.yang.records import load_services

RECORDS = {
    "fedtwin-service:service-records": {
        "customer": [{"customer-id": "urn:c:1", "name": "Harbour"}],
        "slice": [
            {
                "slice-id": "urn:s:1",
                "sNSSAI": "1-00000a",
                "customer": "urn:c:1",
                "element": ["ran/a", "core/upf"],
            }
        ],
        "service": [
            {
                "service-id": "urn:v:1",
                "name": "cranes",
                "customer": "urn:c:1",
                "slice": "urn:s:1",
                "from": "ran/cell-1",
                "to": "edge/host-1",
                "objective": {"one-way-delay": "10.0", "loss-ratio": "0.001", "bandwidth": "50.0"},
            }
        ],
    }
}


@pytest.fixture
def write(tmp_path):
    def to_file(data):
        path = tmp_path / "services.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return to_file


def test_records_are_read(write):
    records = load_services(write(RECORDS))

    service = records.services["urn:v:1"]
    assert (service.source, service.target, service.customer) == ("ran/cell-1", "edge/host-1", "urn:c:1")
    assert service.objective == Objective(delay_ms=10.0, loss=0.001, availability=None, bandwidth_mbps=50.0)
    assert records.slices["urn:s:1"].elements == ("ran/a", "core/upf")
    assert records.customers["urn:c:1"].name == "Harbour"


def changed(**leaves):
    data = json.loads(json.dumps(RECORDS))
    entry = data["fedtwin-service:service-records"]["service"][0]
    for name, value in leaves.items():
        if value is None:
            del entry[name]
        else:
            entry[name] = value
    return data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected one member"),
        ({"services": []}, "expected one member 'fedtwin-service:service-records', found services"),
        (changed(customer="urn:c:9"), "service"),
        (changed(to=None), "to"),
        (changed(to="host-1"), "service urn:v:1: to 'host-1' names no published end point"),
        (changed(colour="red"), "colour: no loaded module defines this member"),
        (changed(objective={"loss-ratio": "2.0"}), "loss-ratio"),
    ],
)
def test_bad_records_are_refused_with_file_and_element(write, data, reason):
    path = write(data)

    with pytest.raises(ConfigError, match=reason) as caught:
        load_services(path)
    assert str(caught.value).startswith(str(path))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        load_services(tmp_path / "none.json")
