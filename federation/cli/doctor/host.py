"""What doctor sees of the machine: Python, packages, caches, space, open files, ports. Changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from domain_twin.operations.endpoint import ADDRESS_FILE
from domain_twin.operations.settings import MetricsConfig, split_address
from federation.cli.checks import Rows

LEAST_PYTHON = (3, 11)
_RELEASED = 1_767_225_600.0  # 2026-01-01: no clock of a machine that runs this shows less
_CRITICAL_MB = 64.0
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*([^;]*)")


def installation(rows: Rows) -> None:
    """Python, packages, caches and clock."""
    _python(rows)
    _packages(rows)
    _caches(rows)
    _clock(rows)


def _python(rows: Rows) -> None:
    now = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= LEAST_PYTHON:
        rows.fine("python", f"{now} in {sys.prefix}")
    else:
        rows.wrong("python", f"{now} is too old; 3.11 is the least", "./dev setup")


def _packages(rows: Rows) -> None:
    """Each requirement of this distribution, against what is installed."""
    try:
        needed = requires("fedtwin") or []
    except PackageNotFoundError:
        rows.wrong("packages", "fedtwin itself is not installed here", "./dev setup")
        return
    bad = [problem for text in needed if "extra ==" not in text and (problem := _lacking(text))]
    for problem in bad:
        rows.wrong("packages", problem, f"{sys.executable} -m pip install --upgrade fedtwin")
    if not bad:
        rows.fine("packages", f"fedtwin {version('fedtwin')} with {len(needed)} packages")


def _lacking(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    assert match
    name, wanted = match[1], match[2].strip()
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed; {requirement} is needed"
    for bound in filter(None, wanted.split(",")):
        operator, limit = re.match(r"\s*([<>=!~]+)\s*(.*)", bound).groups()  # type: ignore[union-attr]
        if not _holds(_release(found), operator, _release(limit)):
            return f"{name} {found} is installed; {requirement} is needed"
    return ""


def _holds(found: tuple[int, ...], operator: str, limit: tuple[int, ...]) -> bool:
    length = max(len(found), len(limit))
    a, b = (part + (0,) * (length - len(part)) for part in (found, limit))
    return {">=": a >= b, "<": a < b, "<=": a <= b, ">": a > b, "==": a == b, "!=": a != b}.get(
        operator, True
    )


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version's release segment (PEP 440)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", text.strip())[0]))


def _caches(rows: Rows) -> None:
    import domain_twin

    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(domain_twin.__file__).parent / "emulator")
    if os.access(folder, os.W_OK):
        rows.fine("compiler cache", str(folder))
    else:
        rows.doubtful(
            "compiler cache",
            f"{folder} cannot be written, so that emulators compile anew at each start",
            'export NUMBA_CACHE_DIR="$HOME/.cache/numba"',
        )


def _clock(rows: Rows) -> None:
    now = time.time()
    if now < _RELEASED:
        shown = time.strftime("%Y-%m-%d", time.gmtime(now))
        rows.wrong("clock", f"it says {shown}; certificates fail by it", "timedatectl set-ntp true")
    else:
        rows.fine("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def space(rows: Rows, folder: Path, free_mb: float) -> None:
    """Whether a state folder can be written, and its disk has room."""
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        rows.wrong(
            "state folder",
            f"{place} cannot be written by {_account()}",
            f"sudo chown {_account()} {place}",
        )
        return
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        rows.doubtful(
            "state folder",
            f"others may look into {folder}",
            f"chmod 700 {folder}",
        )
    left_mb = shutil.disk_usage(place).free / 1e6
    text = f"{left_mb:,.0f} MB are free for {folder}"
    if left_mb < min(free_mb, _CRITICAL_MB):
        rows.wrong("space", f"{text}; nothing can be kept", f"du -sh {folder}/*")
    elif left_mb < free_mb:
        rows.doubtful("space", f"{text}, and {free_mb:,.0f} MB should be", f"du -sh {folder}/*")
    else:
        rows.fine("space", text)


def open_files(rows: Rows, needed: int) -> None:
    """Whether the limit of open files is enough for sessions, history and the rest."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        rows.wrong(
            "open files", f"at most {soft} may be open, and {needed} may be needed", f"ulimit -n {needed}"
        )
    else:
        rows.fine("open files", f"at most {'any number' if soft < 0 else soft}, {needed} may be needed")


def port(rows: Rows, subject: str, listen: str, *, running: bool) -> None:
    """Whether a configured address can be listened on, or is listened on by the very process."""
    if running:
        rows.fine(subject, f"{listen}: this broker runs there")
        return
    host, _, number = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(number)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            rows.wrong(
                subject,
                f"{listen} cannot be listened on ({reason}), and it is not this broker that runs there",
                f"ss -ltnp 'sport = :{number}'",
            )
            return
    rows.fine(subject, f"{listen} is free")


def metrics(rows: Rows, config: MetricsConfig, state: Path, process: str, *, running: bool) -> None:
    """Whether the metrics of a running process answer, and what it needs to be ready."""
    if not config.listen:
        rows.fine("metrics", "off")
        return
    if not running:
        if split_address(config.listen)[1]:
            port(rows, "metrics", config.listen, running=False)
        return
    try:
        address = (state / ADDRESS_FILE).read_text(encoding="utf-8").strip()
        document = _get(f"http://{address}/readyz")
    except (OSError, ValueError) as error:
        rows.doubtful("metrics", f"the {process} runs and its metrics do not answer ({error})")
        return
    for check in document["checks"]:
        subject = f"ready: {check['name']}"
        if check["ok"]:
            rows.fine(subject, check["detail"])
        else:
            rows.doubtful(subject, check["detail"], f"curl http://{address}/readyz")


def _get(url: str) -> dict[str, list[dict[str, str]]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as answer:
            body = answer.read(1 << 20)
    except urllib.error.HTTPError as error:  # 503: not ready, and says why
        with error:
            body = error.read(1 << 20)
    document: dict[str, list[dict[str, str]]] = json.loads(body)
    return document


def _account() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
