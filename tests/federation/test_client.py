"""Finding a twin, and importing little until one is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from domain_twin.errors import ConfigError, NotFound, Unreachable
from federation.client import TwinClient


def test_without_an_address_the_environment_then_the_demo_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDTWIN_AT", raising=False)
    with pytest.raises(NotFound, match=r"\.fedtwin/demo/client\.toml.*fedtwin demo --keep"):
        TwinClient.connect()
    monkeypatch.setenv("FEDTWIN_AT", "elsewhere.toml")
    with pytest.raises(NotFound, match=r"elsewhere\.toml: no such file; name a client profile"):
        TwinClient.connect()
    with pytest.raises(NotFound, match=r"here\.toml: no such file"):
        TwinClient.connect("here.toml")


def test_the_profile_of_a_running_demo_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDTWIN_AT", raising=False)
    folder = tmp_path / ".fedtwin" / "demo"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text(
        'address = "localhost:7777"\nidentity = "spiffe://exchange.example/broker/main"\n'
        'root = "root.pem"\ncertificate = "user.pem"\nkey = "user.key"\n'
    )
    assert TwinClient.connect().address == "localhost:7777"


def test_a_profile_with_a_wrong_key_is_explained(tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_text('adress = "localhost:7777"\n')
    with pytest.raises(ConfigError, match="adress"):
        TwinClient.connect(tmp_path / "client.toml")


async def test_a_client_that_is_not_connected_says_so(tmp_path: Path) -> None:
    twin = TwinClient(tmp_path / "agent.sock")
    with pytest.raises(Unreachable, match="async with"):
        await twin.domains()


@pytest.mark.parametrize("module", ["federation.client", "federation.broker", "domain_twin.agent.local"])
def test_grpc_and_sqlalchemy_are_imported_when_used(module: str) -> None:
    heavy = "{'grpc', 'sqlalchemy', 'duckdb', 'numba'} & set(sys.modules)"
    program = f"import sys, {module}; sys.exit(' '.join({heavy}) or None)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
