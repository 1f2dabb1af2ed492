"""The rate of a 5G cell's air interface. Pure arithmetic."""

import numpy as np

__all__ = ["cell_rate_mbps"]

# 3GPP TS 38.214, table 5.1.3.1-1: spectral efficiency (bit/s/Hz and layer) of MCS index 0 to 28.
_EFFICIENCY = (
    0.2344, 0.3066, 0.3770, 0.4902, 0.6016, 0.7402, 0.8770, 1.0273, 1.1758, 1.3262, 1.3281, 1.4766, 1.6953,
    1.9141, 2.1602, 2.4063, 2.5703, 2.5664, 2.7305, 3.0293, 3.3223, 3.6094, 3.9023, 4.2129, 4.5234, 4.8164,
    5.1152, 5.3320, 5.5547,
)  # fmt: skip
_LAYERS = 2
_OVERHEAD = 0.14  # 3GPP TS 38.306, 4.1.2: control channels and reference signals


def cell_rate_mbps(*, bandwidth_mhz: float, mcs: float, prb_share: float) -> float:
    """Rate that a cell carries with this mean MCS index and this share of its resource blocks, Mbit/s."""
    efficiency = float(np.interp(mcs, range(len(_EFFICIENCY)), _EFFICIENCY))
    return bandwidth_mhz * efficiency * _LAYERS * (1 - _OVERHEAD) * prb_share
