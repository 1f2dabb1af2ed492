"""Reads one TOML file as a model: paths made absolute, wrong keys explained, secrets by reference."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from domain_twin.errors import ConfigError


class Strict(BaseModel):
    """A table of a file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


C = TypeVar("C", bound=Strict)


def load(path: Path, kind: type[C]) -> C:
    """Read one TOML file as `kind`, with paths made absolute. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        parsed = kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, kind, item) for item in error.errors())) from error
    result: C = _absolute(parsed, path.resolve().parent)
    return result


def secret(reference: str, folder: Path | None = None) -> SecretStr:
    """What `env:NAME` or `file:PATH` refers to. Raises ConfigError naming the reference, never the secret."""
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        if rest not in os.environ:
            raise ConfigError(f"secret {reference}: the environment has no variable {rest}")
        return SecretStr(os.environ[rest])
    if scheme == "file":
        path = (folder or Path()) / rest
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"secret {reference}: others may read {path}; run chmod 600 on it")
            return SecretStr(path.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ConfigError(f"secret {reference}: cannot be read ({error.strerror})") from error
    raise ConfigError(f"secret {reference!r}: accepted are env:NAME and file:PATH")


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: _absolute(getattr(value, name), folder) for name in type(value).model_fields}
        )
    if isinstance(value, tuple):
        return tuple(_absolute(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("file:"):
        return f"file:{folder / value[5:]}"
    return value


def _explain(path: Path, kind: type[BaseModel], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    if item["type"] == "extra_forbidden":
        known = _keys(kind, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{path}: {where}: no such key{hint} Accepted here: {', '.join(known)}"
    if item["type"] == "missing":
        return f"{path}: {where}: this key is missing{_meaning(kind, item['loc'])}"
    return f"{path}: {where}: {item['msg']} (found {item['input']!r}){_meaning(kind, item['loc'])}"


def _model_at(kind: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = kind
    for part in loc:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        current = _first_model(current.model_fields[part].annotation)
    return current


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _first_model(argument):
            return found
    return None


def _keys(kind: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    model = _model_at(kind, loc)
    return sorted(model.model_fields) if model else []


def _meaning(kind: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    names = [part for part in loc if isinstance(part, str)]
    model = _model_at(kind, loc[: len(loc) - 1]) if names else None
    field = model.model_fields.get(names[-1]) if model and names else None
    return f": {field.description}" if field and field.description else ""
