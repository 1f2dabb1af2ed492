"""ETags and conditions (RFC 9110 13): a resource's tag is its version."""

from __future__ import annotations

import re
from typing import Final

from twin_api.tmf.errors import Refused

__all__ = ["etag", "matches", "named_version"]

_TAG: Final = re.compile(r'(W/)?"([^"]*)"')
_VERSION: Final = re.compile(r"[0-9]{1,18}")


def etag(version: int) -> str:
    """The tag of a version."""
    return f'"{version}"'


def matches(header: str, version: int) -> bool:
    """Whether If-None-Match names this version, weakly compared."""
    return header.strip() == "*" or any(tag == str(version) for _, tag in _TAG.findall(header))


def named_version(header: str | None, held: int) -> int:
    """The version that If-Match names, strongly compared; 0: any. Raises Refused (412).

    A version newer than the one held here is for the broker to judge: another process may have told it.
    """
    if header is None or header.strip() == "*":
        return 0
    tags = [int(tag) for weak, tag in _TAG.findall(header) if not weak and _VERSION.fullmatch(tag)]
    if held in tags:
        return held
    newer = [tag for tag in tags if tag > held]
    if not newer:
        raise Refused(412, "the resource has changed since; read it again", code="staleVersion")
    return max(newer)
