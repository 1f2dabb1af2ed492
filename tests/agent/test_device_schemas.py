"""Two devices with the same modules, one of which deviates from them: each is read by what it says itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from vendor_devices import Emulated, eventually, vendor_domain

from domain_twin.model import Connection

BASE = """
module base {
  yang-version 1.1;
  namespace "urn:base"; prefix b;
  revision 2026-01-01;
  feature fast;
  container box {
    config false;
    leaf size { type uint8; }
    leaf speed { if-feature fast; type uint8; }
    leaf name { type string; }
  }
}
"""
DEVIATING = """
module acme-deviations {
  yang-version 1.1;
  namespace "urn:acme:dev"; prefix d;
  import base { prefix b; }
  revision 2026-01-01;
  deviation "/b:box/b:size" { deviate replace { type string; } }
  deviation "/b:box/b:name" { deviate not-supported; }
}
"""


@pytest.fixture
def yang(tmp_path: Path) -> Path:
    folder = tmp_path / "yang"
    folder.mkdir()
    (folder / "base.yang").write_text(BASE)
    (folder / "acme-deviations.yang").write_text(DEVIATING)
    return folder


@pytest.mark.parametrize("protocol", ["gnmi", "netconf"])
async def test_each_device_is_typed_by_its_own_deviations(tmp_path: Path, yang: Path, protocol: str) -> None:
    devices = [
        Emulated("plain", ("base",), state={"base:box": {"size": 7, "name": "x"}}, protocol=protocol),
        Emulated("acme", ("base", "acme-deviations"), state={"base:box": {"size": "XXL"}}, protocol=protocol),
    ]
    async with vendor_domain(tmp_path, devices, yang, paths="/base:box") as (twin, _):
        await eventually(
            lambda: all(s.connection is Connection.SYNCHRONISED for s in twin.device_statuses()),
            "device in step",
        )
        store = twin.pipeline.store

        assert store.get("/base:box/size", "plain")["plain", "/base:box/size"].value == 7
        assert store.get("/base:box/size", "acme")["acme", "/base:box/size"].value == "XXL"
        assert [s.quarantined for s in twin.device_statuses()] == [0, 0]
        assert twin.schemas.of("acme").node("/base:box/name") is None
        assert twin.schemas.of("plain").node("/base:box/name") is not None
        # A NETCONF device says which features it has (none here); over gNMI nobody can tell.
        speed = twin.schemas.of("plain").node("/base:box/speed")
        assert (speed is None) is (protocol == "netconf")
