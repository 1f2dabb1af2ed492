"""Parse GML as tools write it: nested lists of `key value`, each value a number, a "string" or a [list].

Keeps numbers as text and every key as a list of its values; knows nothing of what they mean. (M. Himsolt,
"GML: A portable graph file format", 1997.)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

from domain_twin.errors import ConfigError

__all__ = ["Tree", "parse_gml"]

Tree: TypeAlias = dict[str, list[Any]]
"""Values by key, in order: texts and trees."""

_TOKEN = re.compile(r'"[^"\n]*"|\[|\]|[^\s\[\]"]+|\n')


def parse_gml(path: Path, text: str) -> Tree:
    """Parse a file's text; raises ConfigError that names the file and the line."""
    root: Tree = {}
    line = 1
    stack: list[Tree] = [root]
    key: str | None = None
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token == "]":
            if key is not None or len(stack) == 1:
                raise ConfigError(f"{path}, line {line}: a ']' that closes nothing, or follows a key")
            stack.pop()
        elif key is None:
            if not re.fullmatch(r"[A-Za-z_]\w*", token):
                raise ConfigError(f"{path}, line {line}: a key is expected, not {token[:40]!r}")
            key = token
        elif token == "[":
            inner: Tree = {}
            stack[-1].setdefault(key, []).append(inner)
            stack.append(inner)
            key = None
        else:
            stack[-1].setdefault(key, []).append(token.strip('"'))
            key = None
    if len(stack) > 1 or key is not None:
        raise ConfigError(f"{path}, line {line}: ends in the middle of a list; the file is cut short")
    return root
