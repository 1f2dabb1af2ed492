"""Words that the shell completes: points, services and elements of the twin asked. Never fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from federation.client import TwinClient

_PATIENCE_S = 2.0


def points(context: click.Context, incomplete: str) -> list[str]:
    """End points and border points, as `DOMAIN/NAME`."""

    async def names(twin: TwinClient) -> list[str]:
        return [point for view in await twin.views() for point in view.points]

    return _complete(context, incomplete, names)


def services(context: click.Context, incomplete: str) -> list[str]:
    """Services by name."""

    async def names(twin: TwinClient) -> list[str]:
        return [status.service.name for status in (await twin.services()).statuses]

    return _complete(context, incomplete, names)


def elements(context: click.Context, incomplete: str) -> list[str]:
    """Ids of elements."""

    async def names(twin: TwinClient) -> list[str]:
        return [element.id for element in await twin.elements()]

    return _complete(context, incomplete, names)


def _complete(
    context: click.Context, incomplete: str, names: Callable[[TwinClient], Awaitable[list[str]]]
) -> list[str]:
    import asyncio

    from domain_twin.errors import TwinError

    async def found() -> list[str]:
        from federation.client import TwinClient

        async with asyncio.timeout(_PATIENCE_S):
            async with TwinClient.connect(context.params.get("at") or "") as twin:
                return await names(twin)

    try:
        return sorted(name for name in asyncio.run(found()) if name.startswith(incomplete))
    except (TwinError, TimeoutError):
        return []
