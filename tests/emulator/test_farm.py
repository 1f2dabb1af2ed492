"""The farm of light devices: a real process, spoken to by lines, reached by our own sessions' protocol."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import asyncssh
import pytest


@pytest.fixture
def farm(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "domain_twin.emulator.farm", str(tmp_path), "--netconf", "3", "--gnmi", "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.stdin.close()
        assert process.wait(30) == 0


def test_farm_serves_what_its_inventory_says_and_keeps_the_pace(farm):
    first = json.loads(farm.stdout.readline())
    inventory = tomllib.loads(Path(first["inventory"]).read_text())["device"]
    farm.stdin.write('{"updates_per_s": 1600}\n')
    farm.stdin.flush()
    set_ = json.loads(farm.stdout.readline())
    offered = 0
    while offered < 160:
        farm.stdin.write("{}\n")
        farm.stdin.flush()
        offered = json.loads(farm.stdout.readline())["offered"]

    assert first["devices"] == 5
    assert set_["offered"] < offered
    assert sum("netconf" in device for device in inventory) == 3
    assert sum("gnmi" in device for device in inventory) == 2


@pytest.fixture
def reach(farm):
    """The NETCONF table of the first device, with its password itself."""
    inventory = Path(json.loads(farm.stdout.readline())["inventory"])
    netconf = tomllib.loads(inventory.read_text())["device"][0]["netconf"]
    password = inventory.parent / netconf["password"].removeprefix("file:")
    known_hosts = str(inventory.parent / netconf["known_hosts"])
    return netconf | {"password": password.read_text().strip(), "known_hosts": known_hosts}


async def test_farm_devices_speak_netconf(reach):
    host, _, port = reach["address"].partition(":")
    async with asyncssh.connect(
        host,
        int(port),
        known_hosts=reach["known_hosts"],
        username=reach["username"],
        password=reach["password"],
        config=None,
    ) as connection:
        _, stdout, _ = await connection.open_session(subsystem="netconf", encoding=None)
        assert b"ietf-yang-push" in await stdout.readuntil(b"]]>]]>")
