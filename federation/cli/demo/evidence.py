"""What the audits of all sides hold after the story, and what becomes of one that is edited."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain_twin.trust.audit_verify import Report

_REFUSED = {"refused", "session-refused"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One process's audit, followed from its first record to its last."""

    who: str
    records: int
    views: int  # steps of views, sent or received
    answers: int  # at an agent: disclosed; at the broker: questions answered
    refused: int
    whole: bool


def gather(folder: Path) -> Evidence:
    """Verify one audit and count what it holds. Blocks."""
    from domain_twin.trust.audit_files import records
    from domain_twin.trust.audit_verify import verify

    report = verify(folder)
    kinds = Counter(record.kind for record in records(folder))
    return Evidence(
        who=report.who,
        records=report.records,
        views=kinds["view"] + kinds["view-received"],
        answers=kinds["disclosed"] + kinds["read"],
        refused=sum(kinds[name] for name in _REFUSED),
        whole=report.whole,
    )


def forge(folder: Path) -> Report:
    """Copy an audit, change one figure in the middle of the copy, and verify that. Blocks."""
    from domain_twin.trust.audit_files import segments
    from domain_twin.trust.audit_verify import verify

    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "audit"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("lock"))
        segment = segments(copy)[-1]
        lines = segment.read_bytes().splitlines(keepends=True)
        at = next(
            (n for n, line in enumerate(lines) if n >= len(lines) // 2 and b'"points":' in line),
            len(lines) // 2,
        )
        lines[at] = lines[at].replace(b'"points":', b'"points":1', 1)
        segment.write_bytes(b"".join(lines))
        return verify(copy)
