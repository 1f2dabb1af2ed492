"""Which YANG texts there are, and what each needs. Reads headers only; refuses nothing, reports everything.

A folder of a vendor's release holds what it holds: several revisions, drafts, notes, links in circles. Each
thing that cannot be used, or that has a rival, becomes a `Problem` that names it; the rest goes on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["DEVICE", "LARGEST_FILE", "Catalogue", "Need", "Problem", "Source", "scan", "without"]

LARGEST_FILE = 8 * 1024 * 1024
"""Octets of the largest text that is read; published modules stay below 2 MiB."""

DEVICE = "device"
"""How the place of a text begins that a device served."""

_FILE_NAME = re.compile(r"([A-Za-z_][\w.-]*?)(?:@(\d{4}-\d{2}-\d{2}))?\.yang")
_TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|("(?:[^"\\]|\\.)*"|'[^']*')|([{};])|([^\s{};"']+)""", re.DOTALL)
_HEADER = frozenset(
    [
        "yang-version",
        "namespace",
        "prefix",
        "belongs-to",
        "import",
        "include",
        "organization",
        "contact",
        "description",
        "reference",
        "revision",
    ]
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Need(NamedTuple):
    """A module that another imports or includes; `revision` may be empty."""

    name: str
    revision: str
    line: int
    included: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the modules that a person should know. `remedy` says what would make it go away."""

    code: str  # e.g. "module.missing-import"
    subject: str  # a module's name, or a file or folder
    message: str
    remedy: str = ""
    serious: bool = True  # something is missing from the schema because of it


@dataclass(frozen=True, slots=True)
class Source:
    """One text of a module or submodule. `tier` is where it came from: the lowest has the word."""

    name: str
    revision: str
    place: str  # a file, or device:NAME
    digest: str
    tier: int
    needs: tuple[Need, ...] = ()
    submodule_of: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All texts by name, the one that counts first: lowest tier, then newest revision."""

    sources: Mapping[str, tuple[Source, ...]]
    problems: tuple[Problem, ...]
    texts: Mapping[str, str] = field(default_factory=dict)  # served by a device, by name

    def names(self, tier: int | None = None) -> list[str]:
        """Names of all modules (no submodules), or of those of one tier."""
        return sorted(
            name
            for name, found in self.sources.items()
            if not found[0].submodule_of and tier in {None, found[0].tier}
        )

    def chosen(self, name: str, revision: str = "") -> Source | None:
        """The text of a module: of that revision, or the one that counts."""
        for source in self.sources.get(name, ()):
            if not revision or source.revision == revision:
                return source
        return None

    def text(self, source: Source) -> str:
        """The text itself. Raises OSError or UnicodeDecodeError for a file that changed since."""
        if source.place.startswith(f"{DEVICE}:"):
            return self.texts[source.name]
        return Path(source.place).read_text(encoding="utf-8-sig")

    def digest(self) -> str:
        """A fingerprint of all there is to choose from."""
        whole = hashlib.sha256()
        for name in sorted(self.sources):
            for source in self.sources[name]:
                whole.update(
                    f"{name} {source.revision} {source.tier} {source.place} {source.digest}\n".encode()
                )
        return whole.hexdigest()


def scan(tiers: Sequence[Sequence[Path]], texts: Mapping[str, str]) -> Catalogue:
    """Catalogue texts that devices served, then the folders of each tier with their subfolders. Blocks.

    Problems are told of the first tier, which is the operator's; others ship with the product.
    """
    problems: list[Problem] = []
    found: dict[str, list[Source]] = {}
    for name, text in texts.items():
        source = _read(f"{DEVICE}:{name}", text.encode(), -1, problems)
        if source is not None:
            found.setdefault(name, []).append(source)
    for tier, folders in enumerate(tiers):
        told: list[Problem] = []
        for path in _files(folders, told):
            octets = _octets(path, told)
            source = _read(str(path), octets, tier, told) if octets is not None else None
            if source is not None:
                found.setdefault(source.name, []).append(source)
        if tier == 0:
            problems += told
    ordered = {name: _in_order(name, sources, problems) for name, sources in sorted(found.items())}
    return Catalogue(ordered, tuple(problems), dict(texts))


def _files(folders: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    entered: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            problems.append(
                Problem(
                    "folder.missing", str(folder), "there is no such folder", "correct [yang] directories"
                )
            )
            continue
        strangers = 0
        for here, below, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(here)
            if real in entered:
                below.clear()
                continue
            entered.add(real)
            below.sort()
            for inner in list(below):
                link = Path(here, inner)
                if link.is_symlink() and _is_loop(os.path.realpath(link), real, entered):
                    below.remove(inner)
                    problems.append(
                        Problem(
                            "folder.loop",
                            str(link),
                            f"links to {os.path.realpath(link)}, searched already; it is not entered",
                            "remove the link",
                            serious=False,
                        )
                    )
            for name in sorted(names):
                if name.endswith(".yang"):
                    yield Path(here, name)
                elif not name.startswith("."):
                    strangers += 1
        if strangers:
            problems.append(
                Problem(
                    "file.not-yang",
                    str(folder),
                    f"holds {strangers} files that are no .yang files; they are not read",
                    "nothing to do, unless a module has another ending: rename it to MODULE.yang",
                    serious=False,
                )
            )


def _is_loop(target: str, here: str, entered: set[str]) -> bool:
    return target in entered or f"{here}/".startswith(f"{target.rstrip('/')}/")


def _octets(path: Path, problems: list[Problem]) -> bytes | None:
    try:
        if not path.is_file():
            raise OSError(0, "no regular file, or a link to nothing")
        if (size := path.stat().st_size) > LARGEST_FILE:
            problems.append(
                Problem(
                    "file.too-large",
                    str(path),
                    f"has {size:,} octets; at most {LARGEST_FILE:,} are read",
                    "split the module into submodules, or take the file away",
                )
            )
            return None
        return path.read_bytes()
    except OSError as error:
        problems.append(
            Problem(
                "file.unreadable", str(path), f"cannot be read ({error.strerror})", "let the agent read it"
            )
        )
        return None


def _read(place: str, octets: bytes, tier: int, problems: list[Problem]) -> Source | None:
    """The source that a text is, by its header; None for what is no module."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(
            Problem(
                "file.not-utf8",
                place,
                f"is not UTF-8 (octet {error.start + 1})",
                "save the file as UTF-8 (RFC 7950 6)",
            )
        )
        return None
    header = _header(text)
    if header is None:
        problems.append(
            Problem(
                "file.no-module",
                place,
                "does not begin with a module or submodule statement",
                "mend the file, or take it away",
            )
        )
        return None
    name, revision, owner, needs = header
    stated = _FILE_NAME.fullmatch(Path(place).name)
    if stated and not place.startswith(f"{DEVICE}:"):
        if stated[1] != name:
            problems.append(
                Problem(
                    "file.other-name",
                    place,
                    f"holds the module {name}; it is taken under that name",
                    f"rename the file to {name}.yang",
                    serious=False,
                )
            )
        elif stated[2] and stated[2] != revision:
            problems.append(
                Problem(
                    "file.other-revision",
                    place,
                    f"holds revision {revision or 'none'}, not {stated[2]}",
                    "rename the file after its latest revision statement",
                    serious=False,
                )
            )
    return Source(name, revision, place, hashlib.sha256(octets).hexdigest(), tier, needs, owner)


def _header(text: str) -> tuple[str, str, str, tuple[Need, ...]] | None:
    """Name, latest revision, the module that a submodule belongs to, and what is imported and included."""
    depth = 0
    words: list[str] = []
    start = 0
    name = owner = ""
    revisions: list[str] = []
    needs: list[Need] = []
    for token in _TOKEN.finditer(text):
        quoted, mark, word = token.groups()
        if quoted or word:
            if not words:
                start = token.start()
            words.append(quoted[1:-1] if quoted else word)
            continue
        if not mark:
            continue  # a comment
        if mark == "}":
            depth -= 1
            words = []
            if depth <= 0:
                break
            continue
        keyword, argument = (words[0], words[1]) if len(words) > 1 else (words[0] if words else "", "")
        words = []
        if depth == 0:
            if keyword not in {"module", "submodule"} or mark != "{":
                return None
            name = argument
        elif depth == 1:
            if keyword not in _HEADER and ":" not in keyword:
                break  # the header ends here (RFC 7950 7.1.1)
            if keyword == "revision" and _DATE.fullmatch(argument):
                revisions.append(argument)
            elif keyword == "belongs-to":
                owner = argument
            elif keyword in {"import", "include"}:
                line = text.count("\n", 0, start) + 1
                needs.append(Need(argument, "", line, keyword == "include"))
        elif depth == 2 and keyword == "revision-date" and needs:
            needs[-1] = needs[-1]._replace(revision=argument)
        if mark == "{":
            depth += 1
    return (name, max(revisions, default=""), owner, tuple(needs)) if name else None


def without(text: str, keyword: str) -> str:
    """The text of a module without its top-level statements of that keyword."""
    if keyword not in text:
        return text
    kept: list[str] = []
    depth, at, start = 0, 0, -1
    begun = False  # whether a word of the present statement was seen
    for token in _TOKEN.finditer(text):
        quoted, mark, word = token.groups()
        if mark:
            depth += {"{": 1, "}": -1}.get(mark, 0)
            if start >= 0 and mark != "{" and depth == 1:
                kept.append(text[at:start])
                at, start = token.end(), -1
            begun = False
        elif (word or quoted) and not begun:
            begun = True
            if depth == 1 and word == keyword:
                start = token.start()
    return "".join([*kept, text[at:]])


def _in_order(name: str, sources: list[Source], problems: list[Problem]) -> tuple[Source, ...]:
    """The sources of one name, the one that counts first, each revision once; rivals are told."""
    lowest = min(source.tier for source in sources)
    ranked = sorted(enumerate(sources), key=lambda item: item[0])
    ranked.sort(key=lambda item: item[1].revision, reverse=True)
    ranked.sort(key=lambda item: item[1].tier)
    kept: dict[tuple[int, str], Source] = {}
    for _, source in ranked:
        first = kept.setdefault((source.tier, source.revision), source)
        if first is not source and first.digest != source.digest and source.tier == 0:
            problems.append(
                Problem(
                    "module.two-texts",
                    name,
                    f"{first.place} and {source.place} differ, yet both say revision"
                    f" {source.revision or 'none'}; the first is taken",
                    "keep one of the two",
                )
            )
    own = [source for (tier, _), source in kept.items() if tier == lowest]
    if lowest == 0 and len(own) > 1:
        problems.append(
            Problem(
                "module.revisions",
                name,
                f"has the revisions {', '.join(source.revision or 'none' for source in own)};"
                f" {own[0].revision} ({own[0].place}) is taken",
                "nothing to do where the newest is meant; a device that says another gets that",
                serious=False,
            )
        )
    return tuple(kept.values())
