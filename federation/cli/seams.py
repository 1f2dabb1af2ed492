"""Files of other parts, loaded for their check only. Owns the one sentence that says what is in them."""

from __future__ import annotations

from pathlib import Path


def load_network(path: Path) -> str:
    """What a network file describes. Raises ConfigError."""
    from domain_twin.emulator.network import load_network as load

    spec = load(path)
    return (
        f"emulated network, seed {spec.seed}: {spec.gnbs} gNBs of {spec.cells_per_gnb} cells,"
        f" {spec.topology}, {spec.hosts} hosts, domains {', '.join(spec.domains)}"
    )


def load_services(path: Path) -> str:
    """What service records hold. Raises ConfigError."""
    from domain_twin.yang.records import load_services as load

    records = load(path)
    return (
        f"{len(records.services)} services, {len(records.slices)} slices, {len(records.customers)} customers"
        f" in {path}"
    )
