"""fedtwin-performance: what links do to packets; and the one-way figures that other modules use as well."""

from domain_twin.mapping.table import (
    Kind,
    Table,
    attributes,
    figures,
    micro2_to_milli2,
    micro_to_milli,
    number,
    real,
    text,
)
from domain_twin.model import CARRIED_RATE, DELAY, DELAY_VARIANCE, LOSS, QUEUE, UTILISATION


def one_way(base: str, kind: Kind) -> Table:
    """The rows of fedtwin-types' grouping one-way-performance below `base`."""
    return figures(
        base,
        kind,
        [
            ("one-way-delay", DELAY, micro_to_milli),
            ("delay-variance", DELAY_VARIANCE, micro2_to_milli2),
            ("loss-ratio", LOSS, real),
            ("utilisation", UTILISATION, real),
        ],
    ) + attributes(base, kind, [("samples", "samples", number)])


_LINK = "/fedtwin-performance:performance/link[link-id]"

TABLE: Table = (
    *attributes(_LINK, Kind.LINK_FIGURES, [("link-id", "id", text)]),
    *one_way(_LINK, Kind.LINK_FIGURES),
    *figures(
        _LINK,
        Kind.LINK_FIGURES,
        [("carried-rate", CARRIED_RATE, real), ("queue-occupancy", QUEUE, real)],
    ),
)
