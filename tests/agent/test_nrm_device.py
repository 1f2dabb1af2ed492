"""A device of the 3GPP NRM's shape (TS 28.541): lists within lists, each keyed by id, with `attributes`."""

from __future__ import annotations

from pathlib import Path

import pytest
from vendor_devices import Emulated, eventually, vendor_domain

from domain_twin.model import Connection

MODULES = ("_3gpp-common-managed-element", "_3gpp-nr-nrm-gnbdufunction", "_3gpp-nr-nrm-nrcelldu")
ELEMENT = "_3gpp-common-managed-element:ManagedElement"
CELL = (
    f"/{ELEMENT}[id='gnb-1']/_3gpp-nr-nrm-gnbdufunction:GNBDUFunction[id='du,1']"
    "/_3gpp-nr-nrm-nrcelldu:NRCellDU[id='cell 7']/attributes"
)


@pytest.mark.parametrize("protocol", ["gnmi", "netconf"])
async def test_nrm_is_loaded_typed_and_stored(tmp_path: Path, protocol: str) -> None:
    config = {
        ELEMENT: [
            {
                "id": "gnb-1",
                "_3gpp-nr-nrm-gnbdufunction:GNBDUFunction": [
                    {
                        "id": "du,1",
                        "attributes": {"gNBDUId": "68719476735"},
                        "_3gpp-nr-nrm-nrcelldu:NRCellDU": [
                            {
                                "id": "cell 7",
                                "attributes": {"cellLocalId": 16383, "administrativeState": "UNLOCKED"},
                            }
                        ],
                    }
                ],
            }
        ]
    }
    device = Emulated("gnb", MODULES, config, protocol=protocol)
    async with vendor_domain(tmp_path, [device], paths=f"/{ELEMENT}") as (twin, stores):
        stores["gnb"].put(f"{CELL}/operationalState", "ENABLED")
        await eventually(
            lambda: twin.device_statuses()[0].connection is Connection.SYNCHRONISED, "device in step"
        )
        leaves = {path: leaf.value for (_, path), leaf in twin.pipeline.store.get("/", "gnb").items()}

        assert leaves[f"{CELL}/cellLocalId"] == 16383
        assert leaves[f"{CELL}/administrativeState"] == "UNLOCKED"
        assert leaves[f"{CELL}/operationalState"] == "ENABLED"
        assert leaves[f"{CELL.rsplit('/', 2)[0]}/attributes/gNBDUId"] == 68719476735
        assert twin.device_statuses()[0].quarantined == 0
