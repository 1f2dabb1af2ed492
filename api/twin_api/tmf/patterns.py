"""Regular expressions that a client sends, matched in time linear in the text: no expression is a bomb.

The engine is Rust's `regex`, which pydantic brings along: finite automata, bounded in memory, without
look-around and back-references, whose cost no text makes exponential.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

__all__ = ["MAX_PATTERN", "compile_pattern"]

MAX_PATTERN: Final = 128
_MOST_REPEATED: Final = 100
_MOST_CLASSES: Final = 20  # a class of Unicode's takes 2 ms to compile
_COUNT = re.compile(r"\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}")
_CLASS = re.compile(r"\\[wWsSdDpPbB]|\(\?[a-zA-Z]*i|\[:")


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a text holds something that fits. Raises ValueError, in words, for what is not accepted."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a regular expression has at most {MAX_PATTERN} characters")
    times = 1
    for low, _, high in _COUNT.findall(pattern):
        times *= max(int((low or "1")[:9]), int((high or "1")[:9]), 1)
    if times > _MOST_REPEATED:  # a counted repetition is written out: compiling it would cost the time
        raise ValueError(f"counted repetitions may come to {_MOST_REPEATED} at most, all multiplied")
    if times * len(_CLASS.findall(pattern)) > _MOST_CLASSES:
        raise ValueError(rf"classes such as \w may come to {_MOST_CLASSES} at most, times their repetitions")
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        raise ValueError(
            "the regular expression is not accepted; it has the syntax of Rust's `regex`:"
            " no look-around, no back-references"
        ) from None
    return validator.isinstance_python
