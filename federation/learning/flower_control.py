"""A SuperLink as whoever owns it drives it: the app put in place, nodes admitted, a run begun and watched.

Owns the imports of Flower's command line and state that are not public, beside `domain_twin.learning.flower`
(`tests/learning/test_flower_deploy.py` fails when one of them changes). SuperNodes with --trusted-entities
take an app only with the signature of one of these, and `flwr run` of 1.41 signs none unless it comes from
Flower's hub: here the app is built, signed and stored with its signature, and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from domain_twin.errors import ConfigError, Unreachable
from domain_twin.learning import flower as _flower  # sets what is switched off before flwr is imported

__all__ = ["App", "Control", "build_app", "key_id", "linked", "store_app"]

assert _flower.SUPPORTED


@dataclass(frozen=True, slots=True)
class App:
    """A Flower app as it travels."""

    id: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def build_app(folder: Path) -> App:
    """The app of `folder`, always the same bytes for the same files. Raises ConfigError."""
    from flwr.cli.build import build_fab_from_disk
    from flwr.common.config import get_fab_config, get_metadata_from_config

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Flower's, of the library that reads .gitignore
            content = build_fab_from_disk(folder)
        name, _ = get_metadata_from_config(get_fab_config(content))
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(
            f"{folder}: no Flower app ({error}); write one with `fedtwin learn deploy`"
        ) from None
    return App(f"@{name}", content)


def key_id(public_key: str) -> str:
    """The name that a key has in --trusted-entities: of its bytes, so that two never share one."""
    return "fpk_" + hashlib.sha256(" ".join(public_key.split()[:2]).encode()).hexdigest()[:32]


def store_app(app: App, database: Path, keys: Sequence[Path]) -> None:
    """Put `app` into a SuperLink's `database` (it may run), with a signature by each of `keys` (Ed25519)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from flwr.common.constant import NOOP_FLWR_AID
    from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
    from flwr.supercore.fab import Fab
    from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign

    signatures = {"valid_license": "Valid"}
    now = int(time.time())
    for path in keys:
        key = load_ssh_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{path}: apps are signed with Ed25519 keys in OpenSSH's form")
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        signature = key.sign(create_message_to_sign(hashlib.sha256(app.content).digest(), now))
        text = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        signatures[key_id(public)] = json.dumps({"signature": text, "signed_at": now})
    with linked(database) as state:
        state.store_app(
            Fab(app.digest, app.content, signatures),
            NOOP_FEDERATION_ID,
            app.id,
            TaskType.SERVER_APP,
            NOOP_FLWR_AID,
        )


@contextmanager
def linked(database: Path) -> Iterator[Any]:
    """Flower's LinkState over a SuperLink's `database`, made where there is none."""
    from flwr.server.superlink.linkstate import LinkStateFactory
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.superlink.federation import NoOpFederationManager

    database.parent.mkdir(parents=True, exist_ok=True)
    store = ObjectStoreFactory(str(database))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's, of alembic's settings
        state: Any = LinkStateFactory(str(database), NoOpFederationManager(), store).state()
    try:
        yield state
    finally:
        for held in (state, store.store()):
            engine = getattr(held, "_engine", None)
            if engine is not None:
                engine.dispose()


class Control:
    """The Control API of a running SuperLink."""

    def __init__(self, address: str, root_certificates: Path) -> None:
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        self._address = address
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=root_certificates.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def admit(self, name: str, public_key: Path) -> int:
        """Register a node by its public key; its number. One that is registered keeps the number it has."""
        from flwr.proto.control_pb2 import RegisterNodeRequest
        from flwr.supercore.primitives.asymmetric import public_key_to_bytes

        key = load_ssh_public_key(public_key.read_bytes())
        if not isinstance(key, EllipticCurvePublicKey):
            raise ConfigError(f"{public_key}: a node's key is an EC key in OpenSSH's form")
        data = public_key_to_bytes(key)
        for node in self._nodes():
            if node.public_key == data:
                return int(node.node_id)
        answer = self._ask("RegisterNode", RegisterNodeRequest(public_key=data, name=name))
        return int(answer.node_id)

    def online(self) -> frozenset[int]:
        """Numbers of the nodes that are connected."""
        return frozenset(int(node.node_id) for node in self._nodes() if node.status == "online")

    def start(self, app: App, config: Mapping[str, str | float | bool]) -> int:
        """Begin a run of an app that was stored; its number."""
        from flwr.common.serde import user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.proto.fab_pb2 import Fab

        request = StartRunRequest(
            fab=Fab(hash_str=app.digest),
            app_spec=app.id,
            override_config=user_config_to_proto(dict(config)),
        )
        return int(self._ask("StartRun", request).run_id)

    def status(self, run: int) -> tuple[bool, str]:
        """Whether a run has ended, and how, in Flower's words."""
        from flwr.proto.control_pb2 import ListRunsRequest

        status = self._ask("ListRuns", ListRunsRequest(run_id=run)).run_dict[run].status
        return status.status == "finished", f"{status.status}:{status.sub_status} {status.details}".strip()

    def stop(self, run: int) -> None:
        """End a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        self._ask("StopRun", StopRunRequest(run_id=run))

    def _nodes(self) -> Sequence[Any]:
        from flwr.proto.control_pb2 import ListNodesRequest

        return tuple(self._ask("ListNodes", ListNodesRequest()).nodes_info)

    def _ask(self, method: str, request: Any) -> Any:
        import httpx

        try:
            return getattr(self._client, method)(request)
        except httpx.HTTPStatusError as error:
            raise ConfigError(
                f"the SuperLink at {self._address} refuses {method}: {error.response.text[:500]}"
            ) from None
        except httpx.HTTPError as error:
            raise Unreachable(f"no SuperLink answers at {self._address}: {error}") from None
