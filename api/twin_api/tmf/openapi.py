"""OpenAPI documents of the APIs, made from the same tables that the engine goes by."""

from __future__ import annotations

from typing import Any

from twin_api.tmf.table import Api

__all__ = ["document"]


def document(api: Api, public_address: str) -> dict[str, Any]:
    """The OpenAPI 3.0 document of an API."""
    return {"openapi": "3.0.3", "info": {"title": api.title, "version": api.version}, "paths": {}}
