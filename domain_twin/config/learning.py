"""What an agent takes part in when models are trained, and what the broker trains."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from domain_twin.config.reading import Strict


class LearningConfig(Strict):
    """What the domain trains together with others. An agreement has to grant `train` besides."""

    enabled: bool = Field(True, description="take part where an agreement grants `train`")
    kinds: tuple[str, ...] = Field(
        ("forecaster", "vae", "gan", "detector", "residual"), description="kinds of models that are trained"
    )
    models: tuple[str, ...] = Field(
        (), description="names of models that are trained, such as `demand-*`; default: all"
    )
    kpis: tuple[str, ...] = Field(
        (), description="KPIs that may be learned from, such as `ndt:utilisation`; default: all"
    )
    profiles: tuple[Literal["mistrustful", "private", "trusted"], ...] = Field(
        ("mistrustful", "private", "trusted"), description="profiles under which the domain takes part"
    )
    max_rounds: int = Field(200, ge=1, description="rounds that one training may have")
    epsilon: float = Field(
        8.0, gt=0, description="privacy spent under `private` on all models together, ever, at `delta`"
    )
    delta: float = Field(1e-5, gt=0, lt=1e-3, description="delta at which `epsilon` is counted")
    peers: dict[str, Path] = Field(
        default_factory=dict,
        description="spiffe://OPERATOR/agent/DOMAIN = PEM file with that operator's roots: the only ones with"
        " whom private rounds are joined, by keys that they signed; without it the broker is believed whose"
        " keys they are",
    )
    min_interval_s: float = Field(
        0.0,
        ge=0,
        description="least time between two trainings of one model, seconds, also across restarts; another"
        " name is another model: see `models`",
    )
    work_s_per_day: float = Field(
        14_400.0, gt=0, description="seconds a day that others may have the process that trains work"
    )
    least_elements: int = Field(1, ge=1, description="elements below which the domain takes no part")
    least_values: int = Field(
        100, ge=1, description="known values of each KPI below which nothing is trained on"
    )
    least_judged: int = Field(
        20, ge=1, description="known values of each KPI in the holdout below which no model is judged"
    )
    max_mb: float = Field(15.0, gt=0, le=15.0, description="largest message or model that is taken, in MB")
    message_s: float = Field(300.0, gt=0, description="one step of training is stopped after this, seconds")
    memory_mb: int = Field(
        4096,
        ge=512,
        description="memory that each process of learning may have, in MB: one trains and judges with others,"
        " one uses the models in service (forecasts, watching, completing); each is there while it is needed",
    )
    idle_s: float = Field(
        120.0,
        gt=0,
        description="a process of learning ends without work for this long, seconds; that which watches or"
        " completes stays from step to step",
    )
    run_idle_s: float = Field(
        1800.0,
        gt=0,
        description="data of a training is let go when nothing was heard of it for this long, seconds, and"
        " `message_s` after the session with the broker was lost; offered again, it has the same window",
    )
    max_update_norm: float = Field(
        100.0,
        ge=0,
        description="updates longer than this (Euclidean norm of what a round changed) leave made as short as"
        " this; 0: however long they are. Honest ones are 1 to 20 long in the first round. Not under"
        " `private`, which has a norm of its own",
    )
    app: Path | None = Field(
        None,
        description="Python file of the domain's own: its function `client_app(source, *, domain, task)`"
        " answers rounds instead of what comes with FedTwin, but not under `private`; read when a training"
        " begins",
    )
    tell_amount: bool = Field(
        False,
        description="tell the broker how many elements and steps the domain learns from; how many windows"
        " it trained on is part of every contribution but under `private`",
    )
    worse_by: float = Field(
        0.0,
        ge=0,
        description="a new model is used also where it is worse than the one before, or than the best naive"
        " rival, by this share of its loss",
    )
    watch_every_s: float = Field(
        5.0,
        gt=0,
        description="how often models in service that watch or complete are looked after, seconds; each is"
        " used once a step of its task",
    )
    refit_s: float = Field(
        3600.0,
        gt=0,
        description="thresholds and gates are chosen anew from the domain's own history this often, seconds",
    )
    false_alarms_per_day: float = Field(
        1.0,
        gt=0,
        description="false alarms a day that a detector's threshold is set for, over all elements it watches",
    )
    impute: bool = Field(
        True,
        description="let a model that completes stand in for figures of devices whose session is lost; they"
        " are marked as imputed",
    )


class BrokerLearningConfig(Strict):
    """What the broker trains across the domains."""

    enabled: bool = Field(True, description="take trainings of those whose [[access]] says learn = true")
    round_s: float = Field(120.0, gt=0, description="a round goes on without who is slower, seconds")
    explain: bool = Field(
        True,
        description="find out at the end what each domain gained and brought, where the profile lets that be"
        " known: all rounds once more in every domain",
    )
    run_s: float = Field(
        14_400.0,
        gt=0,
        description="a training ends after this, with the best model of its rounds so far, seconds",
    )
    runs: int = Field(2, ge=1, description="trainings at once; more wait")
    waiting: int = Field(16, ge=0, description="trainings that may wait")
    each_operator: int = Field(
        8, ge=1, description="trainings that the users of one operator may have running or waiting"
    )
    max_mb: float = Field(15.0, gt=0, le=15.0, description="largest message or model, in MB")
    kept_versions: int = Field(20, ge=2, description="versions kept of each model")
    kept_runs: int = Field(200, ge=1, description="ended trainings whose log is kept")
