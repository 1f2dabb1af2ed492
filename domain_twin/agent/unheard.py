"""Which devices are not heard now, and since when: what history needs for its gaps. Survives the agent's end.

A device counts as unheard from its last sign of life on, not from when its loss was noticed: what it said in
between was lost. A device that was unheard when the agent ended is so until it is heard again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from domain_twin.model import Nanoseconds

log = logging.getLogger(__name__)


class Unheard:
    """The devices that are not in step, kept in `unheard.json`. When the agent starts that is all of them."""

    def __init__(self, folder: Path, devices: Iterable[str], *, now: Nanoseconds) -> None:
        self._file = folder / "unheard.json"
        self._since = dict.fromkeys(devices, now)
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            self._since |= {str(device): min(now, int(since)) for device, since in kept.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning(
                "the list of unheard devices cannot be read; they count as lost from this start on",
                extra={"file": str(self._file), "problem": str(error)},
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def lost(self, device: str, *, heard_at: Nanoseconds, now: Nanoseconds, silence_ns: Nanoseconds) -> None:
        """A device's session ended: it was last heard then, or knew to answer at most `silence_ns` ago."""
        if device not in self._since:
            self._since[device] = max(heard_at, now - silence_ns)
            self._keep()

    def back(self, device: str) -> Nanoseconds:
        """A device is in step again: since when it was not; 0 when it was all the time."""
        since = self._since.pop(device, 0)
        if since:
            self._keep()
        return since

    def _keep(self) -> None:
        try:
            _write(self._file, self._since)
        except OSError as error:  # a full disk costs the exact start of a gap, no more
            log.warning(
                "the list of unheard devices cannot be written",
                extra={"file": str(self._file), "problem": str(error)},
            )


def _write(file: Path, since: Mapping[str, Nanoseconds]) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(since), encoding="utf-8")
    temporary.replace(file)
