"""Emulated devices of any vendor's modules, and a twin of them, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from domain_twin.agent.schema import load_schema
from domain_twin.agent.twin import DomainTwin
from domain_twin.config import load_agent
from domain_twin.datastore.checkpoint import Checkpoint
from domain_twin.emulator import device
from domain_twin.emulator.device import DeviceDatastore
from domain_twin.emulator.gnmi_target import serve_gnmi
from domain_twin.emulator.keys import DomainKeys, Served, write_inventory
from domain_twin.emulator.netconf_server import serve_netconf
from domain_twin.emulator.network import ServerSpec
from domain_twin.model import ServiceRecords
from domain_twin.resources import data_folder, standard_yang_folders

T = TypeVar("T")
STANDINS = Path(__file__).resolve().parents[1] / "standins"


@dataclass
class Emulated:
    """One device: what it implements, what it is configured with, what it reports."""

    name: str
    modules: Sequence[str]
    config: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    protocol: str = "gnmi"


@asynccontextmanager
async def vendor_domain(
    folder: Path, devices: Sequence[Emulated], yang: Path = STANDINS, *, paths: str = ""
) -> AsyncIterator[tuple[DomainTwin, dict[str, DeviceDatastore]]]:
    """The devices, served, and the twin that mirrors them."""
    settings = ServerSpec()
    keys = DomainKeys(folder / "devices", "transport", settings)
    stores: dict[str, DeviceDatastore] = {}
    served = []
    async with AsyncExitStack() as stack:
        for item in devices:
            schema = device.load_schema(
                tuple(item.modules), (yang, data_folder("yang"), *standard_yang_folders())
            )
            store = stores[item.name] = DeviceDatastore(item.name, schema)
            store.load(item.config, item.state)
            own = keys.device(item.name)
            server: Any
            if item.protocol == "gnmi":
                server = await serve_gnmi(
                    store,
                    host="127.0.0.1",
                    port=0,
                    certificate=own.certificate,
                    key=own.key,
                    client_roots=keys.root,
                )
            else:
                server = await serve_netconf(
                    store,
                    host="127.0.0.1",
                    port=0,
                    host_key=own.host_key.read_bytes(),
                    users={settings.username: keys.password},
                )
            stack.push_async_callback(server.close)
            ports = {"netconf": 0, "gnmi": 0} | {item.protocol: server.port}
            served.append(Served(item.name, ports["netconf"], ports["gnmi"], own.host_key))
        inventory = write_inventory(keys, settings, served)
        if paths:
            text = inventory.read_text().replace("[[device]]\n", f'[[device]]\npaths = ["{paths}"]\n')
            inventory.write_text(text)
        (folder / "agent.toml").write_text(
            'domain = "transport"\noperator = "transport.example"\nstate = "state"\n'
            f'inventory = ["{inventory}"]\n'
            f'[yang]\ndirectories = ["{yang}"]\n[history]\nenabled = false\n'
        )
        config = load_agent(folder / "agent.toml")
        config.state.mkdir()
        checkpoint = Checkpoint(config.state)
        twin = DomainTwin(
            config,
            schema=await load_schema(config),
            records=ServiceRecords(),
            restored=checkpoint.restore(),
            checkpoint=checkpoint,
            history=None,
        )
        running = asyncio.create_task(twin.run())
        try:
            yield twin, stores
        finally:
            twin.stop()
            await running


async def eventually(question: Callable[[], T | None], what: str, within_s: float = 60) -> T:
    """The first answer that is neither None nor False. Fails when none comes in time."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                if answer := question():
                    return answer
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"within {within_s:g} s there was no {what}") from None
