"""Instance identifiers and character data as XML has them (RFC 7950 9.13). No I/O."""

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from domain_twin.emulator.device_schema import Step, format_path, quoted

_UNPRINTABLE = {code: None for code in range(32) if chr(code) not in "\t\n\r"}


def printable(text: str) -> str:
    """`text` as XML character data; characters that XML cannot hold are left out."""
    return escape(text.translate(_UNPRINTABLE))


def path_element(name: str, steps: Sequence[Step]) -> str:
    """An element that holds the instance identifier of `steps`: every name prefixed, prefixes declared."""
    prefixes = {node.module.prefix: node.module.namespace for node, _ in steps}
    declared = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in prefixes.items())
    text = ""
    for node, keys in steps:
        prefix = node.module.prefix
        text += f"/{prefix}:{node.name}"
        for key, value in zip(node.keys, keys or (), strict=False):
            text += f"[{prefix}:{key}={quoted(value)}]"
    return f"<{name}{declared}>{printable(text or '/')}</{name}>"


def leaf_list_path(steps: Sequence[Step], text: str) -> str:
    """Canonical path of one value of a leaf-list."""
    return f"{format_path(steps)}[.={quoted(text)}]"
