"""The audit as it is written: append-only segment files, made durable before what they tell of happens.

Owns the folder: segments `audit-<first record>.jsonl`, `head.json` with the last signed head, a lock. After a
kill a torn last line is taken off and a record says so; records that a signed head knows and the files lack
are recorded as missing, for good. What cannot be written raises OverCapacity: then nothing is disclosed.
For one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from domain_twin.config import AuditConfig
from domain_twin.errors import ConfigError, ContractError, OverCapacity
from domain_twin.trust.audit import GENESIS, HEAD_KIND, Head, Record, decode, encode
from domain_twin.trust.audit_files import SignedHead, read_head, segments, write_head
from domain_twin.trust.credentials import Identity

__all__ = ["AuditLog"]

log = logging.getLogger(__name__)

_SIGN_RECORDS = 1000
_DAY_NS = 86_400_000_000_000
_TAIL_BYTES = 1 << 21
_LOST = "records could not be written"


class AuditLog:
    """One process's audit. `who` is its identity; without an `identity` of now nothing is signed."""

    def __init__(
        self,
        folder: Path,
        *,
        who: str,
        config: AuditConfig | None = None,
        identity: Callable[[], Identity | None] = lambda: None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take over what the folder holds. Raises ConfigError when another process writes there."""
        self.folder = folder
        self.who = who
        self.trail = ""
        self.problem = ""
        """Why nothing can be written at present; empty when all is well."""
        self.on_problem: Callable[[str], None] = lambda _: None
        """Told when `problem` changes."""
        self.on_record: Callable[[Record], None] = lambda _: None
        """Told of every record that was written."""
        self.unrecorded = 0
        """Records that could not be written since the last one that was."""
        self._config = config or AuditConfig()
        self._identity = identity
        self._clock = clock
        self._seq, self._prev = 0, GENESIS
        self._file = -1
        self._size = 0
        self._day = 0
        self._signed_seq = 0
        self._signed_at = time.monotonic()
        self._certificates = ""
        self._closed = False
        self._synced_seq = 0
        self._sync: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._lock = -1
        try:
            self._begin()
        except OSError as error:
            # As on any other day on which the disk is full: disclosures are refused until it can be written.
            self._note(error)

    @property
    def head(self) -> Head:
        """The last record's number and hash."""
        return Head(self.trail, self._seq, self._prev)

    def append(self, kind: str, **data: Any) -> Record:
        """Hand a record to the operating system: it outlives this process. Raises OverCapacity."""
        if self._closed:
            raise OverCapacity(f"{self.folder}: the audit is closed; nothing more is disclosed")
        try:
            if self.problem:
                self._mend()
            at = self._clock()
            if self._size >= self._config.segment_bytes or at // _DAY_NS != self._day:
                self._rotate(at)
            record = self._write(kind, data, at)
            if self._seq - self._signed_seq >= _SIGN_RECORDS:
                self.sign()
        except OSError as error:
            self.unrecorded += 1
            self._note(error)
            raise OverCapacity(
                f"the audit of {self.who} cannot be written ({error.strerror}); nothing is disclosed until it"
                " can"
            ) from error
        return record

    async def record(self, kind: str, **data: Any) -> None:
        """Return when a record is where `sync` wants it before anything leaves. Raises OverCapacity.

        With `when_unwritable = "continue"` it returns also where it could not be written; that is counted and
        recorded later.
        """
        try:
            seq = self.append(kind, **data).seq
            if self._config.sync == "each":
                await self._durable(seq)
        except OverCapacity:
            if self._config.when_unwritable == "refuse":
                raise

    def note(self, kind: str, **data: Any) -> None:
        """Record what discloses nothing, such as a refusal; where it cannot be written it is counted."""
        with contextlib.suppress(OverCapacity):
            self.append(kind, **data)

    def sign(self) -> None:
        """State how far the trail reaches, signed; to the chain and to `head.json`. Raises OSError."""
        identity = self._identity()
        if identity is None or self._seq == self._signed_seq:
            return
        if identity.not_after.timestamp() * 1e9 <= self._clock():
            return  # what an expired key says counts for nothing; a renewed one makes up for it
        chain = identity.signing_chain.decode()
        if chain != self._certificates:
            signer = {"identity": str(identity.id), "certificates": _split(chain)}
            self._write("signer", signer, self._clock())
            self._certificates = chain
        head = self.head
        jws = identity.signer.sign(head.statement(), kind=HEAD_KIND)
        # In this order a kill or a power cut leaves no file that knows more or less than it should.
        os.fdatasync(self._file)
        write_head(self.folder, SignedHead(head, jws, chain))
        self._write("head", {"seq": head.seq, "sha256": head.sha256, "jws": jws}, self._clock())
        self._signed_seq = self._seq
        self._signed_at = time.monotonic()

    async def run(self) -> NoReturn:
        """Write to disk and sign in time, until cancelled; notice a file that was taken away."""
        while True:
            await asyncio.sleep(self._config.sync_interval_ms / 1000)
            try:
                if self.problem:
                    self._mend()
                if self._file >= 0 and os.fstat(self._file).st_nlink == 0:
                    self._restart(f"the file with the records up to {self._seq} was removed")
                if time.monotonic() - self._signed_at >= self._config.sign_interval_s:
                    self.sign()
                if self._synced_seq < self._seq:
                    await self._durable(self._seq)
            except (OSError, OverCapacity) as error:
                if isinstance(error, OSError):
                    self._note(error)

    def close(self, reason: str = "the process ended") -> None:
        """Say that the trail ends here, sign it, let go of the folder. Closing twice does nothing."""
        if self._closed:
            return
        self.note("closed", reason=reason)
        self._closed = True
        try:
            if not self.problem:
                self.sign()
            if self._file >= 0:
                os.fdatasync(self._file)
        except OSError as error:
            self._note(error)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._thread.shutdown()
        if self._lock >= 0:
            os.close(self._lock)

    # ------------------------------------------------------------ writing

    def _write(self, kind: str, data: dict[str, Any], at: int) -> Record:
        if self._file < 0:
            self._open_segment()
        record, line = encode(self._seq + 1, at, kind, data, self._prev)
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(28, "No space left on device")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)  # no half line stays in front of the next one
            raise
        self._size += len(line)
        self._seq, self._prev = record.seq, record.sha256
        self.on_record(record)
        return record

    def _open_segment(self) -> None:
        path = self.folder / f"audit-{self._seq + 1:012d}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._day = self._clock() // _DAY_NS
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file's name outlives a power cut as well
        finally:
            os.close(folder)

    def _rotate(self, at: int) -> None:
        self.sign()
        self._let_go()
        self._write("segment", {"after": self._seq, "trail": self.trail}, at)

    def _let_go(self) -> None:
        if self._file >= 0:
            os.fdatasync(self._file)
            os.close(self._file)
            self._file = -1

    def _restart(self, what: str) -> None:
        log.error("audit damaged", extra={"folder": str(self.folder), "what": what})
        os.close(self._file)
        self._file = -1
        self._write("recovered", {"what": what, "damaged": True, "trail": self.trail}, self._clock())

    def _mend(self) -> None:
        """Try to write again. Raises OSError."""
        if self._lock < 0 or not self._seq:
            self._begin()
        lost, self.unrecorded = self.unrecorded, 0
        try:
            self._write("recovered", {"what": _LOST, "records": lost, "why": self.problem}, self._clock())
        except OSError:
            self.unrecorded = lost
            raise
        self.problem = ""
        log.info("audit writable again", extra={"folder": str(self.folder), "lost": lost})
        self.on_problem("")

    def _note(self, error: OSError) -> None:
        problem = f"{self.folder}: {error.strerror or error}"
        if problem != self.problem:
            self.problem = problem
            log.error("audit not writable", extra={"reason": problem})
            self.on_problem(problem)

    # ------------------------------------------------------------ to disk

    async def _durable(self, seq: int) -> None:
        """Return when this record is on disk; one write to disk serves all who wait. Raises OverCapacity."""
        while self._synced_seq < seq:
            if self._sync is None or self._sync.done():
                self._sync = asyncio.get_running_loop().create_task(self._write_to_disk())
            await asyncio.shield(self._sync)
            if self.problem and self._synced_seq < seq:
                raise OverCapacity(
                    f"the audit of {self.who} cannot be written; nothing is disclosed until it can"
                )

    async def _write_to_disk(self) -> None:
        seq, file = self._seq, self._file
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, os.fdatasync, file)
        except OSError as error:
            if file == self._file:  # else it was rotated meanwhile, and written to disk for that
                self._note(error)
                return
        self._synced_seq = max(self._synced_seq, seq)

    # ------------------------------------------------------------ after a start

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._lock < 0:
            self._lock = _take_lock(self.folder / "lock")
        self._recover()

    def _recover(self) -> None:
        known, bad_head = None, ""
        try:
            known = read_head(self.folder)
        except ContractError as error:
            bad_head = str(error)
        last, torn, bad = self._last_record()
        bad = bad or bad_head
        if last is None and not bad and known is None:
            self.trail = str(uuid.uuid4())
            self._write("trail", {"trail": self.trail, "who": self.who, "format": 1}, self._clock())
            return
        if last is not None:
            self._seq, self._prev = last.seq, last.sha256
        what: dict[str, Any] = {}
        if bad:
            what |= {"what": f"what was last written does not hold: {bad}", "damaged": True}
        if known is not None:
            self.trail = known.head.trail
            self._signed_seq = known.head.seq
            if known.head.seq > self._seq:
                what |= {
                    "what": f"records {self._seq + 1} to {known.head.seq}, which a head knows, are missing",
                    "damaged": True,
                    "jws": known.jws,
                }
                self._seq, self._prev = known.head.seq, known.head.sha256
                self._file = -1
        self.trail = self.trail or self._first_trail()
        if torn:
            what.setdefault("what", "the last line was torn: the process was killed while it wrote")
            what |= {"torn_bytes": len(torn), "torn_sha256": hashlib.sha256(torn).hexdigest()}
        if what:
            if what.get("damaged"):
                log.error("audit damaged", extra={"folder": str(self.folder), "what": what["what"]})
            self._write("recovered", {**what, "trail": self.trail}, self._clock())
        self._write("opened", {"who": self.who}, self._clock())

    def _last_record(self) -> tuple[Record | None, bytes, str]:
        """The last record, torn bytes (taken off), and what is wrong with a record that is there."""
        torn = b""
        for path in reversed(segments(self.folder)):
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _TAIL_BYTES))
                tail = file.read()
            complete, newline, rest = tail.rpartition(b"\n")
            if rest:
                torn = rest
                os.truncate(path, size - len(rest))
            if not newline:
                if path.stat().st_size == 0:
                    path.unlink()  # made, and killed before the first record
                    continue
                return None, torn, f"{path.name} has no whole line"
            try:
                last = decode(complete.rpartition(b"\n")[2])
            except ContractError as error:
                self._seq = int(path.stem.partition("-")[2])
                return None, torn, f"{path.name}: {error}"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._size = path.stat().st_size
            self._day = last.at // _DAY_NS
            return last, torn, ""
        return None, torn, ""

    def _first_trail(self) -> str:
        for path in segments(self.folder):
            with path.open("rb") as file, contextlib.suppress(ContractError):
                return str(decode(file.readline().rstrip(b"\n")).data.get("trail", ""))
        return str(uuid.uuid4())


def _split(chain: str) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in chain.split(end) if part.strip()]


def _take_lock(path: Path) -> int:
    """Hold the folder alone as long as the descriptor is open. Raises ConfigError, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"{path.parent}: another process writes this audit; give each agent and broker a state folder of"
            " its own"
        ) from None
    return descriptor
