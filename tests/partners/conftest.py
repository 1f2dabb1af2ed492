"""Every test of the partners' store runs on both databases."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import databases
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "federation"))  # its federation in miniature


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with databases.server() as url:
        if not url:
            pytest.skip(
                "PARTNERS' STORE NOT TESTED ON POSTGRESQL: no initdb here (apt-get install postgresql), and"
                f" {databases.TOLD} names no database"
            )
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    return databases.emptied(postgres_server)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'store' / 'partners.sqlite3'}"
