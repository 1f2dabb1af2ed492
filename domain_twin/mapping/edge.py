"""fedtwin-edge: an edge host and its applications (ETSI GS MEC 003)."""

from domain_twin.mapping.performance import one_way
from domain_twin.mapping.table import Kind, Table, attributes, figures, is_word, number, real, text
from domain_twin.model import HANDLED_RATE

_HOST = "/fedtwin-edge:edge-host"

TABLE: Table = (
    *attributes(
        _HOST,
        Kind.HOST,
        [
            ("host-id", "id", text),
            ("node-id", "node", text),
            ("site", "site", text),
            ("administrativeState", "unlocked", is_word("UNLOCKED")),
            ("operationalState", "operational", is_word("ENABLED")),
            ("cpu-cores", "cpu_cores", number),
            ("workers", "workers", number),
        ],
    ),
    *attributes(
        f"{_HOST}/application[name]",
        Kind.APPLICATION,
        [("name", "name", text), ("administrativeState", "unlocked", is_word("UNLOCKED"))],
    ),
    *one_way(f"{_HOST}/performance", Kind.HOST),
    *figures(f"{_HOST}/performance", Kind.HOST, [("handled-rate", HANDLED_RATE, real)]),
)
