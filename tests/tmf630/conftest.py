"""The server that the TMF630 suite is held to: the one at --base-url, else our own, started here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tmf630_checks import Check, every_check
from tmf630_server import OwnServer, own_server
from tmf630_suite import Suite
from tmf630_table import Target, targets
from tmf_contract import check_response

THOROUGH = (
    "serviceSpecification",
    "serviceOrder",
    "service",
    "resource",
    "serviceTest",
    "alarm",
    "ackAlarms",
)
ESSENTIAL = (
    *("what_is_made_is_there", "a_filter_finds_only_what_it_says", "what_is_mandatory_is_missing"),
    "a_key_makes_one_resource",
    *("patch_changes", "what_is_deleted_is_gone", "a_callback_is_told_once", "subscriptions_are_of_one_api"),
)
"""Our own engine does for all resources what their tables say: of the others this is enough, day by day."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every check of every resource that it concerns, as one test."""
    if {"check", "of"} <= set(metafunc.fixturenames):
        told = metafunc.config.getoption("tmf630_bodies")
        whole = metafunc.config.getoption("base_url") or metafunc.config.getoption("tmf630_all")
        cases: list[tuple[Check, Target]] = [
            (check, of)
            for of in targets(Path(told) if told else None)
            for check in every_check()
            if check.concerns(of) and (whole or of.path in THOROUGH or check.name in ESSENTIAL)
        ]
        metafunc.parametrize(("check", "of"), cases, ids=[f"{of.name}-{check.name}" for check, of in cases])


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """Our own application, for as long as tests run."""
    with own_server(tmp_path_factory.mktemp("tmf630")) as server:
        yield server


@pytest.fixture(scope="session")
def hooks() -> dict[str, list[Callable[[httpx.Response], None]]]:
    """Holds every answer against the official documents, where they are here."""
    return {"response": [check_response]} if os.environ.get("FEDTWIN_SPECS") else {"response": []}


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest, hooks: Any) -> Iterator[Suite]:
    """The suite, in front of the server."""
    address, token = request.config.getoption("base_url"), request.config.getoption("token")
    told = request.config.getoption("tmf630_bodies")
    table = targets(Path(told) if told else None)
    if address:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=address, headers=headers, timeout=60, event_hooks=hooks) as http:
            yield Suite(http, table)
        return
    server: OwnServer = request.getfixturevalue("own")
    with server.client(server.listen(), event_hooks=hooks) as http:
        yield Suite(http, table)
