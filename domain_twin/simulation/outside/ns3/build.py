"""Find ns-3 in this environment and compile the runner against it, once. Never imports ns-3 itself.

Its Python bindings compile C++ for half a minute at import; headers and libraries of the same wheel are all
that is needed. The compiled runner lies in the user's cache, by the digest of all that went into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from domain_twin.errors import ConfigError

__all__ = ["Ns3", "find_ns3", "runner"]

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("runner.cc")
MODULES = ("point-to-point", "network", "core")
COMPILE_S = 300.0


@dataclass(frozen=True, slots=True)
class Ns3:
    """An installed ns-3: the folders of its headers and libraries, and its version."""

    include: Path
    libraries: Path
    release: str

    @property
    def links(self) -> tuple[str, ...]:
        """What the linker is told: `-l` and the name of each library. Raises ConfigError."""
        return tuple(f"-l{self._library(module)}" for module in MODULES)

    @property
    def definitions(self) -> tuple[str, ...]:
        """The macros that ns-3 was compiled with; they change the layout of its classes."""
        targets = self.libraries / "cmake" / "ns3" / "ns3Targets.cmake"
        try:
            text = targets.read_text(encoding="utf-8")
        except OSError:
            text = ""
        found = re.search(r'INTERFACE_COMPILE_DEFINITIONS "([^"\n]*(?:\\.[^"\n]*)*)"', text)
        words = found.group(1).split(";") if found else ["NS3_LOG_ENABLE", "NS3_ASSERT_ENABLE"]
        return tuple(f"-D{word}" for word in words if re.fullmatch(r"NS3_\w+", word))

    def _library(self, module: str) -> str:
        found = sorted(self.libraries.glob(f"libns3*-{module}.so"))
        if not found:
            raise ConfigError(f"{self.libraries}: no library of ns-3's {module} module; {_REMEDY}")
        return found[0].name.removeprefix("lib").removesuffix(".so")


_REMEDY = (
    "install the extra with `pip install fedtwin[ns3]` (Linux; it brings headers and libraries), "
    "or name the folder of an installed ns-3 in FEDTWIN_NS3"
)


def find_ns3(folder: Path | None = None) -> Ns3:
    """The ns-3 in `folder`, in the folder that FEDTWIN_NS3 names, or of this environment. Raises ConfigError.

    A folder is what the wheel installs as `ns3`, or a prefix: it has `include/ns3`, and `lib64` or `lib`.
    """
    named = os.environ.get("FEDTWIN_NS3")
    if folder is None and named:
        folder = Path(named)
    if folder is not None:
        return _at(folder.expanduser(), _release_in(folder.expanduser()))
    places, release = _installed()
    if not places:
        raise ConfigError(f"ns-3 is not installed here; {_REMEDY}")
    return _at(places[0], release)


def _installed() -> tuple[list[Path], str]:
    """Where `ns3` lies. Its distribution is asked first: a module of that name may stand in the way."""
    try:
        found = distribution("ns3")
    except PackageNotFoundError:
        found = None
    if found is not None and (place := Path(str(found.locate_file("ns3")))).is_dir():
        return [place], found.version
    try:
        spec = find_spec("ns3")
    except (ImportError, ValueError):
        spec = None
    places = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(place) for place in places], "unknown"


def _at(folder: Path, release: str) -> Ns3:
    include = folder / "include"
    if not (include / "ns3" / "core-module.h").is_file():
        raise ConfigError(f"{folder}: no ns-3 there, include/ns3/core-module.h is missing; {_REMEDY}")
    for name in ("lib64", "lib"):
        if any((folder / name).glob("libns3*-core.so")):
            return Ns3(include.resolve(), (folder / name).resolve(), release)
    raise ConfigError(f"{folder}: headers of ns-3 without its libraries (lib64/libns3*-core.so); {_REMEDY}")


def _release_in(folder: Path) -> str:
    for name in ("lib64", "lib"):
        for library in sorted((folder / name).glob("libns3*-core.so")):
            return library.name.removeprefix("libns").partition("-")[0]
    return "unknown"


def runner(*, ns3: Ns3 | None = None, cache: Path | None = None, compiler: str = "g++") -> Path:
    """The compiled runner; compiles it where the cache has none (about 5 s). Blocks. Raises ConfigError."""
    ns3 = ns3 or find_ns3()
    folder = cache or _cache_folder()
    program = folder / f"ns3-runner-{_digest(ns3, compiler)}"
    if program.is_file():
        return program
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"no C++ compiler: {compiler} is not in PATH; the ns-3 runner is compiled once "
            "(Debian and Ubuntu: `apt install g++`)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / "ns3-runner.lock"):
            if not program.is_file():
                _compile(ns3, program, compiler)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot keep the compiled ns-3 runner ({error.strerror or error}); "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return program


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedtwin"


def _command(ns3: Ns3, compiler: str, output: Path) -> list[str]:
    return [
        compiler, "-std=c++20", "-O2", *ns3.definitions, f"-I{ns3.include}", "-o", str(output), str(SOURCE),
        f"-L{ns3.libraries}", f"-Wl,-rpath,{ns3.libraries}", *ns3.links,
    ]  # fmt: skip


def _digest(ns3: Ns3, compiler: str) -> str:
    whole = hashlib.sha256(SOURCE.read_bytes())
    whole.update("\0".join([ns3.release, os.uname().machine, *_command(ns3, compiler, Path("-"))]).encode())
    return whole.hexdigest()[:24]


def _compile(ns3: Ns3, program: Path, compiler: str) -> None:
    written = program.with_suffix(f".{os.getpid()}.tmp")
    log.info("compiling the ns-3 runner", extra={"ns3": ns3.release, "program": str(program)})
    try:
        done = subprocess.run(
            _command(ns3, compiler, written), capture_output=True, text=True, check=False, timeout=COMPILE_S
        )
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-300:])
            raise ConfigError(
                f"{compiler} cannot compile the runner against ns-3 {ns3.release} in {ns3.include}: "
                f"{said.strip()}; it needs C++20 (g++ 11 or later) and ns-3 3.44 or later"
            )
        written.replace(program)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{compiler} took more than {COMPILE_S:.0f} s to compile the ns-3 runner"
        ) from error
    finally:
        written.unlink(missing_ok=True)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold `file` against other processes: two that start at once compile one after the other, once."""
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
