"""Folders with which operators who run Flower already train our tasks: a SuperLink's, and one for each node.

Owns the files: the Flower app, keys, TLS, start files. A node's folder goes to its operator and to nobody
else; in life the operator makes the node's key and hands over `node.pub` only. Nothing is started here, and
nothing is fetched: neither now nor by what is written.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domain_twin.errors import ConfigError
from domain_twin.learning.task import Profile, Task
from domain_twin.trust.ca import DeviceCA
from federation.learning.flower_app import OUT
from federation.learning.flower_control import key_id

__all__ = ["APP_FOLDER", "Layout", "environment", "superlink_command", "supernode_command", "write"]

APP_FOLDER: Final = "fedtwin-learning"
TLS_LIFE: Final = timedelta(days=90)
NODE_PORT: Final = 9101
"""Of the first node's own API, on loopback; the next ones follow, since two nodes may share a machine."""

_ENVIRONMENT: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

_PYPROJECT: Final = """\
[project]
name = "fedtwin-learning"
version = "1.0.0"
description = "Learning between network operators with FedTwin, which every node has installed itself"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "fedtwin"

[tool.flwr.app.components]
serverapp = "learning_app.server:app"
clientapp = "learning_app.client:app"

[tool.flwr.app.config]
task = ""
nodes = "{}"
deadline-s = 600.0
explain = false
"""

_UNIT: Final = """\
# {title}; its folder is copied to {place}.
#   sudo cp {name} /etc/systemd/system/ && sudo systemctl daemon-reload && sudo systemctl enable --now {name}

[Unit]
Description={title}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
WorkingDirectory={place}
EnvironmentFile={place}/flower.env
ExecStart=/bin/sh {place}/start.sh
Restart=on-failure
RestartSec=5
# Flower starts executors in sessions of their own: all of the group ends, not the first process only.
KillMode=control-group
TimeoutStopSec=20

User=fedtwin
StateDirectory={state}
ReadWritePaths={place}/state
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectHome=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is written.

    `data` is each node's `csv` or `panel` setting; a node without one gets a `csv` folder.
    """

    task: Task
    domains: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 9443
    node_port: int = NODE_PORT
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    bin: Path = field(default_factory=lambda: Path(sys.executable).parent)
    """Where flower-superlink and flower-supernode are installed."""


def write(out: Path, layout: Layout) -> None:
    """Write all folders into `out`. Raises ConfigError: it is not empty, or the task cannot be trained so."""
    _check(out, layout)
    out.mkdir(parents=True, exist_ok=True)
    _app(out / "superlink" / APP_FOLDER)
    trusted = _signing_key(out / "superlink" / "app.key")
    root = _tls(out / "superlink", layout)
    _superlink(out / "superlink", layout)
    for index, domain in enumerate(layout.domains):
        folder = out / "nodes" / domain
        _node(folder, layout, domain, layout.node_port + index)
        _put(folder / "ca.crt", root)
        _put(folder / "trusted-entities.yaml", f"{key_id(trusted)}: '{trusted}'\n")
        _put(out / "superlink" / "nodes" / f"{domain}.pub", (folder / "node.pub").read_text())
    _put(out / "README.md", _readme(layout))
    _put(out / "compose.yaml", _compose(layout))


def environment(folder: Path, layout: Layout) -> dict[str, str]:
    """What a process of `folder` (a SuperLink's or a node's) has in its environment, beside what is there."""
    return {
        **_ENVIRONMENT,
        "PATH": f"{layout.bin}:/usr/bin:/bin",  # Flower finds its own programs there
        "FLWR_HOME": str(folder / "state" / "flwr"),
        OUT: str(folder / "state" / "runs"),
    }


def superlink_command(folder: Path, layout: Layout) -> list[str]:
    """The SuperLink of `folder`, which listens on the layout's host and port."""
    return [
        str(layout.bin / "flower-superlink"),
        *("--ssl-ca-certfile", str(folder / "tls" / "ca.crt")),
        *("--ssl-certfile", str(folder / "tls" / "server.pem")),
        *("--ssl-keyfile", str(folder / "tls" / "server.key")),
        *("--host", layout.host, "--port", str(layout.port)),
        *("--database", str(folder / "state" / "superlink.db")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def supernode_command(folder: Path, layout: Layout, domain: str, port: int) -> list[str]:
    """The SuperNode of `domain`; `port` is its own API's, on loopback."""
    data = layout.data.get(domain) or {"csv": str(folder / "csv")}
    told = {"domain": domain, "task": str(folder / "task.json"), "state": str(folder / "state"), **data}
    return [
        str(layout.bin / "flower-supernode"),
        *("--root-certificates", str(folder / "ca.crt")),
        *("--superlink", f"{layout.host}:{layout.port}"),
        *("--auth-supernode-private-key", str(folder / "node.key")),
        *("--trusted-entities", str(folder / "trusted-entities.yaml")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", " ".join(f"{key}={json.dumps(value)}" for key, value in told.items())),
    ]


def _check(out: Path, layout: Layout) -> None:
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; name a new folder")
    least = 3 if layout.task.profile is Profile.PRIVATE else 2
    if len(set(layout.domains)) != len(layout.domains) or len(layout.domains) < least:
        raise ConfigError(
            f"{len(set(layout.domains))} domains are named; {layout.task.profile.value} needs {least}"
            " different ones"
        )
    for domain in layout.domains:
        if not domain.replace("-", "").isalnum() or not domain.isascii():
            raise ConfigError(f"domain {domain!r}: letters, digits and hyphens make the name of a folder")
    for text in (str(out), *(value for told in layout.data.values() for value in told.values())):
        if set(text) & set("\"'\\\n$`"):
            raise ConfigError(f"{text!r}: Flower reads no quotes, backslashes or $ in a node's configuration")
    if layout.task.profile is Profile.PRIVATE and layout.task.privacy is None:
        raise ConfigError(f"model {layout.task.model!r}: under `private` a task says its budget: [privacy]")


def _app(folder: Path) -> None:
    _put(folder / "pyproject.toml", _PYPROJECT)
    _put(folder / "learning_app" / "__init__.py", '"""The app; what it does is installed at each node."""\n')
    for component in ("server", "client"):
        text = (
            f'"""FedTwin\'s {component.capitalize()}App, as it is installed here."""\n\n'
            f'from federation.learning.flower_app import {component} as app\n\n__all__ = ["app"]\n'
        )
        _put(folder / "learning_app" / f"{component}.py", text)


def _signing_key(path: Path) -> str:
    """An Ed25519 key in OpenSSH's form; its public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    _secret(path, key)
    return _public(key.public_key())


def _secret(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)


def _public(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _tls(folder: Path, layout: Layout) -> str:
    """The SuperLink's certificate, by an authority of its own; the authority's."""
    authority = DeviceCA.create("superlink", folder / "tls" / "authority")
    issued = authority.issue_device(
        layout.host, folder / "tls", dns=["localhost", "127.0.0.1"], life=TLS_LIFE
    )
    issued.certificate.rename(folder / "tls" / "server.pem")
    issued.key.rename(folder / "tls" / "server.key")
    root = authority.root.read_text()
    _put(folder / "tls" / "ca.crt", root)
    return root


def _superlink(folder: Path, layout: Layout) -> None:
    _put(folder / "task.json", layout.task.to_json().decode())
    _put(folder / "superlink.json", json.dumps({"host": layout.host, "port": layout.port}) + "\n")
    _start(folder, layout, superlink_command(folder, layout), "fedtwin-superlink")


def _node(folder: Path, layout: Layout, domain: str, port: int) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    _secret(folder / "node.key", key)
    _put(folder / "node.pub", _public(key.public_key()) + "\n")
    _put(folder / "task.json", layout.task.to_json().decode())
    _start(folder, layout, supernode_command(folder, layout, domain, port), f"fedtwin-supernode-{domain}")


def _start(folder: Path, layout: Layout, command: Sequence[str], name: str) -> None:
    """start.sh (all paths relative to its folder), its environment, and a unit for systemd."""
    here = str(folder)
    for part in ("flwr", "runs"):
        (folder / "state" / part).mkdir(parents=True, exist_ok=True)

    def moved(text: str) -> str:
        return text.replace(here, "$here")

    line = " \\\n  ".join(
        '"' + moved(part).replace('"', '\\"') + '"' if here in part else shlex.quote(part) for part in command
    )
    exports = "\n".join(
        f'export {key}="{moved(value)}"' for key, value in environment(folder, layout).items()
    )
    _put(
        folder / "start.sh",
        "#!/bin/sh\n# Starts this and, when it is told to end, ends all that it started.\nset -e\n"
        'here="$(cd "$(dirname "$0")" && pwd)"\n'
        f"{exports}\nexec {shlex.quote(sys.executable)} -m federation.learning.supervise \\\n  {line}\n",
    )
    (folder / "start.sh").chmod(0o755)
    place = f"/etc/fedtwin/{name}"
    _put(
        folder / f"{name}.service",
        _UNIT.format(title=f"Flower: {name}", place=place, name=f"{name}.service", state=name),
    )
    _put(folder / "flower.env", "".join(f"{key}={value}\n" for key, value in _ENVIRONMENT.items()))


def _compose(layout: Layout) -> str:
    image = (
        "    image: fedtwin\n    init: true\n    restart: on-failure\n"
        "    entrypoint: [sh, /flower/start.sh]\n"
    )
    parts = [
        "# All of a trial on one machine; in life every operator runs its own node.\nservices:\n",
        f"  superlink:\n{image}    network_mode: host\n    volumes: [./superlink:/flower]\n",
    ]
    parts += [
        f"  node-{domain}:\n{image}    network_mode: host\n    volumes: [./nodes/{domain}:/flower]\n"
        for domain in layout.domains
    ]
    return "".join(parts)


def _readme(layout: Layout) -> str:
    nodes = "\n".join(f"- `nodes/{domain}` goes to the operator of {domain}" for domain in layout.domains)
    return f"""# Training {layout.task.model} over Flower

- `superlink` stays with whoever runs the SuperLink ({layout.host}:{layout.port})
{nodes}

Every machine has FedTwin installed; nothing is installed while it runs. In this order:

1. `sh superlink/start.sh`
2. `fedtwin learn superlink superlink --admit` puts the signed app in place and admits the nodes' keys
3. at each operator: put CSV files into `nodes/DOMAIN/csv`, then `sh nodes/DOMAIN/start.sh`
4. `fedtwin learn superlink superlink --run` trains, and says where the model lies

A node takes no app but those signed with a key of its `trusted-entities.yaml`, and trains no task but its own
`task.json`. Whoever reaches the SuperLink's port can begin a run: let only the nodes reach it.
"""


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
