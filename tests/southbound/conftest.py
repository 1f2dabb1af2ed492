"""An emulated device, and certificates good and bad: the peers of the southbound sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from device_under_test import CONFIG, MODULES, STATE, Authority, certificate

from domain_twin.config import GnmiConfig
from domain_twin.emulator.device import DeviceDatastore, load_schema
from domain_twin.yang.schema import SchemaSet


@pytest.fixture
def store() -> DeviceDatastore:
    device = DeviceDatastore("warsaw", load_schema(MODULES))
    device.load(CONFIG, STATE)
    return device


@pytest.fixture(scope="session")
def schema() -> SchemaSet:
    return SchemaSet.load([*MODULES, "fedtwin-core", "fedtwin-edge"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "ca"
    folder.mkdir()
    return Authority(certificate("devices", None), folder)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    folder = tmp_path / "stranger"
    folder.mkdir()
    return Authority(certificate("strangers", None), folder)


@pytest.fixture
def gnmi_config(authority: Authority) -> GnmiConfig:
    """All but the address: `config.model_copy(update={"address": ...})`."""
    cert, key = authority.issue("collector")
    return GnmiConfig(address="127.0.0.1:1", root=authority.root, certificate=cert, key=key, heartbeat_s=1.0)
