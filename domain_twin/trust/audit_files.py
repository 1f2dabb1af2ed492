"""The files of an audit, to read: which segments there are, and the last signed head."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from domain_twin.errors import ContractError
from domain_twin.trust.audit import Head, Record, decode

__all__ = ["HEAD_FILE", "SignedHead", "read_head", "records", "segments", "write_head"]

HEAD_FILE = "head.json"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head, the detached JWS over its statement, and the signer's certificates (PEM, leaf first)."""

    head: Head
    jws: str
    certificates: str


def segments(folder: Path) -> list[Path]:
    """The segment files of an audit, in order."""
    return sorted(folder.glob("audit-" + "[0-9]" * 12 + ".jsonl"))


def records(folder: Path, after: int = 0) -> Iterator[Record]:
    """The records with numbers above `after`, unverified; lines that are none are left out."""
    listed = segments(folder)
    for path, following in zip(listed, [*listed[1:], None], strict=True):
        if following is not None and int(following.stem.partition("-")[2]) <= after + 1:
            continue
        with path.open("rb") as file:
            for line in file:
                try:
                    record = decode(line.rstrip(b"\n"))
                except ContractError:
                    continue
                if record.seq > after:
                    yield record


def read_head(folder: Path) -> SignedHead | None:
    """The last signed head, unverified; None where there is none. Raises ContractError for rubbish."""
    path = folder / HEAD_FILE
    try:
        fields = json.loads(path.read_bytes())
        head = Head(str(fields["trail"]), int(fields["seq"]), str(fields["sha256"]))
        return SignedHead(head, str(fields["jws"]), str(fields["certificates"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContractError(f"{path}: is no signed head ({error})") from None


def write_head(folder: Path, signed: SignedHead) -> None:
    """Replace the last signed head in one step. Raises OSError."""
    head = signed.head
    body = json.dumps(
        {
            "certificates": signed.certificates,
            "jws": signed.jws,
            "seq": head.seq,
            "sha256": head.sha256,
            "trail": head.trail,
        },
        indent=1,
    )
    temporary = folder / f".{HEAD_FILE}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / HEAD_FILE)
