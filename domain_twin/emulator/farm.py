"""Hundreds of light devices in one process: real servers and datastores, no packets behind them.

For load: every device has its own port, key, session and YANG data, and reports counters at a pace that is
set from outside. Devices are routers in a ring, so that a twin of them is a network. Owns their data; the
servers are the emulator's own.

    python -m domain_twin.emulator.farm STATE --netconf 250 --gnmi 250

Writes STATE/devices.transport.toml, then answers each line on standard input (a JSON object) with one on
standard output: {"updates_per_s": 5000} sets the pace, {} only asks. Ends with its standard input.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from domain_twin.emulator.device import DeviceDatastore, load_schema
from domain_twin.emulator.device_data import COUNTERS
from domain_twin.emulator.keys import DomainKeys, Served, write_inventory
from domain_twin.emulator.network import ServerSpec

__all__ = ["Farm", "main"]

_DOMAIN = "transport"
_NETWORK = f"urn:ndt:{_DOMAIN}"
_MODULES = (
    "ietf-interfaces", "iana-if-type", "ietf-network", "ietf-network-topology", "ietf-l3-unicast-topology",
    "fedtwin-inter-domain", "fedtwin-performance",
)  # fmt: skip
_INTERFACES = ("east", "west")
_TICK_S = 0.1


class Farm:
    """The devices and their servers."""

    def __init__(self, state: Path, *, netconf: int, gnmi: int) -> None:
        self.offered = 0  # updates written so far
        self.updates_per_s = 0.0
        self.stores: list[DeviceDatastore] = []
        self._protocols = ["netconf"] * netconf + ["gnmi"] * gnmi
        self._state = state
        self._servers: list[Any] = []
        self._next = 0
        self._round = 0

    async def open(self) -> Path:
        """Open every server; the inventory for the agent."""
        from domain_twin.emulator.gnmi_target import serve_gnmi
        from domain_twin.emulator.netconf_server import serve_netconf

        settings = ServerSpec()
        keys = DomainKeys(self._state, _DOMAIN, settings)
        schema = load_schema(_MODULES)
        served = []
        for number, protocol in enumerate(self._protocols):
            name = _name(number)
            own = keys.device(name)
            store = DeviceDatastore(name, schema)
            store.load(configuration(number, len(self._protocols)), {})
            store.put_many(_states())
            store.put_many((path, 0) for path in _counters())
            self.stores.append(store)
            server: Any
            if protocol == "netconf":
                server = await serve_netconf(
                    store,
                    host=settings.host,
                    port=0,
                    host_key=own.host_key.read_bytes(),
                    users={settings.username: keys.password},
                )
            else:
                server = await serve_gnmi(
                    store,
                    host=settings.host,
                    port=0,
                    certificate=own.certificate,
                    key=own.key,
                    client_roots=keys.root,
                )
            self._servers.append(server)
            ports = {"netconf": 0, "gnmi": 0} | {protocol: server.port}
            served.append(Served(name, ports["netconf"], ports["gnmi"], own.host_key))
        return write_inventory(keys, settings, served)

    async def close(self) -> None:
        """Close every server."""
        await asyncio.gather(*(server.close() for server in self._servers))

    async def run(self) -> None:
        """Write counters at the pace that is set, device by device, all of a device's at once."""
        loop = asyncio.get_running_loop()
        paths = _counters()
        before, owed = loop.time(), 0.0
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            # a farm that is late makes up for half a second at most: more would keep it late for ever
            owed = min(owed + (now - before) * self.updates_per_s, 0.5 * self.updates_per_s + len(paths))
            before = now
            while owed >= len(paths):
                owed -= len(paths)
                self._report(paths)

    def _report(self, paths: tuple[str, ...]) -> None:
        self._next += 1
        if self._next >= len(self.stores):
            self._next = 0
            self._round += 1
        value = self._round * 1000 + self._next + 1
        self.stores[self._next].put_many((path, value) for path in paths)
        self.offered += len(paths)

    def figures(self) -> dict[str, Any]:
        """How much was written, and what it cost here."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"offered": self.offered, "cpu_s": used.ru_utime + used.ru_stime, "devices": len(self.stores)}


def configuration(number: int, count: int) -> dict[str, Any]:
    """A router of a ring with `count` routers: two interfaces, its part of the topology, RFC 7951 JSON."""
    name, node = _name(number), _node(number)
    across = {"east": ((number + 1) % count, "west"), "west": ((number - 1) % count, "east")}
    return {
        "ietf-interfaces:interfaces": {
            "interface": [
                {"name": port, "type": "iana-if-type:ethernetCsmacd", "enabled": True, "description": name}
                for port in _INTERFACES
            ]
        },
        "ietf-network:networks": {
            "network": [
                {
                    "network-id": _NETWORK,
                    "network-types": {"ietf-l3-unicast-topology:l3-unicast-topology": {}},
                    "node": [
                        {
                            "node-id": node,
                            "ietf-network-topology:termination-point": [
                                {
                                    "tp-id": f"{node}:{port}",
                                    "ietf-l3-unicast-topology:l3-termination-point-attributes": {
                                        "interface-name": port
                                    },
                                }
                                for port in _INTERFACES
                            ],
                        }
                    ],
                    "ietf-network-topology:link": [
                        {
                            "link-id": f"{node}:{port}:out",
                            "source": {"source-node": node, "source-tp": f"{node}:{port}"},
                            "destination": {
                                "dest-node": _node(far),
                                "dest-tp": f"{_node(far)}:{far_port}",
                            },
                            "ietf-l3-unicast-topology:l3-link-attributes": {"metric1": "10"},
                        }
                        for port, (far, far_port) in across.items()
                    ],
                }
            ]
        },
    }


def _name(number: int) -> str:
    return f"router-{number:03}"


def _node(number: int) -> str:
    return f"{_NETWORK}:{_name(number)}"


def _states() -> Iterator[tuple[str, Any]]:
    for index, port in enumerate(_INTERFACES, 1):
        at = f"/ietf-interfaces:interfaces/interface[name='{port}']"
        yield f"{at}/if-index", index
        yield f"{at}/admin-status", "up"
        yield f"{at}/oper-status", "up"
        yield f"{at}/speed", 10_000_000_000
        yield f"{at}/statistics/discontinuity-time", "2026-01-01T00:00:00Z"


def _counters() -> tuple[str, ...]:
    return tuple(
        f"/ietf-interfaces:interfaces/interface[name='{port}']/statistics/{name}"
        for port in _INTERFACES
        for name in COUNTERS
    )


async def _serve(state: Path, *, netconf: int, gnmi: int) -> None:
    farm = Farm(state, netconf=netconf, gnmi=gnmi)
    inventory = await farm.open()
    work = asyncio.create_task(farm.run())
    loop = asyncio.get_running_loop()
    answer = {"inventory": str(inventory)}
    try:
        while True:
            sys.stdout.write(json.dumps({**answer, **farm.figures()}) + "\n")
            sys.stdout.flush()
            line = await loop.run_in_executor(None, sys.stdin.readline)
            if not line:
                return
            farm.updates_per_s = float(json.loads(line).get("updates_per_s", farm.updates_per_s))
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        await farm.close()


def main() -> int:
    """Parse arguments and serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m domain_twin.emulator.farm", description=__doc__)
    parser.add_argument("state", type=Path, help="folder for keys and the inventory")
    parser.add_argument("--netconf", type=int, default=0, help="devices with NETCONF")
    parser.add_argument("--gnmi", type=int, default=0, help="devices with gNMI")
    arguments = parser.parse_args()
    _more_files()
    asyncio.run(_serve(arguments.state, netconf=arguments.netconf, gnmi=arguments.gnmi))
    os._exit(0)  # hundreds of gRPC servers take their time to fall apart, and nobody waits for it


def _more_files() -> None:
    """As many open files as the system lets this process have: each device is a listener and a session."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < hard else soft, hard))


if __name__ == "__main__":
    sys.exit(main())
