"""Backups: a tar file with a manifest first. Owns the format and what may come out of it again.

`manifest.json` names every other member with its size and SHA-256. Nothing is extracted that it does not
name: no link, no absolute path, no way up, nothing larger than it says. Private keys are left out unless
asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from domain_twin.datastore.durable import sync_folder
from domain_twin.errors import ConfigError

__all__ = ["Manifest", "read_manifest", "restore", "write"]

FORMAT = "fedtwin-backup"
VERSION = 1
_MANIFEST = "manifest.json"
_MAX_MANIFEST = 64 << 20
_CHUNK = 1 << 20
_KEY_MARK = b"PRIVATE KEY-----"

Progress = Callable[[int, int], None]
"""Told of the octets done and of all of them."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    role: str  # "agent" or "broker"
    name: str
    software: str
    created_at: int
    keys: bool
    files: Mapping[str, tuple[int, str]]  # path -> octets, SHA-256
    left_out: tuple[str, ...] = ()  # private keys

    @property
    def octets(self) -> int:
        """How large all files are together."""
        return sum(size for size, _ in self.files.values())


def write(
    target: Path,
    files: Mapping[str, Path],
    *,
    role: str,
    name: str,
    software: str,
    keys: bool,
    progress: Progress = lambda _done, _all: None,
) -> Manifest:
    """Write `files` (paths in the archive -> where they lie) to a new archive. Raises ConfigError, OSError.

    A name in .gz is compressed. The archive appears complete or not at all, with mode 0600.
    """
    left_out = () if keys else tuple(sorted(path for path, place in files.items() if holds_key(place)))
    chosen = {path: place for path, place in sorted(files.items()) if path not in left_out}
    told = {path: (place.stat().st_size, _digest(place)) for path, place in chosen.items()}
    manifest = Manifest(role, name, software, time.time_ns(), keys, told, left_out)
    written = target.with_name(target.name + ".part")
    mode = "w:gz" if target.suffix in (".gz", ".tgz") else "w"
    done = 0
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with tarfile.open(fileobj=raw, mode=mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                _add(tar, _MANIFEST, io.BytesIO(body := _encode(manifest)), len(body))
                for path, place in chosen.items():
                    with place.open("rb") as source:
                        _add(tar, path, source, told[path][0])
                    done += told[path][0]
                    progress(done, manifest.octets)
            raw.flush()
            os.fsync(raw.fileno())
        written.replace(target)
        sync_folder(target.absolute().parent)
    finally:
        written.unlink(missing_ok=True)
    return manifest


def read_manifest(archive: Path) -> Manifest:
    """What an archive says that it holds. Raises ConfigError: damaged, foreign, or of another version."""
    with _opened(archive) as tar:
        return _manifest(archive, tar)


def restore(
    archive: Path, target: Path, *, force: bool = False, progress: Progress = lambda _done, _all: None
) -> tuple[Manifest, Path | None]:
    """Put what an archive holds in the folder `target`, all or nothing; what lay there is kept beside it.

    Gives the manifest and where the folder's former content is now. Raises ConfigError: the archive is
    damaged or foreign, or the folder is not empty and `force` is not given.
    """
    target = target.absolute()
    occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if occupied and not force:
        raise ConfigError(
            f"{target}: is not empty; name a new folder, or keep what is there aside with --force"
        )
    fresh = target.with_name(f".{target.name}.restoring-{os.getpid()}")
    try:
        fresh.mkdir(mode=0o700, parents=True)
        with _opened(archive) as tar:
            manifest = _manifest(archive, tar)
            _extract(archive, tar, manifest, fresh, progress)
        aside: Path | None = None
        if occupied:
            aside = target.with_name(f"{target.name}.before-{time.time_ns()}")
            target.rename(aside)
        elif target.exists():
            target.rmdir()
        fresh.rename(target)
        sync_folder(target.parent)
        return manifest, aside
    except OSError as error:
        raise ConfigError(f"{target}: cannot be restored to ({error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def holds_key(path: Path) -> bool:
    """Whether a small file contains a private key (PEM or OpenSSH)."""
    if path.stat().st_size > _CHUNK:
        return False
    return _KEY_MARK in path.read_bytes()


def _extract(
    archive: Path, tar: tarfile.TarFile, manifest: Manifest, folder: Path, progress: Progress
) -> None:
    missing = dict(manifest.files)
    done = 0
    for member in islice(tar, 1, None):  # the first is the manifest
        expected = missing.pop(member.name, None)
        if expected is None or not member.isreg() or not _harmless(member.name):
            raise ConfigError(f"{archive}: holds {member.name!r}, which no backup has; nothing was restored")
        if member.size != expected[0]:
            raise ConfigError(
                f"{archive}: {member.name} has another size than the manifest says; it is damaged"
            )
        place = folder / member.name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = tar.extractfile(member)
        digest = hashlib.sha256()
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            while source and (chunk := source.read(_CHUNK)):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != expected[1]:
            raise ConfigError(f"{archive}: {member.name} is not what was backed up (its SHA-256 differs)")
        done += member.size
        progress(done, manifest.octets)
    if missing:
        raise ConfigError(f"{archive}: lacks {len(missing)} files of its manifest, such as {min(missing)}")


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:*") as tar:
            yield tar
    except FileNotFoundError:
        raise ConfigError(f"{archive}: no such file") from None
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{archive}: is damaged or no backup ({error}); nothing was restored") from error
    except OSError as error:
        if error.errno is None:  # gzip's own
            raise ConfigError(f"{archive}: is damaged ({error}); nothing was restored") from error
        raise
    except Exception as error:  # zlib's have no base of their own
        if type(error).__module__ != "zlib":
            raise
        raise ConfigError(f"{archive}: is damaged ({error}); nothing was restored") from error


def _manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    if member is None or member.name != _MANIFEST or not member.isreg() or member.size > _MAX_MANIFEST:
        raise ConfigError(f"{archive}: is no backup: its first member is not {_MANIFEST}")
    source = tar.extractfile(member)
    try:
        told: dict[str, Any] = json.loads(source.read() if source else b"")
        if told["format"] != FORMAT or told["version"] != VERSION:
            raise ConfigError(
                f"{archive}: has format {told['format']} {told['version']};"
                f" this release reads {FORMAT} {VERSION}"
            )
        files = {str(path): (int(size), str(digest)) for path, (size, digest) in told["files"].items()}
        return Manifest(
            str(told["role"]),
            str(told["name"]),
            str(told["software"]),
            int(told["created_at"]),
            bool(told["keys"]),
            files,
            tuple(told["left_out"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{archive}: is no backup: its manifest makes no sense ({error!r})") from error


def _harmless(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def _encode(manifest: Manifest) -> bytes:
    told = {
        "format": FORMAT,
        "version": VERSION,
        "role": manifest.role,
        "name": manifest.name,
        "software": manifest.software,
        "created_at": manifest.created_at,
        "keys": manifest.keys,
        "files": manifest.files,
        "left_out": manifest.left_out,
    }
    return json.dumps(told, indent=1).encode()


def _add(tar: tarfile.TarFile, name: str, source: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    member.mtime = int(time.time())
    tar.addfile(member, source)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
