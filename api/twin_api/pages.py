"""The index, and the interactive API documents: swagger-ui's own files, from this process alone.

Nothing is loaded from another host, and the pages' policy (CSP) forbids it: no inline script, no other
origin. Which documents there are comes in as an argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["DOCS_POLICY", "pages"]

DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""swagger-ui sets styles on elements, and has its icons as data."""
_FILES: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui-standalone-preset.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Twins as a service</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="icon" href="/docs/favicon-32x32.png"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/swagger-ui-standalone-preset.js"></script>
<script src="/docs/start.js"></script></body></html>
"""


def pages(documents: Sequence[str], faces: Mapping[str, str], *, docs: bool) -> list[Route]:
    """The index at `/`, of `faces` (names and paths), and `/docs` over `documents` (their paths)."""
    listed = {"name": "FedTwin, twins as a service", **({"docs": "/docs"} if docs else {}), **faces}
    index = json.dumps({**listed, "openapi": list(documents)}, indent=2).encode()

    async def root(_: Request) -> Response:
        return Response(index, media_type="application/json")

    routes = [Route("/", root, methods=["GET"])]
    if not docs:
        return routes
    choices = [{"url": path, "name": path.rpartition("/")[2].removesuffix(".json")} for path in documents]
    start = (
        f"SwaggerUIBundle({{urls: {json.dumps(choices)}, dom_id: '#swagger-ui', deepLinking: true,"
        " presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], layout: 'StandaloneLayout',"
        " validatorUrl: null, queryConfigEnabled: false, persistAuthorization: false});\n"
    ).encode()

    async def page(_: Request) -> Response:
        return _shown(_PAGE.encode(), "text/html; charset=utf-8")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "start.js":
            return _shown(start, "text/javascript; charset=utf-8")
        if name not in _FILES:
            raise HTTPException(404, "no such page")
        return _shown(_content(name), _FILES[name], "public, max-age=86400")

    routes.append(Route("/docs", page, methods=["GET"]))
    routes.append(Route("/docs/{name}", file, methods=["GET"]))
    return routes


def _shown(body: bytes, content_type: str, cache_control: str = "no-cache") -> Response:
    headers = {"content-security-policy": DOCS_POLICY, "cache-control": cache_control}
    return Response(body, headers={**headers, "content-type": content_type})


@cache
def _content(name: str) -> bytes:
    vendored = files("swagger_ui_bundle") / "vendor"
    folder = next(each for each in vendored.iterdir() if each.name.startswith("swagger-ui"))
    return (folder / name).read_bytes()
