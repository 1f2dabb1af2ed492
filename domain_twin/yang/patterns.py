"""XSD regular expressions, YANG's pattern language (RFC 7950 9.4.5), as Python's. Owns the translation.

Differences that matter: XSD patterns match the whole value; `^` and `$` are ordinary; `.` excludes line ends;
`\\w` excludes the underscore and all else that is punctuation, separator or unassigned; `\\i` and `\\c` are
XML name characters; `\\p{Lu}` is a Unicode category; `[a-z-[aeiou]]` subtracts.

Refused, with SchemaError: Unicode blocks other than IsBasicLatin and IsLatin-1Supplement, and subtraction
nested in a subtraction. No published IETF, OpenConfig or 3GPP module uses them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

from domain_twin.errors import SchemaError

__all__ = ["compile_pattern"]

# XML 1.0, 2nd edition, appendix B, to which XSD 1.0 refers: letters, and what else may follow in a name.
_XML_LETTERS = ("Ll", "Lu", "Lo", "Lt", "Nl")
_XML_OTHERS = ("Mc", "Me", "Mn", "Lm", "Nd")
_BLOCKS = {"IsBasicLatin": "\x00-\x7f", "IsLatin-1Supplement": "\x80-\xff"}
_ESCAPED = {"n": "\\n", "r": "\\r", "t": "\\t"}


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The Python expression to use with `fullmatch`. Raises SchemaError naming the pattern and the place."""
    translated = _Translator(pattern).translate()
    try:
        return re.compile(translated)
    except (re.error, OverflowError) as error:
        raise SchemaError(f"pattern {pattern!r} cannot be compiled: {error}") from error


class _Translator:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def translate(self) -> str:
        out: list[str] = []
        while (char := self._next()) is not None:
            if char == "[":
                out.append(self._char_class())
            elif char == "\\":
                inside, negated = self._escape()
                out.append(f"[{'^' if negated else ''}{inside}]")
            elif char == ".":
                out.append(r"[^\n\r]")
            elif char in "^$":
                out.append("\\" + char)
            elif char == "(":
                out.append("(?:")
                if self._peek() == "?":
                    raise self._refuse("'(?' is not an XSD group")
            elif char in "*+?}":
                out.append(char)
                if self._peek() in {"?", "+"}:
                    raise self._refuse("lazy and possessive quantifiers are not in XSD")
            elif char == "{":
                out.append(char)
            else:
                out.append(char)
        return "".join(out)

    def _next(self) -> str | None:
        if self.at >= len(self.pattern):
            return None
        self.at += 1
        return self.pattern[self.at - 1]

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _char_class(self) -> str:
        body, negated, minus = self._class_body(nested=False)
        expression = f"[{'^' if negated else ''}{body}]"
        return f"(?:(?!{minus}){expression})" if minus else expression

    def _class_body(self, *, nested: bool) -> tuple[str, bool, str]:
        negated = self._peek() == "^"
        self.at += negated
        out: list[str] = []
        negations: list[str] = []
        while True:
            char = self._next()
            if char is None:
                raise self._refuse("the character class is not closed")
            if char == "]" and (out or negations):
                return self._close(out, negations, negated)
            if char == "-" and self._peek() == "[":
                if nested:
                    raise self._refuse("a subtraction within a subtraction is not supported")
                self.at += 1
                body, inner_negated, _ = self._class_body(nested=True)
                if self._next() != "]":
                    raise self._refuse("a subtraction must end its character class")
                inner = f"[{'^' if inner_negated else ''}{body}]"
                text, outer_negated, _ = self._close(out, negations, negated)
                return text, outer_negated, inner
            if char == "\\":
                inside, complement = self._escape()
                (negations if complement else out).append(inside)
            elif char == "-" and out and self._peek() not in {"]", ""}:
                out.append("-")
            elif char in "-[]^&~|":
                out.append("\\" + char)
            else:
                out.append(char)

    def _close(self, out: list[str], negations: list[str], negated: bool) -> tuple[str, bool, str]:
        # A complement within a class has no spelling in Python's classes but as explicit ranges.
        return "".join(out + [_complement(item) for item in negations]), negated, ""

    def _escape(self) -> tuple[str, bool]:
        """What a backslash means, as the inside of a class, and whether it is that class's complement."""
        char = self._next()
        if char is None:
            raise self._refuse("a backslash at the end")
        if char in _ESCAPED:
            return _ESCAPED[char], False
        if char in "pP":
            return self._property(), char == "P"
        if char == "s":
            return " \\t\\n\\r", False
        if char == "S":
            return "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f!-\\U0010ffff", False
        if char in "dD":
            return _category("Nd"), char == "D"
        if char == "w":
            return "".join(_category(c) for c in "LMNS"), False
        if char == "W":  # XSD 1.0 F.1.1: punctuation, separators and "other"
            return "".join(_category(c) for c in "PZC"), False
        if char in "iI":
            return _xml_name_start(), char == "I"
        if char in "cC":
            return _xml_name(), char == "C"
        if char in "\\|.-^?*+{}()[]$/@#,:;=!\"'%&<>~` _":
            return "\\" + char if char not in " _" else char, False
        raise self._refuse(f"\\{char} is not an XSD escape")

    def _property(self) -> str:
        end = self.pattern.find("}", self.at)
        if self._peek() != "{" or end < 0:
            raise self._refuse("\\p needs a category, such as \\p{L}")
        name = self.pattern[self.at + 1 : end]
        self.at = end + 1
        if name in _BLOCKS:
            return _BLOCKS[name]
        inside = _category(name)
        if not inside:
            raise self._refuse(
                f"\\p{{{name}}} is not supported: neither a Unicode category nor a known block"
            )
        return inside

    def _refuse(self, reason: str) -> SchemaError:
        return SchemaError(f"pattern {self.pattern!r}, character {self.at}: {reason}")


@cache
def _categories() -> dict[str, list[tuple[int, int]]]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    start, current = 0, unicodedata.category(chr(0))
    for code in range(1, sys.maxunicode + 2):
        category = unicodedata.category(chr(code)) if code <= sys.maxunicode else ""
        if category != current:
            ranges.setdefault(current, []).append((start, code - 1))
            start, current = code, category
    return ranges


@cache
def _category(name: str) -> str:
    """Code points of a category (`Lu`) or a group of them (`L`) as the inside of a character class."""
    spans = sorted(
        span
        for category, found in _categories().items()
        if category.startswith(name) and name
        for span in found
    )
    return _spell(_merge(spans))


def _xml_name_start() -> str:
    return ":_" + "".join(map(_category, _XML_LETTERS))


def _xml_name() -> str:
    return _xml_name_start() + "\\-.\u00b7" + "".join(map(_category, _XML_OTHERS))


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _spell(spans: list[tuple[int, int]]) -> str:
    return "".join(rf"\U{low:08x}" if low == high else rf"\U{low:08x}-\U{high:08x}" for low, high in spans)


@cache
def _complement(inside: str) -> str:
    """The inside of the class of everything that is not in the class `inside`."""
    inner = re.compile(f"[{inside}]")
    spans: list[tuple[int, int]] = []
    start = -1
    for code in range(sys.maxunicode + 2):
        out = code <= sys.maxunicode and not inner.match(chr(code))
        if out and start < 0:
            start = code
        elif not out and start >= 0:
            spans.append((start, code - 1))
            start = -1
    return _spell(spans)
