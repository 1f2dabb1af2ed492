"""Configuration files of agent, broker and api. Owns keys, defaults and messages; secrets only by reference.

Paths in a file are relative to that file. An unknown key is refused, with the place and what is accepted.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from domain_twin.errors import ConfigError
from domain_twin.model import Level
from domain_twin.operations.settings import MetricsConfig, is_loopback, split_address


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class GnmiConfig(_Strict):
    """How to reach a device by gNMI. TLS with a pinned root, always."""

    address: str = Field(description="host:port of the device's gNMI server")
    root: Path = Field(description="PEM file with the CA that signs the device's certificate; pinned")
    certificate: Path | None = Field(None, description="PEM file with the agent's client certificate")
    key: Path | None = Field(None, description="PEM file with the client certificate's private key")
    server_name: str = Field("", description="name in the device's certificate; default: the device's name")
    heartbeat_s: float = Field(5.0, gt=0, description="a silent session is lost after two of these, seconds")
    sample_interval_s: float = Field(1.0, gt=0, description="interval of counters and measurements, seconds")


class NetconfConfig(_Strict):
    """How to reach a device by NETCONF over SSH. The host key is pinned, always."""

    address: str = Field(description="host:port of the device's NETCONF server")
    known_hosts: Path = Field(description="OpenSSH known_hosts file with the device's host key")
    username: str = Field(description="account on the device; a read-only one is enough to mirror")
    password: str = Field("", description="reference to the password: env:NAME or file:PATH, never itself")
    private_key: Path | None = Field(None, description="OpenSSH private key, instead of a password")
    client: Literal["asyncssh", "ncclient"] | None = Field(
        None, description="SSH client; default: asyncssh, without threads, but ncclient where vendor is given"
    )
    vendor: str = Field("default", description="ncclient device handler, such as junos or iosxe")
    heartbeat_s: float = Field(5.0, gt=0, description="a silent session is lost after two of these, seconds")
    poll_interval_s: float = Field(
        1.0, gt=0, description="state is read this often where the device cannot push"
    )

    @field_validator("password")
    @classmethod
    def _by_reference(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("a secret is given by reference: env:NAME or file:PATH")
        return value

    @field_validator("vendor")
    @classmethod
    def _handled(cls, value: str, info: ValidationInfo) -> str:
        if value != "default" and info.data.get("client") == "asyncssh":
            raise ValueError('vendor handlers are ncclient\'s: leave vendor or client = "asyncssh" out')
        return value

    @property
    def uses_ncclient(self) -> bool:
        """Whether ncclient, with its vendor handlers and threads, keeps the session."""
        return self.client == "ncclient" or (self.client is None and self.vendor != "default")


class ReplayConfig(_Strict):
    """A recording instead of a device."""

    file: Path = Field(description="recording made by `fedtwin record`")
    speed: float = Field(1.0, gt=0, description="1 is the recorded pace")


class DeviceConfig(_Strict):
    """One device to mirror, by one or two protocols."""

    name: str = Field(description="name of the device within the domain")
    gnmi: GnmiConfig | None = Field(None, description="reach it by gNMI")
    netconf: NetconfConfig | None = Field(None, description="reach it by NETCONF")
    replay: ReplayConfig | None = Field(None, description="replay a recording instead")
    paths: tuple[str, ...] = Field((), description="subtrees to mirror; default: all that the mapping reads")


class ControllerConfig(DeviceConfig):
    """A controller that speaks for many devices, over one session."""

    name: str = Field(description="name of the controller; what it says of itself is kept under it")
    devices: tuple[str, ...] = Field(
        (), description="devices it may speak for; default: any that has no session of its own"
    )


class IntakeConfig(_Strict):
    """What may wait between the sessions and the twin."""

    max_mb: float = Field(
        32.0, gt=0, description="memory for what waits, of all devices, in MB; beyond, state is read anew"
    )
    max_leaves: int = Field(
        1_000_000, gt=0, description="leaves that one device may have; what it adds beyond is left out"
    )


class YangConfig(_Strict):
    """Where YANG modules come from, besides those that ship and those that devices serve."""

    directories: tuple[Path, ...] = Field((), description="folders with .yang files, searched in order")
    from_devices: bool = Field(True, description="fetch missing modules from devices (get-schema)")


class BrokerAddress(_Strict):
    """The broker that an agent dials."""

    address: str = Field(description="host:port of the broker")
    root: Path = Field(description="PEM file with the root of the broker's operator; pinned")
    identity: str = Field(description="SPIFFE identity of the broker: spiffe://OPERATOR/broker/ID")
    server_name: str = Field("", description="name in the broker's certificate; default: the address's host")


class IdentityConfig(_Strict):
    """Who this process is: a TLS certificate, and a key that signs what it says."""

    certificate: Path = Field(description="PEM file: TLS certificate with one SPIFFE URI, then intermediates")
    key: Path = Field(description="PEM file: its P-256 private key, mode 0600")
    signing_certificate: Path = Field(description="PEM file: Ed25519 certificate of the same SPIFFE URI")
    signing_key: Path = Field(description="PEM file: its Ed25519 private key, mode 0600")


Action = Literal["view", "evaluate", "describe", "query", "train", "what-if", "sandbox"]


class PrecisionConfig(_Strict):
    """Rounding to the safe side: delay, variance and loss up, bandwidth down. 0 is exact."""

    delay_ms: float = Field(0.01, ge=0, description="step of delays, milliseconds")
    bandwidth_mbps: float = Field(1.0, ge=0, description="step of bandwidths, Mbit/s")
    loss: float = Field(1e-6, ge=0, description="step of loss ratios")


class AgreementConfig(_Strict):
    """What one peer may see and ask. Whatever no agreement grants is refused."""

    id: str = Field(description="name of the agreement; travels with every view made under it")
    peer: str = Field(
        description="SPIFFE identity, or all people or partners: spiffe://OPERATOR/user/*, .../partner/*"
    )
    level: Level = Field(Level.MESH, description="finest level of view: node, mesh or native")
    actions: tuple[Action, ...] = Field(("view", "describe"), description="what the peer may ask")
    kpis: tuple[str, ...] = Field(
        ("one_way_delay", "delay_variance", "loss_ratio", "bandwidth"),
        description="figures that are disclosed",
    )
    precision: PrecisionConfig = PrecisionConfig()
    asks_per_second: float = Field(100.0, gt=0, description="rate beyond which asks are refused")
    expires: datetime | None = Field(None, description="the agreement ends then; default: never")


class PublishConfig(_Strict):
    """An element that peers may name, under an alias."""

    element: str = Field(description="id of a cell, network function or host of this domain")
    alias: str = Field(description="name that peers see", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class HistoryConfig(_Strict):
    """How long history is kept, and in which pieces."""

    enabled: bool = Field(True, description="keep history at all")
    raw_days: float = Field(
        14.0, gt=0, description="every change is kept so long; of older figures, a value a minute"
    )
    minute_days: float = Field(
        180.0, gt=0, description="a value a minute is kept so long; of older figures, one an hour"
    )
    retention_days: float = Field(
        1095.0,
        gt=0,
        description="history older than this is deleted, days; shorter than the others: all of it",
    )
    flush_s: float = Field(1.0, gt=0, description="longest time a change waits before it is written")


class SemanticConfig(_Strict):
    """The twin as a graph: what can be asked in SPARQL, derived by rules and checked by shapes."""

    enabled: bool = Field(True, description="keep a graph at all")
    rules: Path | None = Field(None, description="folder with rules of your own, one CONSTRUCT per .rq file")
    shapes: Path | None = Field(None, description="folder with SHACL shapes of your own, .ttl files")
    kpis: bool = Field(True, description="have the latest figures and counters in the graph")
    max_rows: int = Field(100_000, gt=0, description="rows or triples that one query may answer with")
    timeout_s: float = Field(10.0, gt=0, description="a query is stopped after this time, seconds")
    memory_mb: int = Field(512, gt=0, description="memory that one query may take, in MB")


class WhatIfConfig(_Strict):
    """What the agent answers what-ifs with, beside its calibration."""

    residual: Path | None = Field(
        None, description="correction for the rung residual, made by `fedtwin residual`"
    )


class LearningConfig(_Strict):
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


class SyslogConfig(_Strict):
    """Where records of the audit are sent as OCSF events, over syslog (RFC 5424)."""

    address: str = Field(
        description="udp://host:port, tcp://host:port, tls://host:port or unix:/path (a datagram socket)"
    )
    root: Path | None = Field(None, description="PEM file with the receiver's root, for tls; pinned")
    server_name: str = Field("", description="name in the receiver's certificate; default: the host")
    facility: int = Field(13, ge=0, le=23, description="syslog facility; 13 is log audit (RFC 5424 6.2.1)")
    queue: int = Field(10_000, gt=0, description="records that wait in memory; more are read from the files")


class AuditConfig(_Strict):
    """The hash-chained audit in the state folder: what was asked, disclosed and refused."""

    enabled: bool = Field(True, description="keep an audit at all")
    sync: Literal["each", "interval"] = Field(
        "each", description="each: on disk before anything leaves; interval: handed to the system before"
    )
    sync_interval_ms: float = Field(200.0, gt=0, description="with interval: written to disk this often")
    sign_interval_s: float = Field(30.0, gt=0, description="new records are signed at least this often")
    segment_bytes: int = Field(16_777_216, ge=4096, description="a file of the audit ends at this size")
    when_unwritable: Literal["refuse", "continue"] = Field(
        "refuse", description="refuse: nothing is disclosed while the audit cannot be written"
    )
    syslog: SyslogConfig | None = Field(None, description="left out: nothing is exported")


class AgentConfig(_Strict):
    """A twin agent: `fedtwin agent agent.toml`."""

    domain: str = Field(description="name of the domain", pattern=r"^[a-z][a-z0-9-]*$")
    operator: str = Field(description="the operator's trust domain, such as longhaul.example")
    state: Path = Field(description="folder of the agent's state: checkpoint, history, audit, socket")
    services: Path | None = Field(None, description="records of fedtwin-service, RFC 7951 JSON")
    inventory: tuple[Path, ...] = Field((), description="further files with [[device]] and [[controller]]")
    device: tuple[DeviceConfig, ...] = Field((), description="devices to mirror")
    controller: tuple[ControllerConfig, ...] = Field((), description="controllers that speak for devices")
    intake: IntakeConfig = IntakeConfig()
    yang: YangConfig = YangConfig()
    history: HistoryConfig = HistoryConfig()
    semantic: SemanticConfig = SemanticConfig()
    what_if: WhatIfConfig = WhatIfConfig()
    learning: LearningConfig = LearningConfig()
    metrics: MetricsConfig = MetricsConfig()
    audit: AuditConfig = AuditConfig()
    broker: BrokerAddress | None = Field(None, description="left out: the agent works alone")
    identity: IdentityConfig | None = Field(None, description="needed with a broker")
    agreement: tuple[AgreementConfig, ...] = ()
    publish: tuple[PublishConfig, ...] = ()
    view_interval_ms: float = Field(20.0, ge=0, description="changes within this time leave as one delta")
    figures_interval_ms: float = Field(200.0, ge=0, description="the same for changes of figures alone")


class MemberConfig(_Strict):
    """A domain that may join, and the operator it belongs to."""

    domain: str = Field(description="name of the domain")
    operator: str = Field(description="the operator whose certificates speak for it")
    level: Level = Field(Level.MESH, description="level that the broker asks for")


class AccessConfig(_Strict):
    """Who may read the composed twin."""

    subject: str = Field(description="SPIFFE identity, or spiffe://OPERATOR/user/*")
    operate: bool = Field(False, description="may also acknowledge, close and shelve alarms")
    learn: bool = Field(False, description="may also start and stop trainings, get models and put them back")
    partners: bool = Field(False, description="may speak for partners: the HTTP api, and nobody else")


class QuotaConfig(_Strict):
    """What a partner may have at once."""

    twins: int = Field(5, ge=0, description="active twins")
    runs: int = Field(2, ge=0, description="scenario runs at once")
    cpu_s_per_day: float = Field(3600.0, ge=0, description="seconds that its scenario runs may take a day")
    hubs: int = Field(20, ge=0, description="subscriptions to events")
    records: int = Field(50_000, ge=1, description="orders, twins, tests and specifications that are kept")


class PartnerConfig(_Strict):
    """A partner that may order twins: the tenant that its access tokens name."""

    id: str = Field(
        description="name of the tenant, as in its tokens; domains know it as spiffe://OPERATOR/partner/ID",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    name: str = Field("", description="name for people")
    specifications: tuple[str, ...] = Field((), description="what it may order; default: all that are public")
    quota: QuotaConfig = QuotaConfig()


class EventsConfig(_Strict):
    """How events reach the callbacks of partners."""

    allow_networks: tuple[str, ...] = Field(
        (),
        description="networks that callbacks may be in though they are not public, such as 10.1.0.0/16: for"
        " trials",
    )
    allow_http_loopback: bool = Field(
        False, description="take http too where the callback is on this machine: for trials"
    )
    roots: Path | None = Field(
        None, description="PEM file with roots of callbacks' certificates, beside those of the system"
    )
    timeout_s: float = Field(5.0, gt=0, description="a callback answers within this, seconds")
    attempts: int = Field(20, ge=1, description="tries before an event is a dead letter")
    first_retry_s: float = Field(
        1.0, gt=0, description="pause after the first failure, doubled each time, seconds"
    )
    longest_retry_s: float = Field(3600.0, gt=0, description="longest pause between tries, seconds")
    suspend_after_s: float = Field(
        86_400.0, gt=0, description="a subscription that fails for so long is suspended, seconds"
    )
    waiting: int = Field(
        10_000, ge=1, description="events that may wait for one subscription; with more it is suspended"
    )
    dead_letters: int = Field(1_000, ge=1, description="dead letters kept for one subscription, the newest")
    at_once: int = Field(256, ge=1, description="deliveries at once, of all partners")

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is not a network such as 10.1.0.0/16 ({error})") from None
        return value


class BrokerLearningConfig(_Strict):
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


class BrokerConfig(_Strict):
    """A federation broker: `fedtwin broker broker.toml`."""

    id: str = Field("main", description="last part of the broker's SPIFFE identity")
    operator: str = Field(description="the operator's trust domain, such as exchange.example")
    listen: str = Field(description="host:port that agents and engineers dial")
    state: Path = Field(description="folder of the broker's state")
    database: str = Field("", description="SQLAlchemy URL; default: SQLite in the state folder")
    services: Path | None = Field(None, description="records of fedtwin-service, RFC 7951 JSON")
    identity: IdentityConfig
    trust: dict[str, Path] = Field(description="operator = PEM file with that operator's roots")
    member: tuple[MemberConfig, ...] = Field((), description="domains that may join")
    access: tuple[AccessConfig, ...] = Field((), description="who may read the composed twin")
    partner: tuple[PartnerConfig, ...] = Field((), description="partners that may order twins")
    events: EventsConfig = EventsConfig()
    learning: BrokerLearningConfig = BrokerLearningConfig()
    metrics: MetricsConfig = MetricsConfig()
    heartbeat_s: float = Field(5.0, gt=0, description="agents say something at least this often, seconds")
    dead_after_s: float = Field(15.0, gt=0, description="a silent agent's session ends after this, seconds")
    sample_interval_s: float = Field(1.0, gt=0, description="services are evaluated at least this often")
    audit: AuditConfig = AuditConfig()
    reads_per_second: float = Field(500.0, gt=0, description="questions a second that one subject may ask")
    attaches_per_minute: float = Field(300.0, gt=0, description="sessions a minute that one peer may open")


class ClientConfig(_Strict):
    """How the command line reaches a broker: the file behind `--at`."""

    address: str = Field(description="host:port of the broker")
    identity: str = Field(description="SPIFFE identity of the broker")
    root: Path = Field(description="PEM file with the root of the broker's operator; pinned")
    certificate: Path = Field(description="PEM file: the user's TLS certificate")
    key: Path = Field(description="PEM file: its private key, mode 0600")
    server_name: str = Field("", description="name in the broker's certificate; default: the address's host")


class ApiClientConfig(_Strict):
    """How a partner reaches the service APIs: the file that FEDTWIN_API names."""

    url: str = Field(description="where the api is: https://host:port")
    token: str = Field(description="env:NAME or file:PATH of the access token; read anew for every request")
    root: Path | None = Field(
        None, description="PEM file with the root of the api's certificate; default: the system's roots"
    )
    certificate: Path | None = Field(
        None, description="PEM file: the partner's own, if tokens are bound to it"
    )
    key: Path | None = Field(None, description="PEM file: its private key, mode 0600")


class IssuerConfig(_Strict):
    """An identity provider whose access tokens are taken (RFC 9068)."""

    iss: str = Field(description="the issuer as its tokens name it", min_length=1)
    jwks: Path | None = Field(None, description="file with its public keys, a JWKS; followed when it changes")
    jwks_url: str = Field(
        "", description="https address of its JWKS instead; http on a loopback address only"
    )
    jwks_root: Path | None = Field(
        None, description="PEM file with the root for that address; default: those of the system"
    )
    algorithms: tuple[Literal["ES256", "EdDSA"], ...] = Field(
        ("ES256", "EdDSA"), description="signatures that are taken", min_length=1
    )
    tenants: tuple[str, ...] = Field(
        (), description="tenants that it may speak for; default: all, which only a single issuer may"
    )
    trial: bool = Field(
        False, description="also take keys made by `fedtwin token`, which are for trials only"
    )

    @model_validator(mode="after")
    def _keys_from_one_place(self) -> IssuerConfig:
        if (self.jwks is None) == (not self.jwks_url):
            raise ValueError("give its keys once: jwks, a file, or jwks_url")
        if self.jwks_url:
            _web_address("jwks_url", self.jwks_url)
        return self


class ApiTlsConfig(_Strict):
    """TLS of the API process itself; 1.3 only."""

    certificate: Path = Field(description="PEM file with the server's certificate, then intermediates")
    key: Path = Field(description="PEM file with its private key, mode 0600")
    client_roots: Path | None = Field(
        None, description="PEM file with roots of clients' certificates, for tokens bound to one (RFC 8705)"
    )


class ApiLimitsConfig(_Strict):
    """What one caller, or all of them, may take of the API process."""

    body_bytes: int = Field(
        1_000_000,
        ge=1024,
        le=1_000_000,
        description="largest body of a request; the broker takes no larger ones",
    )
    head_bytes: int = Field(65_536, ge=4096, description="longest request line and headers together")
    head_s: float = Field(10.0, gt=0, description="the head of a request is there within this, seconds")
    body_s: float = Field(30.0, gt=0, description="its body is there within this, seconds")
    connections: int = Field(512, ge=1, description="connections at once, of all callers")
    requests_per_second: float = Field(
        200.0, gt=0, description="requests a second of one tenant, in the long run"
    )
    burst: int = Field(400, ge=1, description="requests of one tenant that may come at once")
    failures_per_minute: float = Field(
        60.0,
        ge=1,
        description="tokens that do not hold, of one address; of more, only those that are known already are"
        " taken (behind a proxy nobody has an address: it has to limit them)",
    )


class ApiConfig(_Strict):
    """The HTTP APIs for partners: `fedtwin api api.toml`."""

    listen: str = Field(
        "127.0.0.1:8080",
        description="host:port to serve on; another address than a loopback one needs [tls] or behind_proxy",
    )
    public_address: str = Field(
        description="address that partners use, such as https://twins.exchange.example; every href begins"
        " with it; http on a loopback address only"
    )
    behind_proxy: bool = Field(
        False, description="a proxy in front ends TLS and is the only one who reaches the address listened on"
    )
    proxy_certificate: bool = Field(
        False,
        description="that proxy tells the client's certificate in Client-Cert (RFC 9440), and takes away what"
        " clients send under that name",
    )
    tls: ApiTlsConfig | None = Field(None, description="left out: plain HTTP, for a proxy on this machine")
    broker: Path = Field(
        description="client profile by which the broker is asked, with a certificate of"
        " spiffe://OPERATOR/api/ID (`fedtwin ca api`)"
    )
    state: Path | None = Field(
        None, description="folder that metrics.address is written to; default: nowhere"
    )
    issuer: tuple[IssuerConfig, ...] = Field(description="identity providers", min_length=1)
    audience: str = Field("", description="whom tokens must be meant for (aud); default: public_address")
    tenant_claim: str = Field("tenant", description="claim of a token that names the tenant", min_length=1)
    token_life_s: float = Field(
        86_400.0, gt=0, description="tokens issued for longer than this are refused, seconds"
    )
    mtls_bound: bool = Field(
        False,
        description="take only tokens that are bound to the client's certificate (RFC 8705); a token that is"
        " bound is held to it in any case",
    )
    limits: ApiLimitsConfig = ApiLimitsConfig()
    max_age_s: float = Field(
        5.0, gt=0, description="/readyz says not ready when the broker was last heard before this, seconds"
    )
    docs: bool = Field(True, description="serve the interactive API documents at /docs")
    access_log: bool = Field(True, description="write a line of JSON on stdout for every request")
    dialects: tuple[Literal["tmf-v3"], ...] = Field(
        (), description="older forms to speak besides; tmf-v3: for conformance kits that know nothing newer"
    )
    metrics: MetricsConfig = MetricsConfig()

    @model_validator(mode="after")
    def _safe(self) -> ApiConfig:
        host, _ = split_address(self.listen)
        if not is_loopback(host) and not self.tls and not self.behind_proxy:
            raise ValueError(
                f"{self.listen} can be reached from other machines, and tokens would travel in the clear;"
                " give [tls] a certificate and a key, listen on 127.0.0.1, or say behind_proxy = true where a"
                " proxy with TLS stands in front"
            )
        if self.proxy_certificate and not self.behind_proxy:
            raise ValueError(
                "proxy_certificate is for a proxy in front: say behind_proxy = true, or leave it out"
            )
        scheme = _web_address("public_address", self.public_address, path=False)
        if self.tls and scheme == "http":
            raise ValueError(
                f"public_address {self.public_address}: this process speaks TLS; begin it with https"
            )
        names = [issuer.iss for issuer in self.issuer]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"issuer {twice[0]!r} is declared twice; give each one [[issuer]] table")
        if len(names) > 1 and (open_ := [each.iss for each in self.issuer if not each.tenants]):
            raise ValueError(
                f"issuer {open_[0]!r}: with several issuers each lists the tenants that it may speak for, or"
                " one could speak for the tenants of another"
            )
        return self

    @property
    def expected_audience(self) -> str:
        """Whom tokens must be meant for."""
        return self.audience or self.public_address.rstrip("/")


def _web_address(key: str, text: str, *, path: bool = True) -> str:
    """The scheme of an http(s) address. Raises ValueError."""
    parts = urlsplit(text)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{key} {text!r}: {error}") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f"{key} {text!r} is not an address such as https://twins.exchange.example")
    if not path and parts.path.strip("/"):
        raise ValueError(f"{key} {text!r}: has a path of its own; the APIs' own paths begin at the root")
    if parts.scheme == "http":
        try:
            loopback = is_loopback(host)
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(f"{key} {text!r}: http is for loopback addresses only; use https")
    return parts.scheme


C = TypeVar("C", bound=_Strict)


def load_agent(path: Path) -> AgentConfig:
    """Read agent.toml and the inventories it names. Raises ConfigError."""
    config = load(path, AgentConfig)
    devices, controllers = list(config.device), list(config.controller)
    for inventory in config.inventory:
        found = load(inventory, _Inventory)
        devices += found.device
        controllers += found.controller
    names = [device.name for device in devices]
    for name in sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"{path}: device {name!r} is declared twice; give each device one [[device]] table")
    names += [name for controller in controllers for name in {controller.name, *controller.devices}]
    for name in sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(
            f"{path}: {name!r} would be mirrored twice; name it once: as a [[device]], a [[controller]], or"
            " among the devices of one controller"
        )
    if config.broker and not config.identity:
        raise ConfigError(f"{path}: [broker] needs [identity]; make one with `fedtwin ca agent`")
    return config.model_copy(update={"device": tuple(devices), "controller": tuple(controllers)})


def load_broker(path: Path) -> BrokerConfig:
    """Read broker.toml. Raises ConfigError."""
    config = load(path, BrokerConfig)
    for member in config.member:
        if member.operator not in config.trust:
            raise ConfigError(
                f"{path}: member {member.domain!r} belongs to {member.operator!r}, which [trust] has"
                f' no roots for; add {member.operator!r} = "its-root.pem" under [trust]'
            )
    return config


def load_client(path: Path) -> ClientConfig:
    """Read a client profile. Raises ConfigError."""
    return load(path, ClientConfig)


def load_api(path: Path) -> ApiConfig:
    """Read api.toml. Raises ConfigError."""
    return load(path, ApiConfig)


def load_api_client(path: Path) -> ApiClientConfig:
    """Read a partner's profile. Raises ConfigError."""
    return load(path, ApiClientConfig)


class _Inventory(_Strict):
    device: tuple[DeviceConfig, ...] = ()
    controller: tuple[ControllerConfig, ...] = ()


def load(path: Path, kind: type[C]) -> C:
    """Read one TOML file as `kind`, with paths made absolute. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        parsed = kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, kind, item) for item in error.errors())) from error
    result: C = _absolute(parsed, path.resolve().parent)
    return result


def secret(reference: str, folder: Path | None = None) -> SecretStr:
    """What `env:NAME` or `file:PATH` refers to. Raises ConfigError naming the reference, never the secret."""
    scheme, _, rest = reference.partition(":")
    if scheme == "env":
        if rest not in os.environ:
            raise ConfigError(f"secret {reference}: the environment has no variable {rest}")
        return SecretStr(os.environ[rest])
    if scheme == "file":
        path = (folder or Path()) / rest
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"secret {reference}: others may read {path}; run chmod 600 on it")
            return SecretStr(path.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ConfigError(f"secret {reference}: cannot be read ({error.strerror})") from error
    raise ConfigError(f"secret {reference!r}: accepted are env:NAME and file:PATH")


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: _absolute(getattr(value, name), folder) for name in type(value).model_fields}
        )
    if isinstance(value, tuple):
        return tuple(_absolute(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("file:"):
        return f"file:{folder / value[5:]}"
    return value


def _explain(path: Path, kind: type[BaseModel], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    if item["type"] == "extra_forbidden":
        known = _keys(kind, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{path}: {where}: no such key{hint} Accepted here: {', '.join(known)}"
    if item["type"] == "missing":
        return f"{path}: {where}: this key is missing{_meaning(kind, item['loc'])}"
    return f"{path}: {where}: {item['msg']} (found {item['input']!r}){_meaning(kind, item['loc'])}"


def _model_at(kind: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = kind
    for part in loc:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        current = _first_model(current.model_fields[part].annotation)
    return current


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _first_model(argument):
            return found
    return None


def _keys(kind: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    model = _model_at(kind, loc)
    return sorted(model.model_fields) if model else []


def _meaning(kind: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    names = [part for part in loc if isinstance(part, str)]
    model = _model_at(kind, loc[: len(loc) - 1]) if names else None
    field = model.model_fields.get(names[-1]) if model and names else None
    return f": {field.description}" if field and field.description else ""
