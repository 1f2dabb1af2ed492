"""Whether an audit is whole: finds the first record that was changed, cut off, moved, put in or replaced.

Reads, and never writes. What it cannot find is said in docs/trust.md: records after the last signed head that
were cut off together with an older `head.json` put back, and a trail made anew by whoever holds the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from domain_twin.errors import ContractError, CredentialError, TwinError
from domain_twin.trust.audit import GENESIS, HEAD_KIND, Head, Record, decode
from domain_twin.trust.audit_files import HEAD_FILE, SignedHead, read_head, segments
from domain_twin.trust.identity import SpiffeId
from domain_twin.trust.roots import TrustBundle, VerifiedSigner, identity_of
from domain_twin.trust.sign import Verifier

__all__ = ["Fault", "Report", "verify"]

_AFTER_THE_END = {"head", "signer", "opened", "recovered"}
_STARTS_A_FILE = {"trail", "segment", "recovered"}


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that does not hold: `line` counts from 1, 0 where no line is meant."""

    file: str
    line: int
    seq: int
    what: str


@dataclass(slots=True)
class Report:
    """What an audit is worth. Whole when `fault` is None; `remarks` say what could not be checked."""

    folder: str
    who: str = ""
    trail: str = ""
    files: int = 0
    records: int = 0
    signed_to: int = 0
    unsigned: int = 0
    first_at: int = 0
    last_at: int = 0
    fault: Fault | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing was found that does not hold."""
        return self.fault is None


class _Broken(Exception):
    def __init__(self, what: str, seq: int = 0) -> None:
        super().__init__(what)
        self.what = what
        self.seq = seq


def verify(
    folder: Path,
    *,
    trust: TrustBundle | None = None,
    signed: bool = False,
    heads: list[Head] | None = None,
) -> Report:
    """Follow the chain of an audit from its first record to its last.

    `trust` has the roots that signers' certificates must lead to; `signed`: a trail without a signed head is
    a fault; `heads` are what others noted of this trail.
    """
    report = Report(str(folder))
    walk = _Walk(report, trust, heads or [])
    place, line = folder.name, 0
    try:
        for path, line, raw, last_file in _lines(folder, report):
            place = path.name
            if raw is None:
                if not last_file:
                    raise _Broken("the file ends in the middle of a line, and others follow")
                report.remarks.append(
                    f"{path.name} ends in the middle of a line: the process was killed while it wrote, or"
                    " the end was cut off"
                )
                continue
            walk.take(raw, first_line=line == 1, name=path.name)
        place, line = HEAD_FILE, 0
        walk.end(read_head(folder), signed)
    except _Broken as broken:
        report.fault = Fault(place, line, broken.seq or report.records + 1, broken.what)
    except TwinError as error:
        report.fault = Fault(place, line, walk.seq + 1, str(error))
    return report


def _lines(folder: Path, report: Report) -> Iterator[tuple[Path, int, bytes | None, bool]]:
    """File, number, line (None: a torn one), whether it is the last file."""
    listed = segments(folder)
    report.files = len(listed)
    if not listed:
        raise _Broken("no file of an audit is there")
    for path in listed:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                whole = raw.endswith(b"\n")
                yield path, number, raw[:-1] if whole else None, path is listed[-1]


class _Walk:
    """Where the walk along the chain is."""

    def __init__(self, report: Report, trust: TrustBundle | None, heads: list[Head]) -> None:
        self.seq = 0
        self._prev = GENESIS
        self._closed = False
        self._report = report
        self._trust = trust
        self._signer: tuple[str, Verifier] | None = None
        self._hash_of: dict[int, str] = {}
        self._heads = heads
        self._wanted = {head.seq for head in heads}
        self._last_signed: Head | None = None

    def take(self, raw: bytes, *, first_line: bool, name: str) -> None:
        """Follow one line. Raises _Broken, ContractError, CredentialError."""
        record = decode(raw)
        if record.seq != self.seq + 1:
            raise _Broken(self._jump(record), record.seq)
        if record.prev != self._prev:
            raise _Broken(
                "it does not follow the record before it: one of the two was changed or replaced", record.seq
            )
        if first_line and (name != f"audit-{record.seq:012d}.jsonl" or record.kind not in _STARTS_A_FILE):
            raise _Broken("a file does not begin with the record that it is named after", record.seq)
        if (record.seq == 1) != (record.kind == "trail"):
            raise _Broken("a trail begins with the record 'trail', and only there is one", record.seq)
        if self._closed and record.kind not in _AFTER_THE_END:
            raise _Broken("it follows the end of the trail, and no process was started before it", record.seq)
        self._closed = record.kind == "closed" or (self._closed and record.kind in {"head", "signer"})
        self._note(record)
        self.seq, self._prev = record.seq, record.sha256
        if record.seq in self._wanted:
            self._hash_of[record.seq] = record.sha256

    def end(self, signed: SignedHead | None, must_be_signed: bool) -> None:
        """Compare the end with the heads that are known. Raises _Broken, ContractError, CredentialError."""
        report = self._report
        last = self._last_signed
        if signed is None:
            if last is not None:
                raise _Broken(f"it is missing, and record {last.seq} was signed: it was taken away", last.seq)
            if must_be_signed:
                raise _Broken("no head is signed, and this process has a signing key", self.seq)
            report.remarks.append("nothing is signed: a trail made anew as a whole would not be noticed")
        else:
            self._check_signed(signed)
        for head in self._heads:
            if head.trail == report.trail:
                self._check_known(head, "a head that the other side noted")
        report.unsigned = self.seq - report.signed_to

    def _jump(self, record: Record) -> str:
        if record.seq <= self.seq:
            return f"record {record.seq} stands where {self.seq + 1} belongs: it was moved or put in"
        return f"records {self.seq + 1} to {record.seq - 1} are missing"

    def _note(self, record: Record) -> None:
        report, data = self._report, record.data
        report.records += 1
        report.first_at = report.first_at or record.at
        report.last_at = record.at
        match record.kind:
            case "trail":
                report.trail, report.who = str(data.get("trail")), str(data.get("who"))
            case "recovered" if data.get("damaged"):
                raise _Broken(f"damage was found when the process started: {data.get('what')}", record.seq)
            case "recovered" if data.get("torn_bytes"):
                report.remarks.append(f"record {record.seq}: a torn line was taken off after a kill")
            case "recovered":
                report.remarks.append(f"record {record.seq}: {data.get('what')} ({data.get('records')})")
            case "signer":
                self._signer = self._signer_of(record)
            case "head":
                self._check_head(record)

    def _signer_of(self, record: Record) -> tuple[str, Verifier]:
        chain = "".join(map(str, record.data.get("certificates", ())))
        return chain, self._verifier(chain, record.at)

    def _verifier(self, chain: str, at: int) -> Verifier:
        expected = SpiffeId.parse(self._report.who)
        when = datetime.fromtimestamp(at / 1e9, UTC)
        if self._trust is not None:
            return Verifier(self._trust.verify_signing(chain.encode(), expected=expected, now=when))
        remark = "signers' certificates were not followed to a root: name it with --root"
        if remark not in self._report.remarks:
            self._report.remarks.append(remark)
        try:
            leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        except (ValueError, IndexError) as error:
            raise ContractError(f"the signer's certificate is none ({error})") from None
        key = leaf.public_key()
        if identity_of(leaf) != expected or not isinstance(key, Ed25519PublicKey):
            raise CredentialError(f"the signer's certificate is not an Ed25519 one of {expected}")
        return Verifier(VerifiedSigner(expected, key, leaf.not_valid_after_utc))

    def _check_head(self, record: Record) -> None:
        data: dict[str, Any] = record.data
        head = Head(self._report.trail, record.seq - 1, record.prev)
        if (data.get("seq"), data.get("sha256")) != (head.seq, head.sha256):
            raise _Broken("a signed head is not that of the record before it", record.seq)
        if self._signer is None:
            raise _Broken("a head is signed by nobody: no record names the signer before it", record.seq)
        now = datetime.fromtimestamp(record.at / 1e9, UTC)
        self._signer[1].verify(head.statement(), str(data.get("jws")), kind=HEAD_KIND, now=now)
        self._report.signed_to = head.seq
        self._last_signed = head
        self._hash_of[head.seq] = head.sha256

    def _check_signed(self, signed: SignedHead) -> None:
        if signed.head.trail != self._report.trail:
            raise _Broken("it is the head of another trail: the files were replaced", signed.head.seq)
        self._check_known(signed.head, "the signed head")
        if self._last_signed is not None and signed.head.seq < self._last_signed.seq:
            raise _Broken(f"an older one was put back: record {self._last_signed.seq} was signed")
        self._verifier(signed.certificates, self._report.last_at).verify(
            signed.head.statement(),
            signed.jws,
            kind=HEAD_KIND,
            now=datetime.fromtimestamp(self._report.last_at / 1e9, UTC),
        )
        self._report.signed_to = max(self._report.signed_to, signed.head.seq)

    def _check_known(self, head: Head, whose: str) -> None:
        if head.seq > self.seq:
            raise _Broken(f"records {self.seq + 1} to {head.seq}, known to {whose}, were cut off")
        if (known := self._hash_of.get(head.seq)) and known != head.sha256:
            raise _Broken(f"another record is known to {whose}: the trail was replaced", head.seq)
