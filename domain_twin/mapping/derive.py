"""Topology of devices that say nothing by RFC 8345, as if they had: nodes, termination points, links.

A device with ports and no topology of its own becomes a node, each port a termination point, and a pair of
LLDP neighbours (IEEE 802.1AB) a link each way. What comes out are records like those of `ietf`, so that joins
and checks are the same. Nothing is guessed: neighbours that contradict each other make a finding, no link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote

from domain_twin.mapping.index import Index
from domain_twin.mapping.integrity import Found
from domain_twin.mapping.records import Record, RecordKey, Records
from domain_twin.mapping.table import Kind
from domain_twin.model import Severity

_SAFE = "-._~:/@!$&'()*+,;="  # what may stand in a URI's path (RFC 3986 3.3)
_WATCHED = frozenset({Kind.NODE, Kind.TERMINATION_POINT, Kind.INTERFACE, Kind.SYSTEM, Kind.NEIGHBOUR})


class Port(NamedTuple):
    """An interface of a device."""

    device: str
    name: str

    def __str__(self) -> str:
        return f"{self.device} {self.name}"


class _Point(NamedTuple):
    node: str
    point: str


class Derivation:
    """Keeps derived records up to date. `point_of` finds the point that a device states for a port."""

    def __init__(self, domain: str, records: Records, point_of: Callable[[Port], RecordKey | None]) -> None:
        self._domain = domain
        self._records = records
        self._point_of = point_of
        self._described: Index[RecordKey, str] = Index()  # nodes and points that devices state -> device
        self._ports: Index[RecordKey, str] = Index()  # -> device
        self._macs: Index[RecordKey, str] = Index()
        self._neighbours: Index[RecordKey, str] = Index()
        self._places: dict[RecordKey, Record] = {}
        self._links: dict[RecordKey, Record] = {}
        self.findings: tuple[Found, ...] = ()

    def get(self, key: RecordKey) -> Record | None:
        """The derived record of that key."""
        return self._places.get(key) or self._links.get(key)

    def update(self, touched: Iterable[RecordKey]) -> set[RecordKey]:
        """Take note of touched records; the keys of the derived ones that came, went or changed."""
        devices: set[str] = set()
        relink = False
        for key in touched:
            if key.kind not in _WATCHED:
                continue
            record = self._records.get(key)
            if key.kind is Kind.INTERFACE:
                port = record is not None and "port" in record.attributes
                mac = record.attributes.get("mac") if record is not None else None
                before = self._ports.put(key, key.device if port else None)
                relink |= self._macs.put(key, mac.lower() if mac else None) != (mac.lower() if mac else None)
                if (before is not None) is port:
                    continue
            elif key.kind is Kind.NEIGHBOUR:
                self._neighbours.put(key, key.device if record is not None else None)
                relink = True
                continue
            elif key.kind is not Kind.SYSTEM:
                self._described.put(key, key.device if record is not None else None)
            devices.add(key.device)
        changed: set[RecordKey] = set()
        for device in devices:
            changed |= _replace(self._places, device, dict(self._place(device)))
        if devices or relink:
            links, found = self._link_up()
            changed |= _replace(self._links, "", links)
            self.findings = tuple(found)
        return changed

    # --- nodes and points

    def _place(self, device: str) -> Iterator[tuple[RecordKey, Record]]:
        ports = self._ports.keys(device)
        if not ports or self._described.keys(device):
            return
        system = self._records.get(RecordKey(Kind.SYSTEM, device, ()))
        said = system.attributes if system else {}
        node = self._node_id(device)
        name = said.get("host_name") or said.get("system_name") or device
        yield RecordKey(Kind.NODE, device, (node,)), Record({"id": node, "name": name})
        for port in ports:
            point = self._point_id(Port(device, port.keys[0]))
            yield (
                RecordKey(Kind.TERMINATION_POINT, device, (node, point)),
                Record({"id": point, "interface": port.keys[0]}),
            )

    def _node_id(self, device: str) -> str:
        return f"urn:ndt:{self._domain}:{quote(device, safe=_SAFE)}"

    def _point_id(self, port: Port) -> str:
        return f"{self._node_id(port.device)}:{quote(port.name, safe=_SAFE)}"

    def _point(self, port: Port) -> _Point | None:
        """The termination point of a port, derived or stated."""
        if self._described.keys(port.device):
            stated = self._point_of(port)
            return _Point(stated.keys[-2], stated.keys[-1]) if stated else None
        return _Point(self._node_id(port.device), self._point_id(port))

    # --- links

    def _link_up(self) -> tuple[dict[RecordKey, Record], list[Found]]:
        found: list[Found] = []
        claims = self._claims(found) if self._neighbours else {}
        partners: dict[Port, set[Port]] = {}
        for here, theirs in claims.items():
            for there in theirs:
                partners.setdefault(here, set()).add(there)
                partners.setdefault(there, set()).add(here)
        chosen: dict[Port, Port] = {}
        for port, others in partners.items():
            mutual = {o for o in others if o in claims.get(port, ()) and port in claims.get(o, ())}
            candidates = mutual or others
            if len(candidates) == 1:
                chosen[port] = next(iter(candidates))
            if len(others) > 1:
                found.append(_conflict(port, claims, others, chosen.get(port)))
        links: dict[RecordKey, Record] = {}
        for port, other in chosen.items():
            if chosen.get(other) != port or self._described.keys(port.device):
                continue  # what a device states of its links itself counts
            source, dest = self._point(port), self._point(other)
            if source is None or dest is None:
                continue
            link = f"{source.point}:out"
            links[RecordKey(Kind.LINK, port.device, (link,))] = Record(
                {
                    "id": link,
                    "source_node": source.node,
                    "source_tp": source.point,
                    "dest_node": dest.node,
                    "dest_tp": dest.point,
                }
            )
        return links, found

    def _claims(self, found: list[Found]) -> dict[Port, set[Port]]:
        """Whom each port hears, where that is a port of a device of this domain."""
        names, chassis = self._called()
        claims: dict[Port, set[Port]] = {}
        for key in sorted(self._neighbours):
            record = self._records.get(key)
            if record is None:
                continue
            here = Port(key.device, key.keys[0])
            said = record.attributes
            who = said.get("system_name") or said.get("chassis_id") or key.keys[1]
            devices = _who(said.get("system_name", ""), said.get("chassis_id", ""), names, chassis)
            if len(devices) != 1:
                found.append(_unknown(here, who) if not devices else _ambiguous(here, who, devices))
                continue
            there = self._port(next(iter(devices)), said)
            if there is None:
                found.append(_unknown_port(here, who, said))
            elif there == here:
                found.append(_itself(here))
            else:
                claims.setdefault(here, set()).add(there)
        return claims

    def _called(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Devices by what they call themselves, and by chassis id."""
        names: dict[str, set[str]] = {}
        chassis: dict[str, set[str]] = {}
        for device in {*self._ports.values(), *self._described.values()}:
            names.setdefault(device.lower(), set()).add(device)
        for key, record in self._records.of(Kind.SYSTEM).items():
            said = record.attributes
            for name in {said.get("system_name", ""), said.get("host_name", "")} - {""}:
                names.setdefault(name.lower(), set()).add(key.device)
            if said.get("chassis_id"):
                chassis.setdefault(_bare(said["chassis_id"]), set()).add(key.device)
        return names, chassis

    def _port(self, device: str, said: dict[str, str]) -> Port | None:
        """The port of a device that a neighbour's port id means: a name, a description, a MAC address."""
        interfaces = self._records
        for name in (said.get("port_id", ""), said.get("port_description", "")):
            if name and interfaces.get(RecordKey(Kind.INTERFACE, device, (name,))) is not None:
                return Port(device, name)
        named = [key for key in self._macs.keys(said.get("port_id", "").lower()) if key.device == device]
        return Port(device, named[0].keys[0]) if len(named) == 1 else None


def _replace(held: dict[RecordKey, Record], device: str, new: dict[RecordKey, Record]) -> set[RecordKey]:
    """Put the new records of a device (empty: of all) in the place of the old; the keys that differ."""
    old = {key: record for key, record in held.items() if device in {"", key.device}}
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    for key in changed:
        if key in new:
            held[key] = new[key]
        else:
            del held[key]
    return changed


def _who(name: str, chassis_id: str, names: dict[str, set[str]], chassis: dict[str, set[str]]) -> set[str]:
    """The devices that a neighbour may be: by name, with or without its domain part, and by chassis."""
    called = names.get(name.lower()) or names.get(name.lower().partition(".")[0], set()) if name else set()
    housed = chassis.get(_bare(chassis_id), set()) if chassis_id else set()
    if called and housed:
        return called & housed or called | housed
    return called or housed


def _bare(chassis_id: str) -> str:
    return chassis_id.lower().replace(":", "").replace("-", "").replace(".", "")


def _unknown(here: Port, who: str) -> Found:
    return (
        "neighbour.unknown",
        Severity.INFO,
        str(here),
        f"{here} hears {who}, which is no device of this domain",
        "mirror that device, or take it for equipment of others",
    )


def _ambiguous(here: Port, who: str, devices: set[str]) -> Found:
    return (
        "neighbour.ambiguous",
        Severity.WARNING,
        str(here),
        f"{here} hears {who}, which may be {' or '.join(sorted(devices))}; no link is made of it",
        "give each device a host name and a chassis id of its own",
    )


def _unknown_port(here: Port, who: str, said: dict[str, str]) -> Found:
    return (
        "neighbour.unknown-port",
        Severity.WARNING,
        str(here),
        f"{here} hears {who} on its port {said.get('port_id', '') or '(not said)'},"
        " which that device does not report; no link is made of it",
        "mirror the interfaces of that device, or have LLDP send interface names as port ids",
    )


def _itself(here: Port) -> Found:
    return (
        "neighbour.itself",
        Severity.WARNING,
        str(here),
        f"{here} hears itself: its line is looped back",
        "take the loop away",
    )


def _conflict(port: Port, claims: dict[Port, set[Port]], others: set[Port], taken: Port | None) -> Found:
    said = [
        *(f"{port} hears {other}" for other in sorted(claims.get(port, ()))),
        *(f"{other} hears {port}" for other in sorted(others) if port in claims.get(other, ())),
    ]
    outcome = f"{taken} is taken, as both say so" if taken else "no link is made of it"
    return (
        "neighbour.conflict",
        Severity.WARNING,
        str(port),
        f"neighbours of {port} contradict each other: {', '.join(said)}; {outcome}",
        "wait for old neighbours to age out; else look for a device between them that forwards LLDP",
    )
