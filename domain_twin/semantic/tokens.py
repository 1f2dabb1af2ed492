"""The words of a SPARQL query: each with its kind, its place and one spelling. Owns the query's normal form.

Two parsers that read one text differently are how a guard is got around. What comes out of here leaves no
room for that: no comments, no prefixes, no relative IRIs, no escapes but five in strings. Refused are escapes
outside of strings and IRIs, characters that no IRI has, and what is not of SPARQL 1.1 (quoted triples).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from domain_twin.errors import ContractError
from domain_twin.semantic.names import AUTHORITY, NDT

__all__ = ["PREFIXES", "Token", "place", "tokens"]

PREFIXES: Final[Mapping[str, str]] = {
    "ndt": NDT,
    "owl": "http://www.w3.org/2002/07/owl#",
    "prov": "http://www.w3.org/ns/prov#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
"""Known without a PREFIX line; a query's own declaration goes before."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word. `kind`: IRI, VAR, STRING, INTEGER, NUMBER, SIGNED, BNODE, LANGTAG, WORD, or a sign itself."""

    kind: str
    text: str
    start: int
    """Offset in the text that was written."""


# SPARQL 1.1 19.8, productions 164 to 173.
_BASE: Final = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f"
    "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_FIRST: Final = f"{_BASE}_"
_ANY: Final = f"{_FIRST}\\-0-9\u00b7\u0300-\u036f\u203f-\u2040"
_ESCAPED: Final = r"%[0-9A-Fa-f]{2}|\\[_~.\-!$&'()*+,;=/?#@%]"
_PREFIX: Final = f"[{_BASE}](?:[{_ANY}.]*[{_ANY}])?"
_LOCAL: Final = f"(?:[{_FIRST}:0-9]|{_ESCAPED})(?:(?:[{_ANY}.:]|{_ESCAPED})*(?:[{_ANY}:]|{_ESCAPED}))?"
_NUMBER: Final = r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)[eE][+-]?[0-9]+|[0-9]*\.[0-9]+|[0-9]+"

_SCAN: Final = re.compile(
    rf"""
    (?P<space>(?:[ \t\r\n]+|\#[^\r\n]*)+)
  | (?P<quoted><<)
  | (?P<iri><(?:[^<>"{{}}|^`\\\x00-\x20]|\\u[0-9A-Fa-f]{{4}}|\\U[0-9A-Fa-f]{{8}})*>)
  | (?P<long>\"\"\"(?:"{{0,2}}(?:[^"\\]|\\.))*\"\"\"|'''(?:'{{0,2}}(?:[^'\\]|\\.))*''')
  | (?P<string>"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
  | (?P<var>[?$][{_FIRST}0-9][{_FIRST}0-9\u00b7\u0300-\u036f\u203f-\u2040]*)
  | (?P<bnode>_:[{_FIRST}0-9](?:[{_ANY}.]*[{_ANY}])?)
  | (?P<name>(?P<prefix>{_PREFIX})?:(?P<local>{_LOCAL})?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[+-]?(?:{_NUMBER}))
  | (?P<lang>@[a-zA-Z]+(?:-[a-zA-Z0-9]+)*)
  | (?P<sign>\^\^|&&|\|\||!=|<=|>=|[{{}}()\[\];,.=<>+\-*/|^?!])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_PLAIN: Final = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_IN_STRING: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NO_IRI: Final = re.compile(r"[<>\"{}|^`\\\x00-\x20]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def place(text: str, offset: int) -> str:
    """Where in a query something is, in words: `line 3, column 14`."""
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - before.rfind(chr(10))}"


def tokens(text: str) -> list[Token]:
    """The words after the prologue (BASE and PREFIX), IRIs in full. Raises ContractError with the place."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._prefixes = dict(PREFIXES)
        self._base = f"{AUTHORITY}/"
        self._found: list[Token] = []

    def read(self) -> list[Token]:
        scan, text, found, at = _SCAN.match, self._text, self._found, 0
        while at < len(text):
            match = scan(text, at)
            if match is None:
                raise self._unreadable(at)
            kind = match.lastgroup
            if kind in ("local", "prefix"):
                kind = "name"
            if kind == "word" and match.group().upper() in ("PREFIX", "BASE") and not found:
                at = self._declaration(match.group().upper(), match.end())
                continue
            if kind != "space":
                assert kind is not None
                self._take(kind, match)
            at = match.end()
        return found

    def _take(self, kind: str, match: re.Match[str]) -> None:
        written, start, found = match.group(), match.start(), self._found
        match kind:
            case "word":
                found.append(Token("WORD", written, start))
            case "var":
                found.append(Token("VAR", f"?{written[1:]}", start))
            case "iri":
                found.append(Token("IRI", f"<{self._iri(written[1:-1], start)}>", start))
            case "name":
                found.append(Token("IRI", f"<{self._full(match)}>", start))
            case "string" | "long":
                found.append(Token("STRING", self._string(written, 3 if kind == "long" else 1, start), start))
            case "number":
                whole = "INTEGER" if written.isdigit() else "NUMBER"
                found.append(Token("SIGNED" if written[0] in "+-" else whole, written, start))
            case "bnode":
                found.append(Token("BNODE", written, start))
            case "lang":
                found.append(Token("LANGTAG", written, start))
            case "quoted":
                raise self._error(start, "'<<' begins a quoted triple, which SPARQL 1.1 does not have")
            case "sign" if written in ")]" and found and found[-1].text == {")": "(", "]": "["}[written]:
                opened = found.pop()  # productions 161 and 163: these pairs are one word each
                nil = written == ")"
                found.append(Token("NIL" if nil else "ANON", opened.text + written, opened.start))
            case _:
                found.append(Token(written, written, start))

    def _declaration(self, word: str, at: int) -> int:
        """Take in what follows PREFIX or BASE; the offset behind it."""
        if word == "PREFIX":
            name = self._next(at)
            if name is None or name.lastgroup not in ("name", "prefix") or name.group("local"):
                raise self._error(
                    name.start() if name else at, "expected a prefix and a colon after PREFIX, such as `ndt:`"
                )
            prefix, at = name.group("prefix") or "", name.end()
        iri = self._next(at)
        if iri is None or iri.lastgroup != "iri":
            where = iri.start() if iri else at
            raise self._error(where, f"expected an IRI in angle brackets after {word}, such as `<http://…#>`")
        value = self._iri(iri.group()[1:-1], iri.start())
        if word == "PREFIX":
            self._prefixes[prefix] = value
        else:
            self._base = value
        return iri.end()

    def _next(self, at: int) -> re.Match[str] | None:
        match = _SCAN.match(self._text, at)
        if match and match.lastgroup == "space":
            match = _SCAN.match(self._text, match.end())
        return match

    def _full(self, match: re.Match[str]) -> str:
        prefix = match.group("prefix") or ""
        namespace = self._prefixes.get(prefix)
        if namespace is None:
            known = ", ".join(f"{name}:" for name in sorted(self._prefixes))
            raise self._error(
                match.start(), f"prefix {prefix + ':'!r} is not declared; add a PREFIX line. Known: {known}"
            )
        return namespace + re.sub(r"\\(.)", r"\1", match.group("local") or "")

    def _iri(self, written: str, start: int) -> str:
        iri = self._unescaped(written, start) if "\\" in written else written
        if not _SCHEME.match(iri):
            iri = urljoin(self._base, iri) if iri else self._base
            if not _SCHEME.match(iri):
                raise self._error(start, f"<{written}> is relative to {self._base}, which is no full IRI")
        if found := _NO_IRI.search(iri):
            raise self._error(start, f"an IRI cannot hold {found.group()!r}; write it percent-encoded")
        return iri

    def _string(self, written: str, quotes: int, start: int) -> str:
        value = self._unescaped(written[quotes:-quotes], start)
        if "\x00" in value:
            raise self._error(start, "a string cannot hold the character U+0000")
        return '"' + "".join(_IN_STRING.get(char, char) for char in value) + '"'

    def _unescaped(self, written: str, start: int) -> str:
        def one(match: re.Match[str]) -> str:
            code = match.group(1) or match.group(2)
            if not code:
                if match.group(3) not in _PLAIN:
                    raise self._error(
                        start, f"strings have no escape {match.group()!r}; a backslash is `\\\\`"
                    )
                return _PLAIN[match.group(3)]
            point = int(code, 16)
            if 0xD800 <= point < 0xE000 or point > 0x10FFFF:
                raise self._error(start, f"{match.group()} is not a character")
            return chr(point)

        value = _ESCAPE.sub(one, written) if "\\" in written else written
        if any(0xD800 <= ord(char) < 0xE000 for char in value):
            raise self._error(start, "half a surrogate pair is not a character")
        return value

    def _unreadable(self, at: int) -> ContractError:
        char = self._text[at]
        match char:
            case '"' | "'":
                return self._error(at, f"the string that begins with {char} here has no end on this line")
            case "\\":
                return self._error(at, "an escape outside of a string or an IRI; write the character itself")
            case _:
                return self._error(at, f"{char!r} begins nothing in SPARQL 1.1")

    def _error(self, at: int, what: str) -> ContractError:
        return ContractError(f"query, {place(self._text, at)}: {what}")
