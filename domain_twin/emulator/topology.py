"""The emulated network as built: devices, links, cells and their ids. Owns who is joined to whom.

Four domains: gNBs in an Xn ring; routers of a published topology; AMF, SMF and two UPFs; edge hosts in a
ring. Metrics keep traffic where an operator would: a link into another domain costs more than any way through
transport, so no domain carries another one's transit while there is another way. Capacities come later
(`demand`).
"""

import functools
import importlib.resources
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from domain_twin.emulator.network import Domain, NetworkSpec
from domain_twin.errors import ConfigError

__all__ = ["Adjacency", "Cell", "Device", "End", "Kind", "Link", "Topology", "build_topology"]

Kind = Literal["gnb", "router", "amf", "smf", "upf", "host"]
_Line = tuple[str, str, float, int]  # two devices, km, metric
_MS_PER_KM = 0.005
_BETWEEN = 10_000  # metric of a link into another domain
_XN, _USER_PLANE, _CONTROL, _RING = 20_000, 10_000, 1_000, 5_000
# Where the default topology's stories are best; other topologies follow the rule in `_attach`.
_POLSKA = {
    "upf-1": "wroclaw", "upf-2": "warsaw", "gnb-1": "szczecin", "gnb-2": "gdansk", "gnb-3": "bialystok",
    "gnb-4": "rzeszow", "gnb-5": "katowice", "gnb-6": "bydgoszcz",
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Device:
    """A device: a node of its domain's topology. `workers` 0 where it adds no processing."""

    index: int
    name: str
    domain: Domain
    kind: Kind
    workers: int = 0
    service_ms: float = 0.0
    ends: list["End"] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        """The node-id in the domain's topology."""
        return f"urn:ndt:{self.domain}:{self.name}"


@dataclass(frozen=True, slots=True)
class End:
    """One end of an adjacency: an interface and its termination point."""

    device: Device
    name: str
    metric: int

    @property
    def tp_id(self) -> str:
        """The tp-id of the termination point."""
        return f"{self.device.node_id}:{self.name}"

    @property
    def link_id(self) -> str:
        """The link-id of the direction that leaves here."""
        return f"{self.tp_id}:out"


@dataclass(slots=True, eq=False)
class Adjacency:
    """Two interfaces joined by a line; `crossing` is the inter-domain-link-id where it joins two domains."""

    a: End
    b: End
    propagation_ms: float
    crossing: str = ""
    capacity_mbps: float = 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of an adjacency; `index` is its place in the lexical order of link-ids."""

    index: int
    source: End
    target: End
    adjacency: Adjacency

    @property
    def reported_id(self) -> str:
        """What the device calls it: the link-id, or the inter-domain-link-id at a border."""
        return self.adjacency.crossing or self.source.link_id


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a gNB."""

    index: int
    device: Device
    local_id: int
    pci: int
    arfcn: int
    bandwidth_mhz: int
    mcs: float

    @property
    def name(self) -> str:
        """Short name, as flows and faults use it."""
        return f"{self.device.name}.cell-{self.local_id}"

    @property
    def cell_id(self) -> str:
        """The cell as an element of the domain's twin."""
        return f"{self.device.node_id}:cell-{self.local_id}"


@dataclass  # no slots: they leave no room for the cached properties
class Topology:
    """Everything that stands still: devices, lines, cells."""

    devices: list[Device]
    adjacencies: list[Adjacency]
    cells: list[Cell]
    demand: dict[tuple[str, str], float]  # between routers, by name; unitless

    @functools.cached_property
    def links(self) -> list[Link]:
        """Both directions of every adjacency, in lexical order of link-id: the order ties are broken in."""
        ends = [(x.a, x.b, x) for x in self.adjacencies] + [(x.b, x.a, x) for x in self.adjacencies]
        ends.sort(key=lambda item: item[0].link_id)
        return [Link(i, *item) for i, item in enumerate(ends)]

    @functools.cached_property
    def link_of(self) -> Mapping[str, Link]:
        """Links by the tp-id they leave from."""
        return {link.source.tp_id: link for link in self.links}

    def device(self, name: str) -> Device:
        """The device of this name. Raises KeyError."""
        return next((d for d in self.devices if d.name == name), None) or _missing(name)

    def of_kind(self, kind: Kind) -> list[Device]:
        """All devices of one kind, in order."""
        return [d for d in self.devices if d.kind == kind]


def _missing(name: str) -> Any:
    raise KeyError(name)


def build_topology(spec: NetworkSpec) -> Topology:
    """Build the network that `spec` describes. Raises ConfigError for a wrong topology or attachment."""
    routers, lines, demand = _transport(spec.topology)
    devices: list[Device] = []

    def add(domain: Domain, kind: Kind, names: Iterable[str], workers: int = 0, ms: float = 0.0) -> None:
        for name in names:
            devices.append(Device(len(devices), name, domain, kind, workers, ms))

    add("ran", "gnb", (f"gnb-{i + 1}" for i in range(spec.gnbs)))
    add("transport", "router", sorted(routers))
    add("core", "amf", ["amf-1"], 1, 0.5)
    add("core", "smf", ["smf-1"], 1, 0.5)
    add("core", "upf", ["upf-1", "upf-2"], 2, 0.35)
    add("edge", "host", (f"host-{i + 1}" for i in range(spec.hosts)), 3, 0.6)
    topology = Topology(devices, [], [], demand)
    crossing_ids = _crossing_ids(spec.seed)
    inside = [(a, b, km, round(km * 10)) for a, b, km in lines]
    for line in [*inside, *_lines(topology, _attach(spec, routers, lines))]:
        _join(topology, crossing_ids, line)
    rng = np.random.default_rng(spec.seed)
    for device in topology.of_kind("gnb"):
        for n in range(spec.cells_per_gnb):
            mcs = float(rng.integers(19, 22))
            index = len(topology.cells)
            topology.cells.append(Cell(index, device, n + 1, index % 1008, 640000 + 1000 * n, 100, mcs))
    return topology


def _lines(topology: Topology, attached: Mapping[str, str]) -> Iterable[_Line]:
    """Every line outside transport."""
    gnbs = [d.name for d in topology.of_kind("gnb")]
    hosts = [d.name for d in topology.of_kind("host")]
    yield from ((gnb, attached[gnb], 10.0, _BETWEEN) for gnb in gnbs)
    yield from ((a, b, 30.0, _XN) for a, b in _ring(gnbs))
    yield "amf-1", "smf-1", 1.0, _CONTROL
    yield "smf-1", "upf-1", 20.0, _USER_PLANE
    yield "smf-1", "upf-2", 20.0, _USER_PLANE
    yield "upf-1", "upf-2", 40.0, _USER_PLANE
    yield "upf-1", attached["upf-1"], 5.0, _BETWEEN
    yield "upf-2", attached["upf-2"], 5.0, _BETWEEN
    yield "upf-1", hosts[0], 2.0, _BETWEEN
    yield "upf-2", hosts[len(hosts) // 2], 2.0, _BETWEEN
    yield from ((a, b, 10.0, _RING) for a, b in _ring(hosts))


def _ring(names: Sequence[str]) -> list[tuple[str, str]]:
    pairs = list(itertools.pairwise(names))
    return [*pairs, (names[-1], names[0])] if len(names) > 2 else pairs


def _join(topology: Topology, crossing_ids: Any, line: _Line) -> None:
    a, b, km, metric = line
    near, far = topology.device(a), topology.device(b)
    ends = [End(d, f"eth{len(d.ends)}", metric) for d in (near, far)]
    crossing = next(crossing_ids) if near.domain != far.domain else ""
    topology.adjacencies.append(Adjacency(ends[0], ends[1], km * _MS_PER_KM, crossing))
    near.ends.append(ends[0])
    far.ends.append(ends[1])


def _crossing_ids(seed: int) -> Any:
    """Inter-domain-link-ids that reveal nothing of what they join."""
    rng, used = np.random.default_rng([seed, 4]), set[str]()
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))
    while True:
        word = "".join(rng.choice(letters, 4))
        if word not in used:
            used.add(word)
            yield f"urn:ndt:idl:{word}"


def _transport(name: str) -> tuple[list[str], list[tuple[str, str, float]], dict[tuple[str, str], float]]:
    """Router names, lines with their length in km, and the demand matrix of a topohub topology."""
    import topohub

    try:  # not topohub.get, which leaves the file open
        file = importlib.resources.files(topohub) / "data" / f"{name}.json"
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(
            f"topology: topohub has no '{name}'; try sndlib/polska (12 routers) or sndlib/nobel-us (14)"
        ) from None
    names: dict[int, str] = {}
    for node in data["nodes"]:
        short = re.sub(r"[^a-z0-9]+", "-", str(node.get("name") or f"router-{node['id']}").lower()).strip("-")
        names[node["id"]] = short if short not in names.values() else f"{short}-{node['id']}"
    lines = {
        tuple(sorted((names[e["source"]], names[e["target"]]))): float(e["dist"])
        for e in data["edges"]
        if e["source"] != e["target"]
    }
    demand: dict[tuple[str, str], float] = {}
    for source, row in (data["graph"].get("demands") or {}).items():
        for target, value in row.items():
            demand[names[int(source)], names[int(target)]] = float(value)
            demand.setdefault((names[int(target)], names[int(source)]), float(value))
    everyone = sorted(names.values())
    if not demand:
        demand = {(a, b): 1.0 for a in everyone for b in everyone if a != b}
    return everyone, sorted((a, b, km) for (a, b), km in lines.items()), demand


def _attach(
    spec: NetworkSpec, routers: Sequence[str], lines: Sequence[tuple[str, str, float]]
) -> dict[str, str]:
    """Choose the router of every gNB and UPF.

    UPFs stand at the most central routers; gNBs follow, each at the router that is farthest from all taken.
    """
    place = {name: i for i, name in enumerate(routers)}
    far = np.full((len(routers), len(routers)), np.inf)
    np.fill_diagonal(far, 0.0)
    for a, b, km in lines:
        far[place[a], place[b]] = far[place[b], place[a]] = km
    for via in range(len(routers)):
        far = np.minimum(far, far[:, via : via + 1] + far[via : via + 1, :])
    fixed = {**(_POLSKA if spec.topology == "sndlib/polska" else {}), **spec.attachments}
    wanted = ["upf-1", "upf-2", *(f"gnb-{i + 1}" for i in range(spec.gnbs))]
    for name, router in spec.attachments.items():
        if name not in wanted:
            raise ConfigError(f"attachments.{name}: no such gNB or UPF; there are {', '.join(wanted)}")
        if router not in place:
            raise ConfigError(f"attachments.{name}: no router '{router}'; there are {', '.join(routers)}")
    attached = {name: fixed[name] for name in wanted if name in fixed}
    for name in wanted:
        if name in attached:
            continue
        taken = [place[r] for r in attached.values()]
        free = [i for i in range(len(routers)) if i not in taken] or list(range(len(routers)))
        if name.startswith("upf"):
            attached[name] = routers[min(free, key=lambda i: float(far[i].sum()))]
        else:
            attached[name] = routers[max(free, key=lambda i: float(far[i, taken].min()))]
    return attached
