"""Versions of models on disk, each with its card, and which of them is in service.

`MODEL/VERSION/` holds `card.json` and `arrays.npz`, put in place at once, then `here.npz` where the domain
uses another form of it that its own data made, and `note.txt` with what was judged; `MODEL/service.json` says
which version is used. What is damaged is set aside, never guessed at: the newest version that was judged good
is used then, and a finding says so. Blocks on disk.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain_twin.datastore.durable import put_in_place, sync_folder
from domain_twin.errors import Conflict, ContractError, NotFound, OverCapacity
from domain_twin.learning.arrays import decode_arrays, digest_of, forms_of
from domain_twin.learning.learner import Arrays
from domain_twin.learning.task import Card
from domain_twin.model import Finding, Severity

__all__ = ["REFUSED", "Kept", "ModelStore"]

log = logging.getLogger(__name__)

_MODEL: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
_CARD, _ARRAYS, _NOTE, _SERVICE = "card.json", "arrays.npz", "note.txt", "service.json"
_HERE: Final = "here.npz"
_MOST_MODELS: Final = 100
"""Models by name; each has some versions, of megabytes each, and whoever may train may think up names."""
REFUSED: Final = "refused: "
"""How the reason of a version begins that was never good enough to be used."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One version that is kept, whether it is used, and why it is or is not."""

    card: Card
    in_service: bool
    reason: str = ""


class ModelStore:
    """One folder of models, mode 0700. Its methods may be called from any thread."""

    def __init__(self, folder: Path, *, owner: str, max_bytes: int, kept: int = 20) -> None:
        """`owner` is named in findings: the domain, or empty at a broker. `kept` versions of a model stay."""
        self.folder = folder
        self._lock = threading.RLock()
        self._owner = owner
        self._max_bytes = max_bytes
        self._kept = kept
        self._damaged: list[str] = []
        self._cards: dict[str, dict[int, Card]] = {}
        self._notes: dict[str, dict[int, str]] = {}
        self._service: dict[str, int] = {}
        self.problem = ""
        """Why nothing can be read or written, in words."""
        self._load()

    # ------------------------------------------------------------ asking

    def models(self, model: str = "") -> list[Kept]:
        """Versions by model's name, newest first; of one model or of all."""
        with self._lock:
            return [
                Kept(card, self.in_service(name) == version, self._notes[name].get(version, ""))
                for name, cards in sorted(self._cards.items())
                if model in ("", name)
                for version, card in sorted(cards.items(), reverse=True)
            ]

    def get(self, model: str, version: int = 0) -> Kept:
        """One version; 0: the one in service. Raises NotFound."""
        with self._lock:
            number = version or self.in_service(model)
            card = self._cards.get(model, {}).get(number)
            if card is None:
                has = ", ".join(map(str, sorted(self._cards.get(model, {}))))
                if not has:
                    raise NotFound(
                        f"no model {model!r} is kept here; `fedtwin learn models` lists those that are"
                    )
                if not version:
                    raise NotFound(
                        f"no version of model {model!r} is in service; name one of those that are kept: {has}"
                    )
                raise NotFound(f"no version {version} of model {model!r} is kept; there are {has}")
            return Kept(card, self.in_service(model) == number, self._notes[model].get(number, ""))

    def in_service(self, model: str) -> int:
        """The version that is used; 0: none."""
        return self._service.get(model, 0)

    def newest(self, model: str) -> int:
        """The newest version that is kept; 0: none."""
        return max(self._cards.get(model, {}), default=0)

    def highest(self, model: str) -> int:
        """The highest number that a version ever had here, whole or damaged; 0: none."""
        try:
            names = [path.name.lstrip(".").partition(".")[0] for path in (self.folder / model).iterdir()]
        except OSError:
            return self.newest(model)
        return max((int(name) for name in names if name.isdigit()), default=0)

    def whole(self, model: str, version: int = 0) -> tuple[Card, bytes]:
        """A version's card and arrays as kept; 0: that in service, or the last good one. Raises NotFound."""
        with self._lock:
            while True:
                number = version or self.in_service(model)
                try:
                    card = self.get(model, number).card
                    return card, self.data(model, number)
                except NotFound:
                    if version or self.in_service(model) in (0, number):
                        raise  # else that one was damaged: an earlier one is in service now

    def data(self, model: str, version: int) -> bytes:
        """The arrays of a version as they are kept, checked against its card.

        Raises NotFound; where they were damaged meanwhile, they are set aside and the last good version is
        put into service.
        """
        with self._lock:
            card = self.get(model, version).card
            try:
                return self._read(self.folder / model / str(card.version), card)
            except (ContractError, OSError) as error:
                self._lose(model, card.version, str(error))
                raise NotFound(
                    f"version {card.version} of model {model!r} is damaged and was set aside ({error})"
                ) from None

    def here(self, model: str, version: int) -> bytes:
        """The arrays of a version as this domain uses it. Raises NotFound, with all that `data` does."""
        with self._lock:
            delivered = self.data(model, version)
            try:
                made = (self.folder / model / str(version) / _HERE).read_bytes()
                decode_arrays(made, self._max_bytes)
            except FileNotFoundError:
                return delivered
            except (ContractError, OSError) as error:
                self._lose(model, version, str(error))
                raise NotFound(
                    f"version {version} of model {model!r} is damaged and was set aside ({error})"
                ) from None
            return made

    def arrays(self, model: str, version: int = 0) -> tuple[Card, Arrays]:
        """A version's card and arrays; 0: the one in service, or the last good one. Raises NotFound."""
        card, data = self.whole(model, version)
        return card, decode_arrays(data, self._max_bytes)

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
        """Keep a version, not in service.

        Raises ContractError where arrays and card differ, OverCapacity for one model too many, OSError.
        """
        with self._lock:
            self.check(card, data)
            if (known := self._cards.get(card.model, {}).get(card.version)) is not None:
                if known == card:
                    return
                raise Conflict(
                    f"version {card.version} of model {card.model!r} is kept already, and is another"
                )
            if card.model not in self._cards and len(self._cards) >= _MOST_MODELS:
                raise OverCapacity(
                    f"model {card.model!r}: {len(self._cards)} others are kept, and no more; remove one that"
                    " nobody uses from the state folder's learning/models, and start anew"
                )
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
            self._notes.setdefault(card.model, {})
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
        """Put a version into service. Raises NotFound, OSError."""
        with self._lock:
            self.note(model, version, reason)
            self._write_service(model, version)

    def use_here(self, model: str, version: int, data: bytes) -> None:
        """Keep the form that this domain uses of a version; empty: as delivered. Raises NotFound, OSError."""
        with self._lock:
            self.get(model, version)
            folder = self.folder / model / str(version)
            if not data:
                (folder / _HERE).unlink(missing_ok=True)
                return
            written = folder / f".{_HERE}.new"
            written.write_bytes(data)
            put_in_place(written, folder / _HERE)

    def note(self, model: str, version: int, reason: str) -> None:
        """Keep what was judged of a version; begins with `REFUSED`: not good. Raises NotFound, OSError."""
        with self._lock:
            self.get(model, version)
            folder = self.folder / model / str(version)
            written = folder / f".{_NOTE}.new"
            written.write_text(reason, encoding="utf-8")
            put_in_place(written, folder / _NOTE)
            self._notes[model][version] = reason

    # ------------------------------------------------------------ disk

    def _write_service(self, model: str, version: int) -> None:
        folder = self.folder / model
        written = folder / f".{_SERVICE}.new"
        written.write_text(json.dumps({"version": version}), encoding="utf-8")
        put_in_place(written, folder / _SERVICE)
        self._service[model] = version

    def _forget_old(self, model: str) -> None:
        cards = self._cards[model]
        for version in sorted(cards)[: -self._kept]:
            if version != self.in_service(model):
                shutil.rmtree(self.folder / model / str(version), ignore_errors=True)
                del cards[version]
                self._notes[model].pop(version, None)

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
            self._cards[path.name], self._notes[path.name] = {}, {}
            for part in numbers:
                self._load_version(path.name, part)
            version, problem = _version_in(path / _SERVICE)
            self._service[path.name] = version
            if problem:
                self._damage(path / _SERVICE, problem)
            if problem or (version and version not in self._cards[path.name]):
                self._fall_back(path.name, "what was in service before it is damaged")

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
        with contextlib.suppress(OSError, ValueError):  # without it: it was never judged
            self._notes[model][card.version] = (folder / _NOTE).read_text(encoding="utf-8")

    def _lose(self, model: str, version: int, why: str) -> None:
        """A version turned out to be damaged."""
        del self._cards[model][version]
        self._notes[model].pop(version, None)
        self._damage(self.folder / model / str(version), why)
        if self.in_service(model) == version:
            self._fall_back(model, f"version {version} is damaged")

    def _fall_back(self, model: str, why: str) -> None:
        """Put the newest version that is whole, and was good, into service."""
        good = [v for v, note in self._notes[model].items() if not note.startswith(REFUSED)]
        number = max(good, default=0)
        self._service[model] = number
        try:
            if number:
                self.serve(model, number, why)
            else:
                self._write_service(model, 0)
        except OSError as error:
            self.problem = f"{self.folder}: models cannot be written ({error.strerror})"

    def _damage(self, path: Path, why: str) -> None:
        sentence = f"{path.relative_to(self.folder)} is damaged and was set aside: {why}"
        log.error("model set aside", extra={"path": str(path), "why": why})
        self._damaged.append(sentence)
        try:
            path.replace(path.with_name(f"{path.name}.damaged-{path.stat().st_mtime_ns}"))
        except OSError as error:
            self.problem = f"{path}: it cannot be set aside ({error.strerror})"


def _version_in(path: Path) -> tuple[int, str]:
    """The version that a file says is in service, and what is wrong with the file."""
    try:
        return int(json.loads(path.read_bytes())["version"]), ""
    except FileNotFoundError:
        return 0, ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return 0, f"it cannot be read ({error})"
