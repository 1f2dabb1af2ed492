"""Scenarios from YAML or JSON text. Owns reading, and errors that name file, line, place and remedy.

YAML as version 1.2 has it (core schema: `no` is a word, 1:30 no number, 1e3 one), without tags, anchors and
aliases. What a scenario may hold is `domain_twin.model.scenario`'s to say; whether its elements exist, the
twin's.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from domain_twin.errors import ConfigError
from domain_twin.model.scenario import Scenario

if TYPE_CHECKING:
    from yaml import Node

__all__ = ["MAX_BYTES", "load_scenario", "make_scenario", "parse_scenario"]

MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_PLACE = re.compile(r"[A-Za-z_]+(?:\[\d+\]|\.[A-Za-z_]+)*\[\d+\](?:\[\d+\])*")

Place = tuple[str | int, ...]
Lines = dict[Place, int]


def load_scenario(path: Path) -> Scenario:
    """Read one scenario file, YAML or JSON. Raises ConfigError."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{path}: {size} bytes; a scenario has {MAX_BYTES} at most")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return parse_scenario(data, str(path))


def parse_scenario(text: str | bytes, name: str = "scenario") -> Scenario:
    """The scenario that YAML or JSON text holds; `name` leads every error. Raises ConfigError."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: {len(text)} bytes; a scenario has {MAX_BYTES} at most")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{name}: not UTF-8, at byte {error.start}; save it as UTF-8") from error
    lines: Lines = {}
    document = _read_json(text, name) if text.lstrip()[:1] == "{" else None
    if document is None:
        document = _read_yaml(text, name, lines)
    try:
        return _validated(document, name, lines)
    except ConfigError:
        if lines or "\n" not in text.strip():
            raise
        with contextlib.suppress(ConfigError):  # JSON is YAML but for tabs: its lines can be told
            _read_yaml(text, name, lines)
        return _validated(document, name, lines)


def make_scenario(document: Mapping[str, Any], name: str = "scenario") -> Scenario:
    """The scenario of plain dictionaries and lists, as a file would hold it. Raises ConfigError."""
    return parse_scenario(json.dumps(document), name)


def _validated(document: Any, name: str, lines: Lines) -> Scenario:
    if not isinstance(document, dict):
        found = "nothing" if document is None else _kind_of(document)
        raise ConfigError(f"{name}: {found} found; a scenario is a mapping with `changes:` or `sweep:`")
    try:
        scenario = Scenario.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(error, name, lines))) from error
    if scenario.empty:
        raise ConfigError(
            f"{name}: nothing is changed; add at least one entry under `changes:`, a `sweep:`, or `when:`"
        )
    return scenario


# --- reading


def _read_json(text: str, name: str) -> Any:
    """The document; None where the text is no JSON, and may be YAML."""

    def constant(word: str) -> Any:
        raise ConfigError(f"{name}: {word} found; only finite numbers are accepted")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{name}: the key {key!r} occurs twice in one mapping; keep one")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=members)
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply; a scenario has few levels") from error
    except ConfigError:
        raise
    except ValueError as error:
        if "{" in text[: text.find("\n")] and '"' in text and ":" in text and not _flow_yaml(text):
            raise ConfigError(f"{name}: not valid JSON: {error}") from error
        return None


def _flow_yaml(text: str) -> bool:
    """Whether a text that begins with a brace is YAML: its keys stand without quotes."""
    return re.match(r"\s*\{\s*[A-Za-z_]", text) is not None


def _read_yaml(text: str, name: str, lines: Lines) -> Any:
    import yaml

    loader = _core_loader()
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = _line(event)
                raise ConfigError(f"{name}: line {line}: anchors and aliases are not accepted; write it out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ConfigError(
                    f"{name}: line {_line(event)}: nested too deeply; a scenario has few levels"
                )
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{name}: {where}not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    return None if root is None else _value(root, (), name, lines)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _core_loader() -> Any:
    """A loader of YAML 1.2's core schema: no dates, no octal times, no `yes` and `no`."""
    import yaml

    class Core(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either has these
        yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}

    number = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    for tag, pattern, first in (
        ("null", r"null|Null|NULL|~|", "nN~"),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", rf"{number}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
    ):
        Core.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}",
            re.compile(rf"^(?:{pattern})$"),
            [*first, *([""] if tag == "null" else [])],
        )
    return Core


def _value(node: Node, place: Place, name: str, lines: Lines) -> Any:
    import yaml

    line = node.start_mark.line + 1
    lines[place] = line
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, name, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, number), name, lines) for number, item in enumerate(node.value)]
    where = f"{name}: line {line}: {_spelled(place)}"
    text = node.value
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "float" and text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ConfigError(f"{where}: {text} found; only finite numbers are accepted")
    if kind not in ("int", "float") or len(text) > 400:
        raise ConfigError(f"{where}: {node.tag} is not accepted; write text, a number, true or false")
    return int(text) if kind == "int" else _finite(text, where)


def _finite(text: str, where: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ConfigError(f"{where}: {text} is too large for a number")
    return number


def _mapping(node: Any, place: Place, name: str, lines: Lines) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{name}: line {line}: {_spelled(place)}: a key that is no word; quote it")
        if key in found:
            first = lines[(*place, key)]
            raise ConfigError(
                f"{name}: line {line}: the key {key!r} occurs twice in one mapping (first in line {first});"
                " keep one"
            )
        found[key] = _value(value_node, (*place, key), name, lines)
        lines[(*place, key)] = line
    return found


# --- explaining


def _explained(error: ValidationError, name: str, lines: Lines) -> Iterator[str]:
    told: set[Place] = set()
    for item in error.errors():
        place, model = _resolved(item["loc"])
        if item["type"] == "extra_forbidden":
            place = (*place, item["loc"][-1])
        if place in told:  # a value of several types: each says that it is not one
            continue
        told.add(place)
        line = _line_of(place, lines) if place else 0
        where = f"{name}: {f'line {line}: ' if line else ''}{_spelled(place) or 'the scenario'}"
        yield f"{where}: {_sentence(item, place, model, lines)}"


def _sentence(item: Any, place: Place, model: type[BaseModel], lines: Lines) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        known = sorted(model.model_fields)
        close = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        return f"no such key{hint} Accepted here: {', '.join(known)}"
    if kind == "missing":
        return f"this key is missing{_meaning(model, place)}"
    if kind == "union_tag_invalid":
        known = [word.strip("' ") for word in item["ctx"]["expected_tags"].split(",")]
        close = difflib.get_close_matches(str(item["ctx"]["tag"]), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        return f"no such kind {item['ctx']['tag']!r}{hint} Accepted are {', '.join(known)}"
    if kind == "union_tag_not_found":
        return "the key `kind` is missing: it says what sort of change or sweep this is"
    if kind == "value_error":
        return _with_lines(str(item["ctx"]["error"]), lines)
    if _is_leaf_value(item["loc"]):
        return f"text, a number, true, false or a list of these is accepted (found {_shown(item['input'])})"
    return (
        f"{item['msg'][0].lower()}{item['msg'][1:]} (found {_shown(item['input'])}){_meaning(model, place)}"
    )


def _resolved(loc: Place) -> tuple[Place, type[BaseModel]]:
    """The place in the document, without the words that pydantic adds, and the model whose key it is."""
    place: list[str | int] = []
    model: type[BaseModel] = Scenario
    annotation: Any = Scenario
    for part in loc:
        options = list(_models(annotation))
        if isinstance(part, int):
            place.append(part)
            annotation = _item(annotation)
            continue
        tagged = next((m for m in options if _kind(m) == part), None) if len(options) > 1 else None
        if tagged is not None:
            annotation = tagged
            continue
        if len(options) == 1 and part in options[0].model_fields:
            model = options[0]
            annotation = model.model_fields[part].annotation
            place.append(part)
            continue
        if len(options) == 1:
            model = options[0]
        break
    return tuple(place), model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def _item(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        return _item(typing.get_args(annotation)[0])
    arguments = typing.get_args(annotation)
    return arguments[0] if typing.get_origin(annotation) is tuple and arguments else None


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(field.default) if field else ""


def _is_leaf_value(loc: Place) -> bool:
    return "config" in loc and "value" in loc


def _meaning(model: type[BaseModel], place: Place) -> str:
    words = [part for part in place if isinstance(part, str)]
    field = model.model_fields.get(words[-1]) if words else None
    return f": {field.description}" if field and field.description else ""


def _with_lines(sentence: str, lines: Lines) -> str:
    """The sentence with the lines of the places that it names: changes[2] becomes changes[2] (line 14)."""

    def numbered(match: re.Match[str]) -> str:
        parts = re.findall(r"[A-Za-z_]+|\d+", match[0])
        line = lines.get(tuple(int(part) if part.isdigit() else part for part in parts))
        return f"{match[0]} (line {line})" if line else match[0]

    return _PLACE.sub(numbered, sentence)


def _line_of(place: Place, lines: Lines) -> int:
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 0)


def _spelled(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{type(value).__name__} {_shown(value)}"
