"""fedtwin-core: a 5G core network function (3GPP TS 28.541 5.3)."""

from domain_twin.mapping.performance import one_way
from domain_twin.mapping.table import Kind, Table, attributes, figures, is_word, number, real, text, texts
from domain_twin.model import HANDLED_RATE

_FUNCTION = "/fedtwin-core:network-function"

TABLE: Table = (
    *attributes(
        _FUNCTION,
        Kind.FUNCTION,
        [
            ("function-id", "id", text),
            ("node-id", "node", text),
            ("type", "type", text),
            ("administrativeState", "unlocked", is_word("UNLOCKED")),
            ("operationalState", "operational", is_word("ENABLED")),
            ("workers", "workers", number),
            ("sNSSAIList", "snssais", texts),
        ],
    ),
    *one_way(f"{_FUNCTION}/performance", Kind.FUNCTION),
    *figures(f"{_FUNCTION}/performance", Kind.FUNCTION, [("handled-rate", HANDLED_RATE, real)]),
)
