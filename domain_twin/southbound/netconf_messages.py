"""NETCONF messages as elements: envelope, hello, errors, and parsing. Refuses DTDs and boundless input.

Every octet that a device sends is parsed here and nowhere else. libxml2's own limits (depth 256, 10 MB of
text in one node) stay on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lxml import etree

from domain_twin.errors import OperationRejected

__all__ = [
    "BASE",
    "BASE_1_0",
    "BASE_1_1",
    "LARGEST_MESSAGE",
    "NOTIFICATION",
    "MessageParser",
    "check_hello",
    "hello",
    "parse_xml",
    "read_hello",
    "refusals",
    "request",
]

BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
NOTIFICATION = "urn:ietf:params:xml:ns:netconf:notification:1.0"
BASE_1_0 = "urn:ietf:params:netconf:base:1.0"
BASE_1_1 = "urn:ietf:params:netconf:base:1.1"

LARGEST_MESSAGE = 64 * 1024 * 1024  # octets of one message; a device that sends more is cut off
_DEFAULT: Any = {None: BASE}
_PROLOG = 4096  # octets in which a document type is looked for before the message is complete


class MessageParser:
    """Parses one message after another, piece by piece. Raises ValueError for what it refuses."""

    def __init__(self) -> None:
        self._parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
        )
        self._start = b""
        self._octets = 0

    def feed(self, piece: bytes) -> None:
        """Take in a piece of the present message."""
        self._octets += len(piece)
        if len(self._start) < _PROLOG:
            self._start += piece[: _PROLOG - len(self._start)]
            if b"<!DOCTYPE" in self._start:
                raise ValueError("a NETCONF message with a document type declaration (RFC 6241 3)")
        try:
            self._parser.feed(piece)
        except etree.XMLSyntaxError as error:
            raise ValueError(f"not well-formed XML: {error}") from error

    def end(self) -> tuple[Any, int]:
        """The root element of the message that is complete now, and its size in octets."""
        size, self._octets, self._start = self._octets, 0, b""
        try:
            root = self._parser.close()
        except etree.XMLSyntaxError as error:
            raise ValueError(f"not well-formed XML: {error}") from error
        document: Any = root.getroottree().docinfo
        if document.doctype:  # whatever the length or encoding of what stands before it
            raise ValueError("a NETCONF message with a document type declaration (RFC 6241 3)")
        return root, size


def parse_xml(text: str | bytes) -> Any:
    """The root element of a message. Raises ValueError for what is no XML, or has a DTD (RFC 6241 3)."""
    parser = MessageParser()
    parser.feed(text.encode() if isinstance(text, str) else text)
    return parser.end()[0]


def request(message_id: str, operation: Any) -> str:
    """An rpc with `operation`."""
    envelope = etree.Element(f"{{{BASE}}}rpc", {"message-id": message_id}, nsmap=_DEFAULT)
    envelope.append(operation)
    return str(etree.tostring(envelope, encoding="unicode"))


def hello() -> str:
    """Our hello: base 1.0 and 1.1 (RFC 6241 8.1)."""
    root = etree.Element(f"{{{BASE}}}hello", nsmap=_DEFAULT)
    held = etree.SubElement(root, f"{{{BASE}}}capabilities")
    for uri in (BASE_1_0, BASE_1_1):
        etree.SubElement(held, f"{{{BASE}}}capability").text = uri
    return str(etree.tostring(root, encoding="unicode"))


def read_hello(root: Any) -> tuple[tuple[str, ...], str]:
    """Capabilities and session-id of a server's hello. Raises ValueError for any other message."""
    if root.tag != f"{{{BASE}}}hello":
        raise ValueError(f"{etree.QName(root).localname!r} instead of a hello")
    found = tuple((element.text or "").strip() for element in root.iter(f"{{{BASE}}}capability"))
    return found, (root.findtext(f"{{{BASE}}}session-id") or "").strip()


def check_hello(where: str, capabilities: Iterable[str], session_id: str) -> None:
    """Raise OperationRejected where a hello is not that of a NETCONF server (RFC 6241 8.1)."""
    if not {BASE_1_0, BASE_1_1} & set(capabilities):
        raise OperationRejected(
            f"{where}: the hello has neither base:1.0 nor base:1.1; see that a NETCONF server listens there"
        )
    if not session_id.isascii() or not session_id.isdigit() or not 0 < int(session_id) < 2**32:
        raise OperationRejected(
            f"{where}: the hello has no session-id ({session_id[:20]!r}); see that a NETCONF server listens"
            " there"
        )


def refusals(reply: Any) -> list[str]:
    """The rpc-errors of a reply in words, warnings left out."""
    errors = reply.iterfind(f"{{{BASE}}}rpc-error")
    return [_spell(error) for error in errors if _severity(error) != "warning"]


def _severity(error: Any) -> str:
    return (error.findtext(f"{{{BASE}}}error-severity") or "error").strip()


def _spell(error: Any) -> str:
    """An rpc-error in words: tag, path, message."""
    found = {etree.QName(part).localname: (part.text or "").strip() for part in error}
    words = [found.get("error-tag", "error"), found.get("error-path", ""), found.get("error-message", "")]
    return " ".join(word for word in words if word)
