"""fedtwin-ran: a gNB and its cells (3GPP TS 28.541 4.3)."""

from domain_twin.mapping.performance import one_way
from domain_twin.mapping.table import Kind, Table, attributes, figures, is_word, number, real, text, texts
from domain_twin.model import ACTIVE_UES, CARRIED_RATE, CELL_RATE, MCS

_GNB = "/fedtwin-ran:gnb"
_CELL = f"{_GNB}/NRCellDU[cellLocalId]"

TABLE: Table = (
    *attributes(_GNB, Kind.GNB, [("node-id", "node", text)]),
    *attributes(
        _CELL,
        Kind.CELL,
        [
            ("cell-id", "id", text),
            ("cellLocalId", "local_id", number),
            ("administrativeState", "unlocked", is_word("UNLOCKED")),
            ("operationalState", "operational", is_word("ENABLED")),
            ("bSChannelBwDL", "bandwidth_mhz", number),
            ("prb-share", "prb_share", real),
            ("sNSSAIList", "snssais", texts),
        ],
    ),
    *one_way(f"{_CELL}/performance", Kind.CELL),
    *figures(
        f"{_CELL}/performance",
        Kind.CELL,
        [
            ("mcs", MCS, real),
            ("cell-rate", CELL_RATE, real),
            ("carried-rate", CARRIED_RATE, real),
            ("active-ues", ACTIVE_UES, real),
        ],
    ),
)
