"""The management servers of one device: opened, closed and opened again at the same ports. Owns no data."""

from typing import Any

from domain_twin.emulator.device import DeviceDatastore
from domain_twin.emulator.keys import DeviceKeys, Served
from domain_twin.emulator.network import Domain, ServerSpec

__all__ = ["PROTOCOLS", "DeviceServers"]

PROTOCOLS: dict[Domain, tuple[str, ...]] = {
    "ran": ("netconf",), "transport": ("gnmi", "netconf"), "core": ("gnmi", "netconf"), "edge": ("gnmi",),
}  # fmt: skip


class DeviceServers:
    """One device's NETCONF and gNMI servers, whichever its domain has."""

    def __init__(
        self, store: DeviceDatastore, domain: Domain, *, keys: DeviceKeys, client_roots: bytes, password: str,
        servers: ServerSpec, number: int,
    ) -> None:  # fmt: skip
        self.store, self.domain = store, domain
        self._keys, self._client_roots, self._password, self._servers = keys, client_roots, password, servers
        self.ports = {
            "netconf": servers.port_base_netconf and servers.port_base_netconf + number,
            "gnmi": servers.port_base_gnmi and servers.port_base_gnmi + number,
        }
        self._open: dict[str, Any] = {}

    @property
    def served(self) -> Served:
        """Where the servers listen; 0 where there is none."""
        has = PROTOCOLS[self.domain]
        return Served(
            self.store.name,
            self.ports["netconf"] if "netconf" in has else 0,
            self.ports["gnmi"] if "gnmi" in has else 0,
            self._keys.host_key,
        )

    @property
    def up(self) -> bool:
        """Whether the servers are open."""
        return bool(self._open)

    def sessions(self, protocol: str) -> int:
        """Sessions (NETCONF) or subscriptions (gNMI) that are open."""
        return self._open[protocol].sessions if protocol in self._open else 0

    async def open(self) -> None:
        """Open what is closed. Raises ConfigError where a port is taken."""
        from domain_twin.emulator.gnmi_target import serve_gnmi
        from domain_twin.emulator.netconf_server import serve_netconf

        host = self._servers.host
        for protocol in PROTOCOLS[self.domain]:
            if protocol in self._open:
                continue
            server: Any
            if protocol == "netconf":
                server = await serve_netconf(
                    self.store,
                    host=host,
                    port=self.ports["netconf"],
                    host_key=self._keys.host_key.read_bytes(),
                    users={self._servers.username: self._password},
                )
            else:
                server = await serve_gnmi(
                    self.store,
                    host=host,
                    port=self.ports["gnmi"],
                    certificate=self._keys.certificate,
                    key=self._keys.key,
                    client_roots=self._client_roots,
                )
            self.ports[protocol] = server.port
            self._open[protocol] = server

    async def close(self) -> None:
        """Close whatever is open; sessions end as if the device were gone."""
        opened, self._open = self._open, {}
        for server in opened.values():
            await server.close()
