"""Versions of models on disk, each with its card, and which of them is in service.

`MODEL/VERSION/` holds `card.json` and `arrays.npz`, put in place at once; `MODEL/service.json` says which
version is used and why. What is damaged is set aside, never guessed at: the last good version is used then,
and a finding says so. Blocks on disk.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain_twin.datastore.durable import put_in_place, sync_folder
from domain_twin.errors import Conflict, ContractError, NotFound
from domain_twin.learning.arrays import decode_arrays, digest_of, forms_of
from domain_twin.learning.learner import Arrays
from domain_twin.learning.task import Card
from domain_twin.model import Finding, Severity

__all__ = ["REFUSED", "Kept", "ModelStore"]

log = logging.getLogger(__name__)

_MODEL: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
_CARD, _ARRAYS, _SERVICE = "card.json", "arrays.npz", "service.json"
REFUSED: Final = "refused: "
"""How the reason of a version begins that was never good enough to be used."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One version that is kept, whether it is used, and why it is or is not."""

    card: Card
    in_service: bool
    reason: str = ""


@dataclass(slots=True)
class _Service:
    version: int = 0
    reasons: dict[int, str] | None = None

    def of(self, version: int) -> str:
        """What is said of a version."""
        return (self.reasons or {}).get(version, "")


class ModelStore:
    """One folder of models, mode 0700. All methods may be called from one thread at a time."""

    def __init__(self, folder: Path, *, owner: str, max_bytes: int, kept: int = 20) -> None:
        """`owner` is named in findings: the domain, or empty at a broker. `kept` versions of a model stay."""
        self.folder = folder
        self._owner = owner
        self._max_bytes = max_bytes
        self._kept = kept
        self._damaged: list[str] = []
        self._cards: dict[str, dict[int, Card]] = {}
        self._service: dict[str, _Service] = {}
        self.problem = ""
        """Why nothing can be read or written, in words."""
        self._load()

    # ------------------------------------------------------------ asking

    def models(self, model: str = "") -> list[Kept]:
        """Versions by model's name, newest first; of one model or of all."""
        return [
            Kept(card, self._service[name].version == version, self._service[name].of(version))
            for name, cards in sorted(self._cards.items())
            if model in ("", name)
            for version, card in sorted(cards.items(), reverse=True)
        ]

    def get(self, model: str, version: int = 0) -> Kept:
        """One version; 0: the one in service. Raises NotFound."""
        number = version or self.in_service(model)
        card = self._cards.get(model, {}).get(number)
        if card is None:
            if not version:
                raise NotFound(f"no version of model {model!r} is in service")
            has = ", ".join(map(str, sorted(self._cards.get(model, {})))) or "none"
            raise NotFound(f"no version {version} of model {model!r} is kept; there are {has}")
        service = self._service[model]
        return Kept(card, service.version == number, service.of(number))

    def in_service(self, model: str) -> int:
        """The version that is used; 0: none."""
        service = self._service.get(model)
        return service.version if service else 0

    def newest(self, model: str) -> int:
        """The newest version that is kept; 0: none."""
        return max(self._cards.get(model, {}), default=0)

    def data(self, model: str, version: int) -> bytes:
        """The arrays of a version as they are kept, checked against its card.

        Raises NotFound; where they were damaged meanwhile, they are set aside and the last good version is
        put into service.
        """
        card = self.get(model, version).card
        try:
            return self._read(self.folder / model / str(card.version), card)
        except (ContractError, OSError) as error:
            self._lose(model, card.version, str(error))
            raise NotFound(
                f"version {card.version} of model {model!r} is damaged and was set aside ({error})"
            ) from None

    def arrays(self, model: str, version: int = 0) -> tuple[Card, Arrays]:
        """A version's card and arrays; 0: the one in service, or the last good one. Raises NotFound."""
        while True:
            number = version or self.in_service(model)
            try:
                data = self.data(model, number)
            except NotFound:
                if version or self.in_service(model) in (0, number):
                    raise
                continue  # that one was damaged: an earlier one is in service now
            return self._cards[model][number], decode_arrays(data, self._max_bytes)

    def findings(self) -> list[Finding]:
        """What an operator should see: what was set aside, and what cannot be written."""
        found = [
            Finding(
                "learning.damaged",
                Severity.WARNING,
                self._owner,
                "learning",
                sentence,
                "restore it from a backup, or train anew; the last good version is used meanwhile",
            )
            for sentence in self._damaged[-10:]
        ]
        if self.problem:
            found.append(
                Finding(
                    "learning.unwritable",
                    Severity.ERROR,
                    self._owner,
                    "learning",
                    self.problem,
                    "make room on the disk and the folder writable",
                )
            )
        return found

    # ------------------------------------------------------------ changing

    def put(self, card: Card, data: bytes) -> None:
        """Keep a version, not in service. Raises ContractError where arrays and card differ, OSError."""
        self.check(card, data)
        if (known := self._cards.get(card.model, {}).get(card.version)) is not None:
            if known == card:
                return
            raise Conflict(f"version {card.version} of model {card.model!r} is kept already, and is another")
        folder = self.folder / card.model
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f".{card.version}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        for name, content in ((_ARRAYS, data), (_CARD, card.to_json())):
            with (fresh / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(fresh)
        fresh.replace(folder / str(card.version))
        sync_folder(folder)
        self._cards.setdefault(card.model, {})[card.version] = card
        self._service.setdefault(card.model, _Service())
        self._forget_old(card.model)

    def check(self, card: Card, data: bytes) -> Arrays:
        """The arrays of a card, which must be the ones it speaks of. Raises ContractError."""
        if not _MODEL.match(card.model) or card.version < 1 or card.model != card.task.model:
            raise ContractError(f"card: model {card.model[:64]!r}, version {card.version} cannot be kept")
        if digest_of(data) != card.digest:
            raise ContractError(f"model {card.model!r}: the arrays do not have the SHA-256 of their card")
        arrays = decode_arrays(data, self._max_bytes)
        if forms_of(arrays) != card.arrays:
            raise ContractError(f"model {card.model!r}: the arrays have other names or shapes than its card")
        return arrays

    def serve(self, model: str, version: int, reason: str = "") -> None:
        """Put a version into service; 0: none. Raises NotFound, OSError."""
        if version:
            self.get(model, version)
        service = self._service.setdefault(model, _Service())
        self._write_service(model, _Service(version, {**(service.reasons or {}), version: reason}))

    def note(self, model: str, version: int, reason: str) -> None:
        """Keep what is to be said of a version. Raises NotFound, OSError."""
        self.get(model, version)
        service = self._service[model]
        self._write_service(model, _Service(service.version, {**(service.reasons or {}), version: reason}))

    # ------------------------------------------------------------ disk

    def _write_service(self, model: str, service: _Service) -> None:
        kept = self._cards.get(model, {})
        service.reasons = {v: text for v, text in (service.reasons or {}).items() if text and v in kept}
        folder = self.folder / model
        written = folder / f".{_SERVICE}.new"
        body = {"version": service.version, "reasons": {str(v): t for v, t in service.reasons.items()}}
        written.write_text(json.dumps(body, indent=1, sort_keys=True), encoding="utf-8")
        put_in_place(written, folder / _SERVICE)
        self._service[model] = service

    def _forget_old(self, model: str) -> None:
        cards = self._cards[model]
        for version in sorted(cards)[: -self._kept]:
            if version != self.in_service(model):
                shutil.rmtree(self.folder / model / str(version), ignore_errors=True)
                del cards[version]

    def _read(self, folder: Path, card: Card) -> bytes:
        data = (folder / _ARRAYS).read_bytes()
        if digest_of(data) != card.digest:
            raise ContractError("its arrays do not have the SHA-256 of its card")
        return data

    def _load(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = [
                path for path in sorted(self.folder.iterdir()) if path.is_dir() and _MODEL.match(path.name)
            ]
        except OSError as error:
            self.problem = f"{self.folder}: models cannot be read or written ({error.strerror})"
            log.error("models not read", extra={"reason": self.problem})
            return
        for path in found:
            numbers = [part for part in path.iterdir() if part.is_dir() and part.name.isdigit()]
            if not numbers and not (path / _SERVICE).exists():
                continue
            self._cards[path.name] = {}
            service, problem = _service_of(path / _SERVICE)
            self._service[path.name] = service
            for part in numbers:
                self._load_version(path.name, part)
            if problem:
                self._damage(path / _SERVICE, problem)
            if problem or (service.version and service.version not in self._cards[path.name]):
                self._fall_back(path.name, f"what was in service before is damaged: {problem or 'set aside'}")

    def _load_version(self, model: str, folder: Path) -> None:
        try:
            card = Card.from_json((folder / _CARD).read_bytes())
            if (card.model, str(card.version)) != (model, folder.name):
                raise ContractError(f"it holds version {card.version} of {card.model!r}")
            self._read(folder, card)
        except (ContractError, OSError) as error:
            self._damage(folder, str(error))
            return
        self._cards[model][card.version] = card

    def _lose(self, model: str, version: int, why: str) -> None:
        """A version turned out to be damaged."""
        del self._cards[model][version]
        self._damage(self.folder / model / str(version), why)
        if self.in_service(model) == version:
            self._fall_back(model, f"version {version} is damaged")

    def _fall_back(self, model: str, why: str) -> None:
        """Put the newest version that is whole, and was good, into service."""
        service = self._service[model]
        number = max((v for v in self._cards[model] if not service.of(v).startswith(REFUSED)), default=0)
        try:
            self.serve(model, number, why if number else "")
        except OSError as error:
            self.problem = f"{self.folder}: models cannot be written ({error.strerror})"
            self._service[model] = _Service(number, {**(service.reasons or {}), number: why})

    def _damage(self, path: Path, why: str) -> None:
        sentence = f"{path.relative_to(self.folder)} is damaged and was set aside: {why}"
        log.error("model set aside", extra={"path": str(path), "why": why})
        self._damaged.append(sentence)
        try:
            path.replace(path.with_name(f"{path.name}.damaged-{path.stat().st_mtime_ns}"))
        except OSError as error:
            self.problem = f"{path}: it cannot be set aside ({error.strerror})"


def _service_of(path: Path) -> tuple[_Service, str]:
    """What a file says of what is in service, and what is wrong with it."""
    try:
        fields = json.loads(path.read_bytes())
        reasons = {int(version): str(text) for version, text in fields["reasons"].items()}
        return _Service(int(fields["version"]), reasons), ""
    except FileNotFoundError:
        return _Service(), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _Service(), f"it cannot be read ({error})"
