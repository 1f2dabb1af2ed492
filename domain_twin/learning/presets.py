"""Tasks that most people begin with, by name, and tasks read from a file. Owns their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from domain_twin.errors import ConfigError, ContractError, NotFound
from domain_twin.learning.task import MAX_BYTES, Feature, Kind, Role, Task, Window

__all__ = ["GENERATOR_NOISE", "PRESETS", "preset", "read_task"]

_LINK: Final = (
    Feature("ndt:utilisation", "1"),
    Feature("ndt:carried_rate", "Mbit/s"),
    Feature("ndt:one_way_delay", "ms"),
    Feature("ndt:queue_occupancy", "octets"),
)

GENERATOR_NOISE: Final = 4.3
"""Noise over sensitivity of a generator under `private`: one training costs epsilon 2.0 at delta 1e-5."""

PRESETS: Final[Mapping[str, Task]] = {
    "demand": Task(
        "demand",
        Kind.FORECASTER,
        features=(*_LINK[:2], replace(_LINK[2], role=Role.INPUT)),
        lags=12,
        horizons=(1, 5, 15),
        window=Window(86_400.0),
        rounds=10,
        epochs=2,
        learning_rate=3e-3,
    ),
    "gaps": Task("gaps", Kind.VAE, features=_LINK, lags=30, window=Window(86_400.0), rounds=10, epochs=2),
    "watch": Task("watch", Kind.DETECTOR, features=_LINK, window=Window(86_400.0), rounds=1),
    "residual": Task(
        "residual",
        Kind.RESIDUAL,
        features=(*_LINK[:3], Feature("ndt:delay_variance", "ms2")),
        window=Window(86_400.0),
        rounds=1,
    ),
    "telemetry": Task(
        "telemetry", Kind.GAN, features=_LINK[:3], lags=30, window=Window(86_400.0), rounds=20, epochs=5
    ),
}
"""By the name of the model that comes of it."""


def preset(name: str) -> Task:
    """The task of a preset. Raises NotFound, which lists them."""
    try:
        return PRESETS[name]
    except KeyError:
        raise NotFound(
            f"no preset {name!r}; there are {', '.join(PRESETS)}, or name a task's file (.yaml, .json)"
        ) from None


def read_task(path: Path) -> Task:
    """A task from a YAML or JSON file. Raises ConfigError with the file and the place."""
    import yaml

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes; a task has {MAX_BYTES} at most")
    try:
        document = yaml.safe_load(data)
        return Task.from_json(json.dumps(document).encode())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ContractError as error:
        raise ConfigError(f"{path}: {error}") from None
