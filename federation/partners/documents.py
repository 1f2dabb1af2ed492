"""JSON that comes from outside: read with limits, merged by RFC 7396. Refuses what two readers might take
differently: members that come twice, numbers that JSON has not, text that is not UTF-8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from domain_twin.errors import ContractError, OverCapacity

__all__ = ["MAX_BYTES", "MAX_DEPTH", "merge", "parse"]

MAX_BYTES = 1_000_000
"""With what surrounds it, a message of at most 1 MiB."""
MAX_DEPTH = 64


def parse(data: bytes, what: str, *, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The object that `data` is; `what` names it in errors.

    Raises ContractError, and OverCapacity for more than MAX_BYTES.
    """
    if len(data) > MAX_BYTES:
        raise OverCapacity(f"{what}: {len(data)} bytes, {MAX_BYTES} at most")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_constant)
    except RecursionError:
        raise _too_deep(what, max_depth) from None
    except UnicodeDecodeError as error:
        raise ContractError(f"{what}: not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ContractError(
            f"{what}: not JSON: {error.msg}, line {error.lineno} column {error.colno}"
        ) from None
    except ValueError as error:
        raise ContractError(f"{what}: {error}") from None
    if not isinstance(value, dict):
        raise ContractError(f"{what}: a JSON object is needed, this is {_name(value)}")
    _check_depth(value, what, max_depth)
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ContractError(f"{what}: holds half of a surrogate pair, which is no character") from None
    except ValueError:
        raise ContractError(f"{what}: holds a number that is too large") from None
    return value


def merge(target: Any, patch: Any) -> Any:
    """What a merge patch makes of `target` (RFC 7396, section 2); neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the member {twice[:64]!r} comes twice in one object")
    return members


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _check_depth(value: Any, what: str, most: int) -> None:
    level = [value]
    for _ in range(most):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep(what, most)


def _too_deep(what: str, most: int) -> ContractError:
    return ContractError(f"{what}: nested deeper than {most} levels")


def _name(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
