"""One device, mirrored for as long as the agent runs. Owns nothing but the hand-over to the pipeline."""

from __future__ import annotations

from collections.abc import Callable

from domain_twin.config import DeviceConfig
from domain_twin.mapping.tables import mirrored_paths
from domain_twin.model import DeviceStatus, UpdateBatch
from domain_twin.southbound.devices import mirror_choice
from domain_twin.southbound.supervise import supervise
from domain_twin.yang.schema import SchemaSet


class Mirror:
    """Keeps one device's state flowing into the twin."""

    def __init__(
        self,
        device: DeviceConfig,
        *,
        schema: SchemaSet,
        ingest: Callable[[UpdateBatch], None],
        on_status: Callable[[DeviceStatus], None],
    ) -> None:
        """Raises ConfigError for a device without a protocol."""
        self._device = device
        self._choice = mirror_choice(device, schema)
        self._ingest = ingest
        self._on_status = on_status

    async def run(self) -> None:
        """Mirror until cancelled, or until a recording ends."""
        choice = self._choice
        items = supervise(
            self._device.name,
            choice.open,
            self._device.paths or mirrored_paths(),
            protocol=choice.protocol,
            address=choice.address,
        )
        async for item in items:
            if isinstance(item, UpdateBatch):
                self._ingest(item)
            else:
                self._on_status(item)
