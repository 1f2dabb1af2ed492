"""Path patterns: which leaves somebody asks for. Owns the syntax; holds no data.

A pattern is an instance identifier in which keys may be left out or be `*`, a name may be `*`, and the
module's name may be left out: `/interfaces/interface/oper-status`, `/*/interface[name='eth0']`. It matches
the leaves at and below what it names. `/` matches everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from domain_twin.errors import NotFound
from domain_twin.yang.paths import quote

_NAME = r"[A-Za-z_][\w.-]*"
_STEP = re.compile(rf"/(?:({_NAME}):)?({_NAME}|\*)")
_KEY = re.compile(rf"""\[\s*({_NAME}|\.)\s*=\s*(?:'([^']*)'|"([^"]*)"|(\*))\s*\]""")
_LITERAL = r"""(?:'[^']*'|"[^"]*"|concat\([^\]]*\))"""
_ANY_KEYS = rf"(?:\[(?:[A-Za-z_.][\w.:-]*={_LITERAL}|[0-9]+)\])*"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A parsed pattern. `regex` is in the syntax that Python and DuckDB (RE2) share."""

    text: str
    regex: str
    exact: bool  # names one subtree: no wildcard, no name without its module
    _compiled: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read a pattern. Raises NotFound that names the place where it stops making sense."""
        parts: list[str] = []
        exact = True
        at = 0
        while at < len(text) and text != "/":
            step = _STEP.match(text, at)
            if step is None:
                raise _unreadable(text, at)
            module, name = step.groups()
            exact = exact and name != "*" and (module is not None or at > 0)
            parts.append("/" + _name(module, name))
            at = step.end()
            while at < len(text) and text[at] == "[":
                key = _KEY.match(text, at)
                if key is None:
                    raise _unreadable(text, at)
                value = key[2] if key[2] is not None else key[3]
                any_value = value is None or value == "*"
                exact = exact and not any_value
                literal = _LITERAL if any_value else re.escape(quote(value))
                parts.append(rf"{_ANY_KEYS}\[{re.escape(key[1])}={literal}\]")
                at = key.end()
            parts.append(_ANY_KEYS)
        regex = f"^{''.join(parts)}(?:/.*)?$"
        return cls(text, regex, exact, re.compile(regex, re.DOTALL))

    def matches(self, path: str) -> bool:
        """Whether the leaf at `path` is asked for."""
        return self._compiled.match(path) is not None


def _name(module: str | None, name: str) -> str:
    if name == "*":
        return r"[^/\[]+"
    prefix = rf"{re.escape(module)}:" if module else r"(?:[A-Za-z_][\w.-]*:)?"
    return prefix + re.escape(name)


def _unreadable(text: str, at: int) -> NotFound:
    return NotFound(
        f"path pattern {text!r} stops making sense at character {at + 1} ({text[at : at + 20]!r}); accepted"
        " is /[module:]name[key='value']/…, where names and values may be * and keys may be left out"
    )
