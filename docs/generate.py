"""Write the pages of docs/ that follow from the code (`./dev docs`); a test fails when one is out of date."""

from __future__ import annotations

import enum
import json
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from domain_twin import config
from domain_twin.agent import metrics as agent_metrics
from domain_twin.emulator import metrics as emulator_metrics
from domain_twin.emulator.network import NetworkSpec
from domain_twin.model.scenario import Scenario
from domain_twin.operations import process
from domain_twin.simulation.outside.network_file import NetworkFile
from federation import metrics as broker_metrics
from twin_api import api_metrics

FILES = [
    ("agent.toml", config.AgentConfig, "A twin agent, one per domain: `fedtwin agent agent.toml`."),
    ("broker.toml", config.BrokerConfig, "A federation broker: `fedtwin broker broker.toml`."),
    (
        "network.toml",
        NetworkSpec,
        "[An emulated network](emulator.md): `fedtwin emulate network.toml`.",
    ),
    (
        "api.toml",
        config.ApiConfig,
        "[The HTTP APIs for partners](partners-access.md): `fedtwin api api.toml`.",
    ),
    ("client.toml", config.ClientConfig, "How the command line reaches a broker: `--at client.toml`."),
    (
        "partner.toml",
        config.ApiClientConfig,
        "[How a partner reaches the APIs](partners.md): `--api partner.toml`, or `FEDTWIN_API`.",
    ),
]
INTRODUCTION = """# Configuration

Made from the settings' own descriptions by `./dev docs`. Paths are relative to the file they stand in.
Secrets are given by reference, `env:NAME` or `file:PATH` (mode 0600), never themselves. An unknown key
is refused, with what is accepted; `fedtwin config check FILE` tells what is wrong with a file, its
certificates and its addresses before anything is started.
"""


def configuration() -> str:
    """The page on configuration files: every key of every file."""
    parts = [INTRODUCTION]
    for name, model, text in FILES:
        parts.append(f"\n## {name}\n\n{text}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        parts += _rows(model, "")
    return "\n".join(parts) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> typing.Iterator[str]:
    for name, field in model.model_fields.items():
        inner, many = _inner(field.annotation)
        if inner:
            yield from _rows(inner, f"{prefix}{name}{'[]' if many else ''}.")
            continue
        default = "required" if field.is_required() else _default(field.default)
        yield f"| `{prefix}{name}` | {_type(field.annotation)} | {default} | {field.description or ''} |"


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in typing.get_args(annotation):
        found, _ = _inner(argument)
        if found:
            return found, typing.get_origin(annotation) is tuple
    return None, False


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(str(member.value) for member in annotation)
    origin = typing.get_origin(annotation)
    arguments = [a for a in typing.get_args(annotation) if a not in (type(None), Ellipsis)]
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if arguments:
        return _type(arguments[0])
    names = {str: "text", int: "whole number", float: "number", bool: "true, false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value.value if isinstance(value, enum.Enum) else value}`"


METRICS_INTRODUCTION = """# Metrics

Made from the declarations in the code by `./dev docs`; a test compares this page with what running processes
answer on `/metrics`. How to switch them on and watch them: [operations](operations.md).
"""


def metrics() -> str:
    """The page on metrics: every figure of every process."""
    parts = [METRICS_INTRODUCTION]
    for title, text, instruments in (
        ("Every process", "Beside these, prometheus_client's own:", process.INSTRUMENTS),
        ("Agent", "", agent_metrics.INSTRUMENTS),
        ("Broker", "", broker_metrics.INSTRUMENTS),
        ("API", "", api_metrics.INSTRUMENTS),
        ("Emulated network", "", emulator_metrics.INSTRUMENTS),
    ):
        parts.append(f"\n## {title}\n")
        if text:
            parts.append(f"{text} {', '.join(f'`{name}`' for name in process.LIBRARY_METRICS)}.\n")
        parts.append("| metric | kind | labels | meaning |\n|---|---|---|---|")
        for item in instruments:
            labels = ", ".join(item.labels) or "none"
            parts.append(f"| `{item.name}` | {item.kind.value} | {labels} | {item.help} |")
    return "\n".join(parts) + "\n"


def scenario_schema() -> str:
    """The JSON Schema of scenario files, for editors and other programs."""
    schema = Scenario.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "fedtwin-scenario", **schema}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def network_schema() -> str:
    """The JSON Schema of network files (`fedtwin simulate`)."""
    schema = NetworkFile.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "fedtwin-network", **schema}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


QUERIES_INTRODUCTION = """# Twenty queries

Each runs against the demo's networks (`fedtwin demo --keep`). The files lie in `examples/queries`; this page
is made from them by `./dev docs`. A broker answers from all domains, an agent from its own: those for an
agent come last. The words: [ontology](ontology.md), or `fedtwin ontology`; what may be asked:
[sparql](sparql.md).
"""


def queries() -> str:
    """The page of example queries: what each answers, and how to ask it."""
    parts = [QUERIES_INTRODUCTION]
    files = (Path(__file__).parent.parent / "examples" / "queries").glob("*.rq")
    for path in sorted(files, key=lambda path: (_asked(path) != "broker", path.name)):
        lines = path.read_text(encoding="utf-8").splitlines()
        title, _, *words = [line.removeprefix("# ") for line in lines if line.startswith("#")]
        whom = _asked(path)
        at = "" if whom == "broker" else f" --at .fedtwin/demo/{whom}/state/agent.sock"
        body = "\n".join(line for line in lines if not line.startswith("#"))
        parts.append(f"\n## {title}\n\n{' '.join(words)}\n\n```sparql\n{body}\n```\n")
        parts.append(f"```sh\nfedtwin query examples/queries/{path.name}{at}\n```")
    return "\n".join(parts) + "\n"


def _asked(path: Path) -> str:
    """Who an example is for: its second line says so."""
    return path.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ask: ")


PAGES = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "queries.md": queries,
    "scenario.schema.json": scenario_schema,
    "network.schema.json": network_schema,
}

if __name__ == "__main__":
    for page, render in PAGES.items():
        (Path(__file__).parent / page).write_text(render(), encoding="utf-8")
