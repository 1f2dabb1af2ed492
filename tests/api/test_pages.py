"""The index and the interactive documents: from this process alone, under a policy that allows no other."""

from __future__ import annotations

import re
from pathlib import Path

from partners_http import client, running
from token_parts import api_config

from twin_api.pages import pages


async def test_the_index_lists_what_there_is(tmp_path: Path) -> None:
    config, _ = api_config(tmp_path)
    async with running(config) as at, client(at) as http:
        index = (await http.get("/")).json()

    assert index["docs"] == "/docs"
    assert index["serviceOrdering"] == "/tmf-api/serviceOrdering/v4"
    assert index["sparql"] == "/sparql"


async def test_the_documents_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    config, _ = api_config(tmp_path)
    async with running(config) as at, client(at) as http:
        page = await http.get("/docs")
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = {path: await http.get(path) for path in linked}
        missing = [
            (await http.get(f"/docs/{name}")).status_code for name in ("x.js", "..%2f__init__.py", "a/b")
        ]

    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert linked
    assert all(path.startswith("/docs/") for path in linked)
    assert not re.search(r"<script>|onload|javascript:|style=", page.text)
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(linked, 200)
    assert answers["/docs/swagger-ui-bundle.js"].headers["content-type"].startswith("text/javascript")
    assert b"validatorUrl: null" in answers["/docs/start.js"].content
    assert missing == [404, 404, 404]


async def test_the_documents_can_be_left_out(tmp_path: Path) -> None:
    config, _ = api_config(tmp_path, docs=False)
    async with running(config) as at, client(at) as http:
        assert (await http.get("/docs")).status_code == 404
        assert "docs" not in (await http.get("/")).json()


def test_documents_are_offered_by_name() -> None:
    assert [route.path for route in pages(["/openapi/a.json"], {}, docs=True)] == [
        "/",
        "/docs",
        "/docs/{name}",
    ]
