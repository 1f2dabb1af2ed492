"""Make the tables of `modulated`, in minutes: `python -m domain_twin.simulation.laws.tables`.

Each entry is the stationary solution of a queue with a finite room whose arrivals come at a rate that itself
wanders: a quasi-birth-death chain (Neuts 1981, ch. 3) of number in system, arrival stage, service stage and
the number of bursts that are on (an Ehrenfest urn). Solved level by level from the full queue down.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.graph import FloatArray

__all__ = ["BURSTS", "LOADS", "ROOMS", "SPREADS", "VARIABILITIES", "main", "solve_modulated"]

log = logging.getLogger(__name__)

LOADS = np.array(
    [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 1.0, 1.02, 1.05,
     1.1,     1.2, 1.35, 1.6, 2.0, 2.5, 3.0]
)  # fmt: skip
"""Offered work, in servers."""
SPREADS = np.array(
    [0.0, 0.004, 0.01, 0.02, 0.04, 0.07, 0.125, 0.18, 0.25, 0.36, 0.5, 0.7, 1.0, 1.5, 2.5, 4.0, 8.0]
)
"""Squared coefficient of variation of the aggregate rate."""
BURSTS = np.array([0.5, 2.0, 8.0, 32.0, 128.0, 512.0, 2048.0, 8192.0])
"""Relaxation time of the rate, in mean service times."""
VARIABILITIES = np.array([1.0, 1.5, 2.0, 5.0])
"""Squared c.v. of arrivals within a burst plus that of service times: what heavy traffic sees of both."""
ROOMS = np.array([1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513])
"""Packets in the system."""

COLUMNS = 5
FLOOR = -90.0  # of logarithms: e^-90 is no wait and no loss

# (arrival stages, service: Erlang stages or 0 for two-phase hyperexponential with the squared c.v. beside it)
_STAGES = {1.0: (2, 2, 0.5), 1.5: (1, 2, 0.5), 2.0: (1, 1, 1.0), 5.0: (1, 0, 4.0)}


def _service(stages: int, scv: float) -> tuple[FloatArray, FloatArray]:
    """Start probabilities and generator of a phase-type service time of mean 1."""
    if stages:
        inner = stages * (np.eye(stages, k=1) - np.eye(stages))
        return np.eye(stages)[0], inner
    share = 0.5 * (1 + np.sqrt((scv - 1) / (scv + 1)))  # balanced means (Tijms 1994, 2.1)
    return np.array([share, 1 - share]), -np.diag([2 * share, 2 * (1 - share)])


def _rates(spread: float, burst: float) -> tuple[FloatArray, FloatArray]:
    """Relative rate in each state, and generator, of the urn: mean 1, the given scv and relaxation time."""
    if spread == 0:
        return np.ones(1), np.zeros((1, 1))
    urns = int(min(8, max(1, np.floor(1 / spread + 1e-9))))
    on = 0.5 if spread <= 1 else 1 / (1 + spread)
    step = np.sqrt(spread / (urns * on * (1 - on)))  # of rate, per burst that is on
    rate = np.maximum(1 + step * (np.arange(urns + 1) - urns * on), 0.0)
    up, down = (urns - np.arange(urns)) * on / burst, np.arange(1, urns + 1) * (1 - on) / burst
    generator = np.diag(up, 1) + np.diag(down, -1)
    return rate, generator - np.diag(generator.sum(1))


def solve_modulated(
    loads: FloatArray, room: int, spread: float, burst: float, variability: float
) -> FloatArray:
    """Wait, its variance, loss; then wait and loss of a Poisson stream that adds nothing: [loads, COLUMNS].

    Waits in mean service times. The stream sees averages over time (PASTA), the bursts' own packets see more.
    """
    stages, shape, scv = _STAGES[variability]
    start, inner = _service(shape, scv)
    leave = -inner.sum(1)
    rate, urn = _rates(spread, burst)
    phases, urns = len(start), len(rate)
    ones, whole = np.eye(stages), np.eye(urns)
    advance = np.eye(stages, k=1)
    wrap = np.zeros((stages, stages))
    wrap[-1, 0] = 1.0
    # [loads, urns, urns]: stage changes of the arrival process per unit of time
    pace = stages * loads[:, None, None] * np.diag(rate)

    def kron(*parts: FloatArray) -> FloatArray:
        out = np.ones((1, 1))
        for part in parts:
            out = np.einsum("...ab,...cd->...acbd", out, part).reshape(
                *np.broadcast_shapes(out.shape[:-2], part.shape[:-2]),
                out.shape[-2] * part.shape[-2],
                out.shape[-1] * part.shape[-1],
            )
        return out

    serve = np.eye(phases)
    up = kron(wrap, serve, pace)
    down = np.broadcast_to(kron(ones, np.outer(leave, start), whole), up.shape)
    local = (
        kron(ones, inner, whole)
        + kron(ones, serve, urn)
        + kron(advance, serve, pace)
        - kron(ones, serve, pace)
    )
    up0 = kron(wrap, start[None, :], pace)
    down1 = np.broadcast_to(
        kron(ones, leave[:, None], whole), (len(loads), stages * phases * urns, stages * urns)
    )
    local0 = kron(ones, urn) + kron(advance, pace) - kron(ones, pace)
    # pi_k = pi_k-1 R_k: from the full level, where an arrival is lost and its process starts anew.
    step = up @ np.linalg.inv(-(local + up)) if room > 1 else up0 @ np.linalg.inv(-(local + up))
    ratios = [step]
    for _ in range(room - 2):
        new = up @ np.linalg.inv(-(local + step @ down))
        if np.abs(new - step).max() < 1e-14:
            break
        step = new
        ratios.append(step)
    # ratios[i] is R of level room - i; below the last one they are all alike.
    first = up0 @ np.linalg.inv(-(local + (ratios[-1] if room > 1 else 0 * local) @ down))
    if room == 1:
        first = step
    base = local0 + first @ down1
    base = np.swapaxes(base, 1, 2).copy()
    base[:, -1, :] = 1.0
    right = np.zeros((len(loads), stages * urns, 1))
    right[:, -1] = 1.0
    level = np.linalg.solve(base, right)[:, :, 0]
    arrive0 = np.einsum("lsu,u->l", level.reshape(-1, stages, urns)[:, -1:], rate)
    residual1 = -np.linalg.solve(inner, np.ones(phases))
    residual2 = -2 * np.linalg.solve(inner, residual1)
    noise = residual2 @ start - 1.0
    total, accepted = level.sum(1), arrive0.copy()
    one, two = np.zeros(len(loads)), np.zeros(len(loads))
    lost, full = np.zeros(len(loads)), np.zeros(len(loads))
    seen, inside = np.zeros(len(loads)), level.sum(1)
    offered = np.zeros(len(loads)) + arrive0
    for k in range(1, room + 1):
        level = (level[:, None, :] @ (first if k == 1 else ratios[min(room - k, len(ratios) - 1)]))[:, 0]
        total += level.sum(1)
        arrive = np.einsum("lspu,u->lp", level.reshape(-1, stages, phases, urns)[:, -1:], rate)
        offered += arrive.sum(1)
        if k == room:
            lost, full = arrive.sum(1), level.sum(1)
            break
        present = level.reshape(-1, stages, phases, urns).sum((1, 3))
        inside += present.sum(1)
        seen += present @ residual1 + (k - 1) * present.sum(1)
        accepted += arrive.sum(1)
        one += arrive @ residual1 + (k - 1) * arrive.sum(1)
        two += (
            arrive @ residual2
            + 2 * (k - 1) * (arrive @ residual1)
            + arrive.sum(1) * ((k - 1) * noise + (k - 1.0) ** 2)
        )
        scale = np.where(total > 1e200, 1e-200, 1.0)
        if (scale < 1).any():
            level = level * scale[:, None]
            for part in (total, accepted, one, two, offered, seen, inside):
                np.multiply(part, scale, out=part)
    wait = one / accepted
    spread_of_wait = np.maximum(two / accepted - wait**2, 0.0)
    return np.stack([wait, spread_of_wait, lost / offered, seen / inside, full / total], 1)


def build(rooms: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Logarithms of `solve_modulated`: [rooms, variabilities, bursts, spreads, loads, COLUMNS], float32."""
    shape = (len(rooms), len(VARIABILITIES), len(BURSTS), len(SPREADS), len(LOADS), COLUMNS)
    table = np.zeros(shape, np.float32)
    for r, room in enumerate(rooms):
        begun = time.perf_counter()
        for v, variability in enumerate(VARIABILITIES):
            for s, spread in enumerate(SPREADS):
                for b, burst in enumerate(BURSTS):
                    if spread == 0 and b:
                        table[r, v, b, s] = table[r, v, 0, s]
                        continue
                    found = solve_modulated(LOADS, int(room), spread, burst, variability)
                    # Three digits are far below the error of interpolation, and pack well.
                    table[r, v, b, s] = np.round(np.log(np.maximum(found, np.exp(FLOOR))), 3)
        log.info("tabulated", extra={"room": int(room), "seconds": round(time.perf_counter() - begun, 1)})
    return table


def main() -> int:
    """Write the tables where `modulated` reads them, and say on stdout what was written (JSON)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "modulated.npz")
    out = parser.parse_args().out
    begun = time.perf_counter()
    table = build(ROOMS)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out,
        table=table,
        rooms=ROOMS,
        variabilities=VARIABILITIES,
        bursts=BURSTS,
        spreads=SPREADS,
        loads=LOADS,
    )
    report = {
        "bytes": out.stat().st_size,
        "seconds": round(time.perf_counter() - begun, 1),
        "points": table.size,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
