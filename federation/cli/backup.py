"""`fedtwin backup` and `fedtwin restore`: a process's state in one file, and back. Owns what belongs to it.

An agent that runs makes a consistent copy itself; one that is stopped is read where it lies. A broker's
SQLite files are copied by SQLite. Audit segments only grow: they are cut after their last whole record.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.config import AgentConfig, BrokerConfig

SECTION = "Operate"
AGENT_STATE = ("checkpoint.parquet",)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "backup",
        section=SECTION,
        example=(
            "fedtwin backup agent.toml monday.tar",
            "fedtwin backup broker.toml broker.tar.gz --with-keys",
        ),
    )(backup)
    command(app, "restore", section=SECTION, example="fedtwin restore monday.tar /var/lib/fedtwin/state")(
        restore
    )


def backup(
    *,
    subject: Annotated[
        Path,
        typer.Argument(metavar="STATE_FOLDER|TOML", help="A process's configuration, or its state folder."),
    ],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The backup; a name in .gz is compressed.")],
    with_keys: Annotated[
        bool,
        typer.Option("--with-keys", help="Private keys as well: who has the backup can then be this peer."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Put the state of an agent or a broker in one file.

    Checkpoint, history, alarms, audit and learned models of an agent; database, alarms, audit, learned
    models and their log of a broker; the configuration where it is named. A manifest holds a SHA-256 of
    every file.
    """
    from importlib.metadata import version

    from domain_twin.datastore import archive
    from domain_twin.errors import ConfigError
    from federation.cli.console import emit, out

    if output.exists() and not force:
        raise ConfigError(f"{output}: exists already; name another file, or give --force")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist")
    state, config = _state_of(subject)
    role = "broker" if (state / "broker.sqlite3").exists() else "agent"
    with _gathered(state, role) as files:
        if config:
            files["config/" + subject.name] = subject
            files.update(_keys(config) if with_keys else {})
        manifest = archive.write(
            output, files, role=role, name=_name(config, state), software=version("fedtwin"), keys=with_keys
        )
    done = {
        "file": output,
        "role": role,
        "files": len(manifest.files),
        "octets": manifest.octets,
        "keys": with_keys,
        "left_out": manifest.left_out,
    }
    if as_json:
        emit(done)
        return
    out().print(f"{output}: {len(manifest.files)} files of {manifest.name}, {manifest.octets:,} octets")
    for path in manifest.left_out:
        out().print(f"left out, as it holds a private key: {path}", style="note")


def restore(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup made by `fedtwin backup`.")],
    folder: Annotated[
        Path, typer.Argument(metavar="STATE_FOLDER", help="Where the state goes; a new folder.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also where there is a state; that is kept beside it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in place, all of it or nothing.

    Every file is checked against the manifest first. A restored agent starts with a new epoch, so that its
    peers ask for a snapshot, and its history has a gap from the backup to the start.
    """
    from domain_twin.datastore import archive
    from federation.cli.console import emit, iso, out

    with _unused(folder):
        manifest, aside = archive.restore(file, folder, force=force)
    if as_json:
        emit(
            {
                "folder": folder,
                "role": manifest.role,
                "name": manifest.name,
                "created_at": manifest.created_at,
                "files": len(manifest.files),
                "former": aside,
            }
        )
        return
    out().print(
        f"{folder}: {len(manifest.files)} files of the {manifest.role} {manifest.name} as of"
        f" {iso(manifest.created_at)}"
    )
    if aside:
        out().print(f"what lay there is now {aside}", style="note")


def _state_of(subject: Path) -> tuple[Path, AgentConfig | BrokerConfig | None]:
    from domain_twin.config import load_agent, load_broker
    from domain_twin.errors import ConfigError

    if subject.is_dir():
        return subject, None
    try:
        config: AgentConfig | BrokerConfig = load_agent(subject)
    except ConfigError as error:
        try:
            config = load_broker(subject)
        except ConfigError:
            raise error from None
        if config.database:
            raise ConfigError(
                f"{subject}: its database is {config.database.partition('@')[2] or 'elsewhere'}:"
                " back that up with its own tool, and the state folder by its name"
            ) from None
    if not config.state.is_dir():
        raise ConfigError(f"{config.state}: there is no state; did it ever run?")
    return config.state, config


def _name(config: AgentConfig | BrokerConfig | None, state: Path) -> str:
    if config is None:
        return state.absolute().parent.name
    return config.domain if hasattr(config, "domain") else config.operator


def _keys(config: AgentConfig | BrokerConfig) -> dict[str, Path]:
    """The files that [identity] names."""
    if config.identity is None:
        return {}
    places = [value for value in config.identity.model_dump().values() if isinstance(value, Path)]
    return {f"keys/{place.name}": place for place in places if place.is_file()}


@contextlib.contextmanager
def _gathered(state: Path, role: str) -> Iterator[dict[str, Path]]:
    """Consistent files of a state folder, by their path in it."""
    import asyncio

    with tempfile.TemporaryDirectory(prefix="fedtwin-backup-") as scratch, contextlib.ExitStack() as ends:
        files: dict[str, Path] = {}
        if role == "agent":
            copy = asyncio.run(_copied(state))
            if copy:
                ends.callback(shutil.rmtree, copy, ignore_errors=True)
            else:
                ends.enter_context(_unused(state))
            files.update(_tree(copy or state, ("history", *AGENT_STATE)))
        for place in sorted(state.glob("*.sqlite*")):
            if place.suffix in (".sqlite", ".sqlite3"):
                files[place.name] = _copied_sqlite(place, Path(scratch))
        for path, place in _tree(state, ("audit", "learning")).items():
            files[path] = _whole_lines(place, Path(scratch) / path) if place.suffix == ".jsonl" else place
        yield files


def _tree(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    found = {}
    for name in names:
        top = folder / name
        for place in [top] if top.is_file() else sorted(top.rglob("*")):
            if place.is_file() and not place.is_symlink() and place.suffix not in (".lock", ".tmp"):
                found[place.relative_to(folder).as_posix()] = place
    return found


async def _copied(state: Path) -> Path | None:
    """The copy that a running agent made; None: none runs."""
    from domain_twin.errors import Unreachable
    from federation.client import TwinClient

    socket = state / "agent.sock"
    if not socket.is_socket():
        return None
    try:
        async with TwinClient(socket, timeout_s=600.0) as twin:
            return await twin.copy_state()
    except Unreachable:
        return None  # left behind by one that was killed


@contextlib.contextmanager
def _unused(state: Path) -> Iterator[None]:
    """Hold a state folder, if there is one. Raises ConfigError: a process uses it."""
    from domain_twin.operations.lock import hold

    history = state / "history"
    held = hold(history, "history") if history.is_dir() else None
    try:
        yield
    finally:
        if held:
            held.close()


def _copied_sqlite(place: Path, scratch: Path) -> Path:
    import sqlite3

    target = scratch / place.name
    with (
        contextlib.closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True, timeout=30)) as source,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    return target


def _whole_lines(place: Path, target: Path) -> Path:
    """A copy of a file that grows by lines, up to its last whole line."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = place.read_bytes()
    target.write_bytes(content[: content.rfind(b"\n") + 1])
    return target
