"""The faults: how each is made, what it takes away, and how it is mended. Owns the catalogue.

A fault is an async context manager: entering makes it, leaving mends it. It yields the losses that the twins
must notice. `touches` names what it lays its hand on, so that two at once do not get into each other's way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random

import psutil
from fault_churn import Churn
from fault_network import (
    DEVICES,
    DOMAINS,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    FaultNetwork,
)
from fault_observer import Loss, Observer
from fault_proxy import Proxy, Trouble


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault works on."""

    network: FaultNetwork
    observer: Observer
    churn: Churn
    rng: Random


Losses = tuple[Loss, ...]
Act = Callable[[Scene, str], AbstractAsyncContextManager[Losses]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its name, what it can hit, how it is made, and how often it is drawn."""

    name: str
    targets: tuple[str, ...]
    act: Act
    weight: float
    lasts_s: tuple[float, float] = (0.0, 0.8)  # after its losses were noticed
    quick: bool = True  # in the short run


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: a kind and a target."""

    kind: Kind
    target: str

    @property
    def name(self) -> str:
        """For people, and to draw it again."""
        return f"{self.kind.name}:{self.target}" if self.target else self.kind.name

    @property
    def touches(self) -> frozenset[str]:
        """Processes and links that it lays its hand on."""
        domain = self.target.partition("/")[0].partition(">")[0]
        if self.kind.name.endswith("emulator"):
            return frozenset({"emulator", *(f"{d}/devices" for d in DOMAINS)})
        if self.kind.name.endswith("broker"):
            return frozenset({"broker", *(f"{d}>broker" for d in DOMAINS)})
        if self.kind.name.endswith("session"):
            return frozenset({f"{domain}>broker"})
        if self.kind.name.endswith("devices"):
            return frozenset({f"{domain}/devices"})
        return frozenset({f"agent-{domain}"})


# --- what can be hit

_AGENTS = DOMAINS
_NOTHING = ("",)
_SESSIONS = tuple(f"{domain}>broker" for domain in DOMAINS)
_DEVICES = (  # one device, or all of a domain
    *(f"{domain}/{device}" for domain in DOMAINS for device in DEVICES[domain]),
    *(f"{domain}/" for domain in DOMAINS for _ in range(3)),
)


# --- losses


def _domain(domain: str) -> Loss:
    return Loss(domain)


def _device(domain: str, device: str = "") -> Loss:
    return Loss(domain, device)


def _all_devices() -> Losses:
    return tuple(_device(domain) for domain in DOMAINS)


@asynccontextmanager
async def _away(scene: Scene, *names: str) -> AsyncIterator[None]:
    """While the block lasts these cannot be asked, nor notice anything."""
    for name in names:
        scene.observer.unavailable[name] = time.monotonic()
    try:
        yield
    finally:
        for name in names:
            scene.observer.unavailable.pop(name, None)
            scene.observer.recovered[name] = time.monotonic()


# --- processes


def _ended(number: int, process: str = "") -> Act:
    """A process ends by a signal, and is started again."""

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        name = process or f"agent-{target}"
        began = time.monotonic()
        async with _away(scene, name):
            await scene.network.end(name, number)
            try:
                yield _process_losses(name, unheard=True)
            finally:
                await scene.network.start(name)
                if name == "emulator":
                    scene.churn.reset(began)

    return act


def _stopped(process: str = "", *, briefly: bool = False) -> Act:
    """A process stands still for a while."""

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        name = process or f"agent-{target}"
        async with _away(scene, name):
            scene.network.signal(name, SIGSTOP)
            try:
                if briefly:
                    await asyncio.sleep(scene.rng.uniform(0.1, 0.9))
                yield () if briefly else _process_losses(name)
            finally:
                scene.network.signal(name, SIGCONT)

    return act


def _process_losses(name: str, *, unheard: bool = False) -> Losses:
    if name == "emulator":
        return _all_devices()
    return () if name == "broker" else (Loss(name.removeprefix("agent-"), unheard=unheard),)


@asynccontextmanager
async def _worker_killed(scene: Scene, target: str) -> AsyncIterator[Losses]:
    """The process that validates an agent's trees is killed."""
    for worker in scene.network.ps(f"agent-{target}").children(recursive=True):
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue
    yield ()


# --- connections


def _proxies(scene: Scene, target: str) -> list[Proxy]:
    if ">" in target:
        return [scene.network.to_broker[target.partition(">")[0]]]
    domain, _, device = target.partition("/")
    return scene.network.proxies_of(domain, device)


def _link_losses(target: str) -> Losses:
    if ">" in target:
        return (_domain(target.partition(">")[0]),)
    domain, _, device = target.partition("/")
    return (_device(domain, device),)


def _once(how: str) -> Act:
    """Connections are cut, or closed in one direction; new ones can be made at once."""

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        for proxy in _proxies(scene, target):
            getattr(proxy, how)()
        yield ()

    return act


def _troubled(trouble: Trouble, *, lost: bool, cut: bool = False) -> Act:
    """Something is wrong with connections for a while."""

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        names = (target,) if ">" in target else ()
        async with _away(scene, *names):
            proxies = _proxies(scene, target)
            for proxy in proxies:
                proxy.kbit_s = scene.rng.choice((50.0, 200.0))
                proxy.delay_s = scene.rng.uniform(0.02, 0.3)
                proxy.set(trouble)
                if cut:
                    proxy.cut()
            try:
                yield _link_losses(target) if lost else ()
            finally:
                for proxy in proxies:
                    proxy.set(Trouble.NONE)

    return act


# --- files


def _restarted_with(damage: Callable[[Scene, str], None]) -> Act:
    """An agent is killed, its files are hurt, and it is started again."""

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        async with _ended(SIGKILL)(scene, target) as losses:
            damage(scene, target)
            yield losses

    return act


def _delete_checkpoint(scene: Scene, domain: str) -> None:
    for path in (scene.network.folder / domain / "state").glob("checkpoint.*"):
        path.unlink()


def _damage_checkpoint(scene: Scene, domain: str) -> None:
    _damage(scene, scene.network.folder / domain / "state" / "checkpoint.parquet")


def _damage_history(scene: Scene, domain: str) -> None:
    files = [p for p in (scene.network.folder / domain / "state" / "history").rglob("*") if p.is_file()]
    if files:
        _damage(scene, scene.rng.choice(sorted(files)))


def _damage(scene: Scene, path: object) -> None:
    from pathlib import Path

    assert isinstance(path, Path)
    if not path.exists() or not path.stat().st_size:
        return
    content = bytearray(path.read_bytes())
    if scene.rng.random() < 0.4:
        del content[scene.rng.randrange(len(content)) :]
    else:
        for _ in range(scene.rng.randint(1, 64)):
            content[scene.rng.randrange(len(content))] ^= scene.rng.randrange(1, 256)
    path.write_bytes(content)


def _full_disk(process: str = "") -> Act:
    """No file of a process may grow: every write fails, as on a full disk.

    What cannot be put into the audit is not disclosed: the broker answers nobody then, an agent no broker.
    """

    @asynccontextmanager
    async def act(scene: Scene, target: str) -> AsyncIterator[Losses]:
        name = process or f"agent-{target}"
        ps = scene.network.ps(name)
        _, hard = ps.rlimit(psutil.RLIMIT_FSIZE)
        async with _away(scene, process or f"{target}>broker"):
            ps.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
            try:
                yield ()
            finally:
                ps.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))

    return act


@asynccontextmanager
async def _clock_jumped(scene: Scene, target: str) -> AsyncIterator[Losses]:
    """An agent's clock is set forward or back, and later to the right time again."""
    seconds = scene.rng.choice((-1, 1)) * scene.rng.choice((2.0, 45.0, 400.0, 3600.0))
    scene.network.set_clock(target, seconds)
    try:
        yield ()
    finally:
        scene.network.set_clock(target, 0.0)


@asynccontextmanager
async def _socket_removed(scene: Scene, target: str) -> AsyncIterator[Losses]:
    """Somebody cleans up, and takes the agent's socket along; a restart brings it back."""
    async with _away(scene, f"agent-{target}"):
        scene.network.files.socket(target).unlink(missing_ok=True)
        try:
            yield ()
        finally:
            await scene.network.end(f"agent-{target}", SIGTERM)
            await scene.network.start(f"agent-{target}")


TOGETHER, DURING = "+", ">>"
KINDS: tuple[Kind, ...] = (
    Kind("kill-agent", _AGENTS, _ended(SIGKILL), 4),
    Kind("term-agent", _AGENTS, _ended(SIGTERM), 2),
    Kind("stop-agent", _AGENTS, _stopped(), 3),
    Kind("pause-agent", _AGENTS, _stopped(briefly=True), 2),
    Kind("kill-worker", _AGENTS, _worker_killed, 2),
    Kind("kill-broker", _NOTHING, _ended(SIGKILL, "broker"), 2),
    Kind("term-broker", _NOTHING, _ended(SIGTERM, "broker"), 1),
    Kind("stop-broker", _NOTHING, _stopped("broker"), 2, (0.2, 2.5)),
    Kind("kill-emulator", _NOTHING, _ended(SIGKILL, "emulator"), 1),
    Kind("stop-emulator", _NOTHING, _stopped("emulator"), 2),
    Kind("pause-emulator", _NOTHING, _stopped("emulator", briefly=True), 1),
    Kind("cut-session", _SESSIONS, _once("cut"), 3),
    Kind("half-close-session", _SESSIONS, _once("half_close"), 2),
    Kind("hold-session", _SESSIONS, _troubled(Trouble.HOLD, lost=True), 3),
    Kind("swallow-session", _SESSIONS, _troubled(Trouble.SWALLOW, lost=True), 3),
    Kind("refuse-session", _SESSIONS, _troubled(Trouble.REFUSE, lost=True, cut=True), 2),
    Kind("throttle-session", _SESSIONS, _troubled(Trouble.THROTTLE, lost=False), 2, (0.5, 3.0)),
    Kind("delay-session", _SESSIONS, _troubled(Trouble.DELAY, lost=False), 2, (0.5, 3.0)),
    Kind("corrupt-session", _SESSIONS, _troubled(Trouble.CORRUPT, lost=False), 3, (0.3, 2.0)),
    Kind("truncate-session", _SESSIONS, _troubled(Trouble.TRUNCATE, lost=False), 2, (0.3, 2.0)),
    Kind("cut-devices", _DEVICES, _once("cut"), 4),
    Kind("half-close-devices", _DEVICES, _once("half_close"), 2),
    Kind("hold-devices", _DEVICES, _troubled(Trouble.HOLD, lost=True), 4),
    Kind("swallow-devices", _DEVICES, _troubled(Trouble.SWALLOW, lost=True), 4),
    Kind("refuse-devices", _DEVICES, _troubled(Trouble.REFUSE, lost=True, cut=True), 3),
    Kind("throttle-devices", _DEVICES, _troubled(Trouble.THROTTLE, lost=False), 2, (0.5, 3.0)),
    Kind("delay-devices", _DEVICES, _troubled(Trouble.DELAY, lost=False), 2, (0.5, 3.0)),
    Kind("corrupt-devices", _DEVICES, _troubled(Trouble.CORRUPT, lost=False), 4, (0.3, 2.0)),
    Kind("truncate-devices", _DEVICES, _troubled(Trouble.TRUNCATE, lost=False), 3, (0.3, 2.0)),
    Kind("delete-checkpoint", _AGENTS, _restarted_with(_delete_checkpoint), 1),
    Kind("damage-checkpoint", _AGENTS, _restarted_with(_damage_checkpoint), 1),
    Kind("damage-history", _AGENTS, _restarted_with(_damage_history), 2),
    Kind("remove-socket", _AGENTS, _socket_removed, 1),
    Kind("full-disk", _AGENTS, _full_disk(), 2, (0.5, 3.0)),
    Kind("full-disk-of-broker", _NOTHING, _full_disk("broker"), 1, (0.5, 3.0), quick=False),
    Kind("clock-jump", _AGENTS, _clock_jumped, 2, (0.5, 3.0)),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def parse(name: str) -> Fault:
    """A fault by its name, `kind:target`. Raises KeyError, ValueError."""
    kind_name, _, target = name.partition(":")
    kind = BY_NAME[kind_name]
    if target not in kind.targets:
        known = ", ".join(dict.fromkeys(kind.targets))
        raise ValueError(f"{name}: there is no such target; there are {known}")
    return Fault(kind, target)


def steps(seed: int, *, quick: bool) -> Iterator[str]:
    """The steps of a run, without end: one fault, `a+b` at once, or `a>>b` one after the other."""
    rng = Random(f"{seed} draws")
    kinds = [kind for kind in KINDS if kind.quick or not quick]
    weights = [kind.weight for kind in kinds]

    def one() -> Fault:
        kind = rng.choices(kinds, weights)[0]
        return Fault(kind, rng.choice(kind.targets))

    while True:
        first, how = one(), rng.random()
        if how > 0.25:
            yield first.name
            continue
        second = one()
        while second.touches & first.touches:
            second = one()
        yield f"{first.name}{TOGETHER if how > 0.12 else DURING}{second.name}"


def drawn(seed: int, faults: int, *, quick: bool) -> list[str]:
    """Steps with at least so many faults."""
    found: list[str] = []
    for step in steps(seed, quick=quick):
        if sum(count(each) for each in found) >= faults:
            break
        found.append(step)
    return found


def count(step: str) -> int:
    """How many faults a step has."""
    return len(step.replace(DURING, TOGETHER).split(TOGETHER))
