from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "view_update", "answer", "chunk", "heartbeat", "goodbye", "credit")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    VIEW_UPDATE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    view_update: ViewUpdate
    answer: Answer
    chunk: Chunk
    heartbeat: Heartbeat
    goodbye: Goodbye
    credit: Credit
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., view_update: _Optional[_Union[ViewUpdate, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ...) -> None: ...

class BrokerMessage(_message.Message):
    __slots__ = ("welcome", "ask", "chunk", "cancel", "job_end", "credit", "view_rejected", "ping", "reattach")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    JOB_END_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    VIEW_REJECTED_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    REATTACH_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ask: Ask
    chunk: Chunk
    cancel: Cancel
    job_end: JobEnd
    credit: Credit
    view_rejected: ViewRejected
    ping: Ping
    reattach: Reattach
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., job_end: _Optional[_Union[JobEnd, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., view_rejected: _Optional[_Union[ViewRejected, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., reattach: _Optional[_Union[Reattach, _Mapping]] = ...) -> None: ...

class Body(_message.Message):
    __slots__ = ("inline", "transfer")
    INLINE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    inline: bytes
    transfer: Transfer
    def __init__(self, inline: _Optional[bytes] = ..., transfer: _Optional[_Union[Transfer, _Mapping]] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("transfer_id", "bytes", "sha256")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    transfer_id: int
    bytes: int
    sha256: bytes
    def __init__(self, transfer_id: _Optional[int] = ..., bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("transfer_id", "data")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    transfer_id: int
    data: bytes
    def __init__(self, transfer_id: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("bytes",)
    BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    def __init__(self, bytes: _Optional[int] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("payload", "jws")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    JWS_FIELD_NUMBER: _ClassVar[int]
    payload: Body
    jws: str
    def __init__(self, payload: _Optional[_Union[Body, _Mapping]] = ..., jws: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("domain", "instance", "incarnation", "contract_versions", "software", "signing_certificate", "nonce")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    domain: str
    instance: str
    incarnation: int
    contract_versions: _containers.RepeatedScalarFieldContainer[int]
    software: str
    signing_certificate: bytes
    nonce: bytes
    def __init__(self, domain: _Optional[str] = ..., instance: _Optional[str] = ..., incarnation: _Optional[int] = ..., contract_versions: _Optional[_Iterable[int]] = ..., software: _Optional[str] = ..., signing_certificate: _Optional[bytes] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("terms", "signing_certificate")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    SIGNING_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    terms: Signed
    signing_certificate: bytes
    def __init__(self, terms: _Optional[_Union[Signed, _Mapping]] = ..., signing_certificate: _Optional[bytes] = ...) -> None: ...

class WelcomeTerms(_message.Message):
    __slots__ = ("session_id", "broker", "contract_version", "nonce", "heartbeat_ms", "dead_after_ms", "chunk_bytes", "window_bytes", "max_in_flight", "max_message_bytes", "hands_over")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BROKER_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    DEAD_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HANDS_OVER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    broker: str
    contract_version: int
    nonce: bytes
    heartbeat_ms: int
    dead_after_ms: int
    chunk_bytes: int
    window_bytes: int
    max_in_flight: int
    max_message_bytes: int
    hands_over: bool
    def __init__(self, session_id: _Optional[str] = ..., broker: _Optional[str] = ..., contract_version: _Optional[int] = ..., nonce: _Optional[bytes] = ..., heartbeat_ms: _Optional[int] = ..., dead_after_ms: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., window_bytes: _Optional[int] = ..., max_in_flight: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., hands_over: _Optional[bool] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("id", "job_id", "round", "timeout_ms", "max_answer_bytes", "on_behalf_of", "view", "evaluate", "describe", "budget", "transfer", "simulate", "query", "card", "sandbox", "learn")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    DESCRIBE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    SIMULATE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    LEARN_FIELD_NUMBER: _ClassVar[int]
    id: int
    job_id: str
    round: int
    timeout_ms: int
    max_answer_bytes: int
    on_behalf_of: Signed
    view: ViewAsk
    evaluate: EvaluateAsk
    describe: DescribeAsk
    budget: BudgetAsk
    transfer: Transfer
    simulate: SimulateAsk
    query: QueryAsk
    card: CardAsk
    sandbox: SandboxAsk
    learn: LearnAsk
    def __init__(self, id: _Optional[int] = ..., job_id: _Optional[str] = ..., round: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., max_answer_bytes: _Optional[int] = ..., on_behalf_of: _Optional[_Union[Signed, _Mapping]] = ..., view: _Optional[_Union[ViewAsk, _Mapping]] = ..., evaluate: _Optional[_Union[EvaluateAsk, _Mapping]] = ..., describe: _Optional[_Union[DescribeAsk, _Mapping]] = ..., budget: _Optional[_Union[BudgetAsk, _Mapping]] = ..., transfer: _Optional[_Union[Transfer, _Mapping]] = ..., simulate: _Optional[_Union[SimulateAsk, _Mapping]] = ..., query: _Optional[_Union[QueryAsk, _Mapping]] = ..., card: _Optional[_Union[CardAsk, _Mapping]] = ..., sandbox: _Optional[_Union[SandboxAsk, _Mapping]] = ..., learn: _Optional[_Union[LearnAsk, _Mapping]] = ...) -> None: ...

class OnBehalfOf(_message.Message):
    __slots__ = ("subject", "issued_at", "expires_at")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    subject: str
    issued_at: int
    expires_at: int
    def __init__(self, subject: _Optional[str] = ..., issued_at: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class ViewAsk(_message.Message):
    __slots__ = ("level", "resume_from")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    RESUME_FROM_FIELD_NUMBER: _ClassVar[int]
    level: str
    resume_from: Version
    def __init__(self, level: _Optional[str] = ..., resume_from: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class ViewUpdate(_message.Message):
    __slots__ = ("ask_id", "delta")
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ask_id: int
    delta: Signed
    def __init__(self, ask_id: _Optional[int] = ..., delta: _Optional[_Union[Signed, _Mapping]] = ...) -> None: ...

class ViewRejected(_message.Message):
    __slots__ = ("ask_id", "version", "reason", "resend_snapshot")
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESEND_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    ask_id: int
    version: Version
    reason: str
    resend_snapshot: bool
    def __init__(self, ask_id: _Optional[int] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., reason: _Optional[str] = ..., resend_snapshot: _Optional[bool] = ...) -> None: ...

class EvaluateAsk(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[SegmentAsk]
    def __init__(self, segments: _Optional[_Iterable[_Union[SegmentAsk, _Mapping]]] = ...) -> None: ...

class SegmentAsk(_message.Message):
    __slots__ = ("source", "target", "mode", "requirement")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    mode: str
    requirement: Requirement
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., mode: _Optional[str] = ..., requirement: _Optional[_Union[Requirement, _Mapping]] = ...) -> None: ...

class EvaluateAnswer(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[SegmentAnswer]
    def __init__(self, segments: _Optional[_Iterable[_Union[SegmentAnswer, _Mapping]]] = ...) -> None: ...

class SegmentAnswer(_message.Message):
    __slots__ = ("source", "target", "kpis", "refusal")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KPIS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    kpis: PathKpis
    refusal: Refusal
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., kpis: _Optional[_Union[PathKpis, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class DescribeAsk(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeAnswer(_message.Message):
    __slots__ = ("agreement", "level", "actions", "kpis", "expires_at", "published", "software")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    KPIS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    agreement: str
    level: str
    actions: _containers.RepeatedScalarFieldContainer[str]
    kpis: _containers.RepeatedScalarFieldContainer[str]
    expires_at: int
    published: _containers.RepeatedScalarFieldContainer[str]
    software: str
    def __init__(self, agreement: _Optional[str] = ..., level: _Optional[str] = ..., actions: _Optional[_Iterable[str]] = ..., kpis: _Optional[_Iterable[str]] = ..., expires_at: _Optional[int] = ..., published: _Optional[_Iterable[str]] = ..., software: _Optional[str] = ...) -> None: ...

class BudgetAsk(_message.Message):
    __slots__ = ("service_id", "segments", "share_ms")
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    SHARE_MS_FIELD_NUMBER: _ClassVar[int]
    service_id: str
    segments: _containers.RepeatedCompositeFieldContainer[SegmentAsk]
    share_ms: float
    def __init__(self, service_id: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[SegmentAsk, _Mapping]]] = ..., share_ms: _Optional[float] = ...) -> None: ...

class BudgetAnswer(_message.Message):
    __slots__ = ("accepted", "least_ms", "reason")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    LEAST_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    least_ms: float
    reason: str
    def __init__(self, accepted: _Optional[bool] = ..., least_ms: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class SimulateAsk(_message.Message):
    __slots__ = ("prepare", "round")
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    prepare: SimulatePrepare
    round: SimulateRound
    def __init__(self, prepare: _Optional[_Union[SimulatePrepare, _Mapping]] = ..., round: _Optional[_Union[SimulateRound, _Mapping]] = ...) -> None: ...

class SimulateAnswer(_message.Message):
    __slots__ = ("prepared", "figures")
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    prepared: SimulatePrepared
    figures: SimulateFigures
    def __init__(self, prepared: _Optional[_Union[SimulatePrepared, _Mapping]] = ..., figures: _Optional[_Union[SimulateFigures, _Mapping]] = ...) -> None: ...

class SimulatePrepare(_message.Message):
    __slots__ = ("variants", "scenario", "at_version", "uncorrected")
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    AT_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNCORRECTED_FIELD_NUMBER: _ClassVar[int]
    variants: _containers.RepeatedCompositeFieldContainer[SimulateVariant]
    scenario: str
    at_version: Version
    uncorrected: bool
    def __init__(self, variants: _Optional[_Iterable[_Union[SimulateVariant, _Mapping]]] = ..., scenario: _Optional[str] = ..., at_version: _Optional[_Union[Version, _Mapping]] = ..., uncorrected: _Optional[bool] = ...) -> None: ...

class SimulateVariant(_message.Message):
    __slots__ = ("name", "changes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    changes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, name: _Optional[str] = ..., changes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SimulatePrepared(_message.Message):
    __slots__ = ("version", "points", "classes", "tables", "table_of", "offered", "assumptions", "private_changes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    TABLE_OF_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    ASSUMPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_CHANGES_FIELD_NUMBER: _ClassVar[int]
    version: Version
    points: _containers.RepeatedScalarFieldContainer[str]
    classes: _containers.RepeatedCompositeFieldContainer[SimulateClass]
    tables: _containers.RepeatedCompositeFieldContainer[SimulateWays]
    table_of: _containers.RepeatedScalarFieldContainer[int]
    offered: SimulateOffered
    assumptions: _containers.RepeatedScalarFieldContainer[str]
    private_changes: bool
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., points: _Optional[_Iterable[str]] = ..., classes: _Optional[_Iterable[_Union[SimulateClass, _Mapping]]] = ..., tables: _Optional[_Iterable[_Union[SimulateWays, _Mapping]]] = ..., table_of: _Optional[_Iterable[int]] = ..., offered: _Optional[_Union[SimulateOffered, _Mapping]] = ..., assumptions: _Optional[_Iterable[str]] = ..., private_changes: _Optional[bool] = ...) -> None: ...

class SimulateClass(_message.Message):
    __slots__ = ("name", "sizes", "probabilities", "exponential", "arrivals", "on_s", "off_s", "priority", "weight", "packets", "measured")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    EXPONENTIAL_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_FIELD_NUMBER: _ClassVar[int]
    ON_S_FIELD_NUMBER: _ClassVar[int]
    OFF_S_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    name: str
    sizes: _containers.RepeatedScalarFieldContainer[float]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    exponential: bool
    arrivals: str
    on_s: float
    off_s: float
    priority: int
    weight: float
    packets: float
    measured: bool
    def __init__(self, name: _Optional[str] = ..., sizes: _Optional[_Iterable[float]] = ..., probabilities: _Optional[_Iterable[float]] = ..., exponential: _Optional[bool] = ..., arrivals: _Optional[str] = ..., on_s: _Optional[float] = ..., off_s: _Optional[float] = ..., priority: _Optional[int] = ..., weight: _Optional[float] = ..., packets: _Optional[float] = ..., measured: _Optional[bool] = ...) -> None: ...

class SimulateWays(_message.Message):
    __slots__ = ("source", "target", "metric")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    source: _containers.RepeatedScalarFieldContainer[int]
    target: _containers.RepeatedScalarFieldContainer[int]
    metric: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, source: _Optional[_Iterable[int]] = ..., target: _Optional[_Iterable[int]] = ..., metric: _Optional[_Iterable[float]] = ...) -> None: ...

class SimulateOffered(_message.Message):
    __slots__ = ("source", "target", "traffic_class", "rate", "square")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    source: _containers.RepeatedScalarFieldContainer[int]
    target: _containers.RepeatedScalarFieldContainer[int]
    traffic_class: _containers.RepeatedScalarFieldContainer[int]
    rate: _containers.RepeatedScalarFieldContainer[float]
    square: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, source: _Optional[_Iterable[int]] = ..., target: _Optional[_Iterable[int]] = ..., traffic_class: _Optional[_Iterable[int]] = ..., rate: _Optional[_Iterable[float]] = ..., square: _Optional[_Iterable[float]] = ...) -> None: ...

class SimulateKeys(_message.Message):
    __slots__ = ("variant", "source", "target", "traffic_class", "classes")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    variant: _containers.RepeatedScalarFieldContainer[int]
    source: _containers.RepeatedScalarFieldContainer[int]
    target: _containers.RepeatedScalarFieldContainer[int]
    traffic_class: _containers.RepeatedScalarFieldContainer[int]
    classes: _containers.RepeatedCompositeFieldContainer[SimulateClass]
    def __init__(self, variant: _Optional[_Iterable[int]] = ..., source: _Optional[_Iterable[int]] = ..., target: _Optional[_Iterable[int]] = ..., traffic_class: _Optional[_Iterable[int]] = ..., classes: _Optional[_Iterable[_Union[SimulateClass, _Mapping]]] = ...) -> None: ...

class SimulateRound(_message.Message):
    __slots__ = ("keys", "rate", "square", "final")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    keys: SimulateKeys
    rate: _containers.RepeatedScalarFieldContainer[float]
    square: _containers.RepeatedScalarFieldContainer[float]
    final: bool
    def __init__(self, keys: _Optional[_Union[SimulateKeys, _Mapping]] = ..., rate: _Optional[_Iterable[float]] = ..., square: _Optional[_Iterable[float]] = ..., final: _Optional[bool] = ...) -> None: ...

class SimulateFigures(_message.Message):
    __slots__ = ("loss", "delay_s", "variance_s2", "service_s", "fixed_s", "interval_s", "unsettled", "link_variant", "link_point", "link_utilisation")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    DELAY_S_FIELD_NUMBER: _ClassVar[int]
    VARIANCE_S2_FIELD_NUMBER: _ClassVar[int]
    SERVICE_S_FIELD_NUMBER: _ClassVar[int]
    FIXED_S_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_FIELD_NUMBER: _ClassVar[int]
    LINK_VARIANT_FIELD_NUMBER: _ClassVar[int]
    LINK_POINT_FIELD_NUMBER: _ClassVar[int]
    LINK_UTILISATION_FIELD_NUMBER: _ClassVar[int]
    loss: _containers.RepeatedScalarFieldContainer[float]
    delay_s: _containers.RepeatedScalarFieldContainer[float]
    variance_s2: _containers.RepeatedScalarFieldContainer[float]
    service_s: _containers.RepeatedScalarFieldContainer[float]
    fixed_s: _containers.RepeatedScalarFieldContainer[float]
    interval_s: _containers.RepeatedScalarFieldContainer[float]
    unsettled: bool
    link_variant: _containers.RepeatedScalarFieldContainer[int]
    link_point: _containers.RepeatedScalarFieldContainer[int]
    link_utilisation: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, loss: _Optional[_Iterable[float]] = ..., delay_s: _Optional[_Iterable[float]] = ..., variance_s2: _Optional[_Iterable[float]] = ..., service_s: _Optional[_Iterable[float]] = ..., fixed_s: _Optional[_Iterable[float]] = ..., interval_s: _Optional[_Iterable[float]] = ..., unsettled: _Optional[bool] = ..., link_variant: _Optional[_Iterable[int]] = ..., link_point: _Optional[_Iterable[int]] = ..., link_utilisation: _Optional[_Iterable[float]] = ...) -> None: ...

class QueryAsk(_message.Message):
    __slots__ = ("query", "variables", "values", "max_rows")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    query: str
    variables: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[str]
    max_rows: int
    def __init__(self, query: _Optional[str] = ..., variables: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[str]] = ..., max_rows: _Optional[int] = ...) -> None: ...

class QueryAnswer(_message.Message):
    __slots__ = ("form", "results", "rows", "stopped_by")
    FORM_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_BY_FIELD_NUMBER: _ClassVar[int]
    form: str
    results: bytes
    rows: int
    stopped_by: str
    def __init__(self, form: _Optional[str] = ..., results: _Optional[bytes] = ..., rows: _Optional[int] = ..., stopped_by: _Optional[str] = ...) -> None: ...

class CardAsk(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CardAnswer(_message.Message):
    __slots__ = ("agreement", "triples", "classes", "properties", "max_rows", "timeout_ms", "level")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    TRIPLES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    agreement: str
    triples: int
    classes: _containers.RepeatedCompositeFieldContainer[CardCount]
    properties: _containers.RepeatedCompositeFieldContainer[CardCount]
    max_rows: int
    timeout_ms: int
    level: str
    def __init__(self, agreement: _Optional[str] = ..., triples: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[CardCount, _Mapping]]] = ..., properties: _Optional[_Iterable[_Union[CardCount, _Mapping]]] = ..., max_rows: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., level: _Optional[str] = ...) -> None: ...

class CardCount(_message.Message):
    __slots__ = ("iri", "triples", "subjects", "objects", "foreign_subjects", "foreign_objects")
    IRI_FIELD_NUMBER: _ClassVar[int]
    TRIPLES_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    iri: str
    triples: int
    subjects: int
    objects: int
    foreign_subjects: int
    foreign_objects: int
    def __init__(self, iri: _Optional[str] = ..., triples: _Optional[int] = ..., subjects: _Optional[int] = ..., objects: _Optional[int] = ..., foreign_subjects: _Optional[int] = ..., foreign_objects: _Optional[int] = ...) -> None: ...

class SandboxAsk(_message.Message):
    __slots__ = ("sandbox", "step", "points", "until", "borders_only")
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    BORDERS_ONLY_FIELD_NUMBER: _ClassVar[int]
    sandbox: str
    step: str
    points: _containers.RepeatedScalarFieldContainer[str]
    until: int
    borders_only: bool
    def __init__(self, sandbox: _Optional[str] = ..., step: _Optional[str] = ..., points: _Optional[_Iterable[str]] = ..., until: _Optional[int] = ..., borders_only: _Optional[bool] = ...) -> None: ...

class SandboxAnswer(_message.Message):
    __slots__ = ("view", "agreement", "level", "kpis", "expires_at")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    KPIS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    view: ViewDelta
    agreement: str
    level: str
    kpis: _containers.RepeatedScalarFieldContainer[str]
    expires_at: int
    def __init__(self, view: _Optional[_Union[ViewDelta, _Mapping]] = ..., agreement: _Optional[str] = ..., level: _Optional[str] = ..., kpis: _Optional[_Iterable[str]] = ..., expires_at: _Optional[int] = ...) -> None: ...

class LearnAsk(_message.Message):
    __slots__ = ("run", "step", "task", "message", "card", "arrays")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    run: str
    step: str
    task: bytes
    message: bytes
    card: bytes
    arrays: bytes
    def __init__(self, run: _Optional[str] = ..., step: _Optional[str] = ..., task: _Optional[bytes] = ..., message: _Optional[bytes] = ..., card: _Optional[bytes] = ..., arrays: _Optional[bytes] = ...) -> None: ...

class LearnAnswer(_message.Message):
    __slots__ = ("message", "facts")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    facts: bytes
    def __init__(self, message: _Optional[bytes] = ..., facts: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("ask_id", "version", "signed", "refusal")
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ask_id: int
    version: Version
    signed: Signed
    refusal: Refusal
    def __init__(self, ask_id: _Optional[int] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., signed: _Optional[_Union[Signed, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("outcome", "reason", "retry_after_ms")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    reason: str
    retry_after_ms: int
    def __init__(self, outcome: _Optional[str] = ..., reason: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("ask_id",)
    ASK_ID_FIELD_NUMBER: _ClassVar[int]
    ask_id: int
    def __init__(self, ask_id: _Optional[int] = ...) -> None: ...

class JobEnd(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("ping_id", "audit")
    PING_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    ping_id: int
    audit: AuditHead
    def __init__(self, ping_id: _Optional[int] = ..., audit: _Optional[_Union[AuditHead, _Mapping]] = ...) -> None: ...

class AuditHead(_message.Message):
    __slots__ = ("trail", "seq", "sha256")
    TRAIL_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    trail: str
    seq: int
    sha256: str
    def __init__(self, trail: _Optional[str] = ..., seq: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("ping_id",)
    PING_ID_FIELD_NUMBER: _ClassVar[int]
    ping_id: int
    def __init__(self, ping_id: _Optional[int] = ...) -> None: ...

class Reattach(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ListDomainsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDomainsResponse(_message.Message):
    __slots__ = ("domains",)
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    domains: _containers.RepeatedCompositeFieldContainer[DomainStatus]
    def __init__(self, domains: _Optional[_Iterable[_Union[DomainStatus, _Mapping]]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceStatus]
    def __init__(self, devices: _Optional[_Iterable[_Union[DeviceStatus, _Mapping]]] = ...) -> None: ...

class ListElementsRequest(_message.Message):
    __slots__ = ("domain", "kind", "id_prefix", "at")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    domain: str
    kind: str
    id_prefix: str
    at: int
    def __init__(self, domain: _Optional[str] = ..., kind: _Optional[str] = ..., id_prefix: _Optional[str] = ..., at: _Optional[int] = ...) -> None: ...

class ListElementsResponse(_message.Message):
    __slots__ = ("elements", "versions", "resolution")
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    elements: _containers.RepeatedCompositeFieldContainer[Element]
    versions: _containers.RepeatedCompositeFieldContainer[VersionOf]
    resolution: int
    def __init__(self, elements: _Optional[_Iterable[_Union[Element, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[VersionOf, _Mapping]]] = ..., resolution: _Optional[int] = ...) -> None: ...

class GetViewRequest(_message.Message):
    __slots__ = ("domain", "level")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    domain: str
    level: str
    def __init__(self, domain: _Optional[str] = ..., level: _Optional[str] = ...) -> None: ...

class GetViewResponse(_message.Message):
    __slots__ = ("views", "domains")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[ViewDelta]
    domains: _containers.RepeatedCompositeFieldContainer[DomainStatus]
    def __init__(self, views: _Optional[_Iterable[_Union[ViewDelta, _Mapping]]] = ..., domains: _Optional[_Iterable[_Union[DomainStatus, _Mapping]]] = ...) -> None: ...

class FindPathRequest(_message.Message):
    __slots__ = ("source", "target", "mode", "requirement", "alternatives", "disjoint")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    DISJOINT_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    mode: str
    requirement: Requirement
    alternatives: int
    disjoint: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., mode: _Optional[str] = ..., requirement: _Optional[_Union[Requirement, _Mapping]] = ..., alternatives: _Optional[int] = ..., disjoint: _Optional[bool] = ...) -> None: ...

class FindPathResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: PathAnswer
    def __init__(self, answer: _Optional[_Union[PathAnswer, _Mapping]] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services", "slices", "customers")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    CUSTOMERS_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[ServiceStatus]
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    customers: _containers.RepeatedCompositeFieldContainer[Customer]
    def __init__(self, services: _Optional[_Iterable[_Union[ServiceStatus, _Mapping]]] = ..., slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., customers: _Optional[_Iterable[_Union[Customer, _Mapping]]] = ...) -> None: ...

class ListFindingsRequest(_message.Message):
    __slots__ = ("domain",)
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    def __init__(self, domain: _Optional[str] = ...) -> None: ...

class ListFindingsResponse(_message.Message):
    __slots__ = ("findings",)
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("device", "path", "service", "start", "end", "step")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    device: str
    path: str
    service: str
    start: int
    end: int
    step: int
    def __init__(self, device: _Optional[str] = ..., path: _Optional[str] = ..., service: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("samples", "statuses", "events", "rolled_before", "resolution")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    statuses: _containers.RepeatedCompositeFieldContainer[ServiceStatus]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    rolled_before: int
    resolution: int
    def __init__(self, samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., statuses: _Optional[_Iterable[_Union[ServiceStatus, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., rolled_before: _Optional[int] = ..., resolution: _Optional[int] = ...) -> None: ...

class ListAlarmsRequest(_message.Message):
    __slots__ = ("domain", "all")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    domain: str
    all: bool
    def __init__(self, domain: _Optional[str] = ..., all: _Optional[bool] = ...) -> None: ...

class ListAlarmsResponse(_message.Message):
    __slots__ = ("alarms",)
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    alarms: _containers.RepeatedCompositeFieldContainer[Alarm]
    def __init__(self, alarms: _Optional[_Iterable[_Union[Alarm, _Mapping]]] = ...) -> None: ...

class SetAlarmStateRequest(_message.Message):
    __slots__ = ("id", "state", "note")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: str
    note: str
    def __init__(self, id: _Optional[str] = ..., state: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class SetAlarmStateResponse(_message.Message):
    __slots__ = ("alarm",)
    ALARM_FIELD_NUMBER: _ClassVar[int]
    alarm: Alarm
    def __init__(self, alarm: _Optional[_Union[Alarm, _Mapping]] = ...) -> None: ...

class CopyStateRequest(_message.Message):
    __slots__ = ("history_only",)
    HISTORY_ONLY_FIELD_NUMBER: _ClassVar[int]
    history_only: bool
    def __init__(self, history_only: _Optional[bool] = ...) -> None: ...

class CopyStateResponse(_message.Message):
    __slots__ = ("folder",)
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    folder: str
    def __init__(self, folder: _Optional[str] = ...) -> None: ...

class StartJobRequest(_message.Message):
    __slots__ = ("capability", "scope", "scenario", "requirements", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    capability: str
    scope: _containers.RepeatedScalarFieldContainer[str]
    scenario: bytes
    requirements: JobRequirements
    labels: _containers.ScalarMap[str, str]
    def __init__(self, capability: _Optional[str] = ..., scope: _Optional[_Iterable[str]] = ..., scenario: _Optional[bytes] = ..., requirements: _Optional[_Union[JobRequirements, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class StartJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetReportResponse(_message.Message):
    __slots__ = ("data", "bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    bytes: int
    def __init__(self, data: _Optional[bytes] = ..., bytes: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("kinds", "domain", "after")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    domain: str
    after: int
    def __init__(self, kinds: _Optional[_Iterable[str]] = ..., domain: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: Event
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("epoch", "sequence", "observed_at")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    sequence: int
    observed_at: int
    def __init__(self, epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., observed_at: _Optional[int] = ...) -> None: ...

class VersionOf(_message.Message):
    __slots__ = ("domain", "version")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    domain: str
    version: Version
    def __init__(self, domain: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...

class Kpi(_message.Message):
    __slots__ = ("name", "value", "unit", "std_error", "origin", "observed_at", "received_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    STD_ERROR_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    unit: str
    std_error: float
    origin: str
    observed_at: int
    received_at: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., std_error: _Optional[float] = ..., origin: _Optional[str] = ..., observed_at: _Optional[int] = ..., received_at: _Optional[int] = ...) -> None: ...

class Element(_message.Message):
    __slots__ = ("id", "kind", "domain", "name", "up", "stale", "attributes", "kpis")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    KPIS_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    domain: str
    name: str
    up: bool
    stale: bool
    attributes: _containers.ScalarMap[str, str]
    kpis: _containers.RepeatedCompositeFieldContainer[Kpi]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., domain: _Optional[str] = ..., name: _Optional[str] = ..., up: _Optional[bool] = ..., stale: _Optional[bool] = ..., attributes: _Optional[_Mapping[str, str]] = ..., kpis: _Optional[_Iterable[_Union[Kpi, _Mapping]]] = ...) -> None: ...

class PathKpis(_message.Message):
    __slots__ = ("delay_ms", "delay_variance_ms2", "loss", "bandwidth_mbps", "metric", "availability", "delay_std_error_ms", "origin", "shared_risks")
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    DELAY_VARIANCE_MS2_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    DELAY_STD_ERROR_MS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SHARED_RISKS_FIELD_NUMBER: _ClassVar[int]
    delay_ms: float
    delay_variance_ms2: float
    loss: float
    bandwidth_mbps: float
    metric: int
    availability: float
    delay_std_error_ms: float
    origin: str
    shared_risks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, delay_ms: _Optional[float] = ..., delay_variance_ms2: _Optional[float] = ..., loss: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., metric: _Optional[int] = ..., availability: _Optional[float] = ..., delay_std_error_ms: _Optional[float] = ..., origin: _Optional[str] = ..., shared_risks: _Optional[_Iterable[str]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("id", "domain", "kind", "role", "up", "link_id", "peer_domain", "capacity_mbps", "metric", "outbound", "stale")
    ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    LINK_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_MBPS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    id: str
    domain: str
    kind: str
    role: str
    up: bool
    link_id: str
    peer_domain: str
    capacity_mbps: float
    metric: int
    outbound: PathKpis
    stale: bool
    def __init__(self, id: _Optional[str] = ..., domain: _Optional[str] = ..., kind: _Optional[str] = ..., role: _Optional[str] = ..., up: _Optional[bool] = ..., link_id: _Optional[str] = ..., peer_domain: _Optional[str] = ..., capacity_mbps: _Optional[float] = ..., metric: _Optional[int] = ..., outbound: _Optional[_Union[PathKpis, _Mapping]] = ..., stale: _Optional[bool] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("source", "target", "current", "options", "truncated", "stale")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    current: PathKpis
    options: _containers.RepeatedCompositeFieldContainer[PathKpis]
    truncated: bool
    stale: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., current: _Optional[_Union[PathKpis, _Mapping]] = ..., options: _Optional[_Iterable[_Union[PathKpis, _Mapping]]] = ..., truncated: _Optional[bool] = ..., stale: _Optional[bool] = ...) -> None: ...

class SegmentKey(_message.Message):
    __slots__ = ("source", "target")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class ViewDelta(_message.Message):
    __slots__ = ("domain", "agreement", "level", "source", "target", "points", "segments", "gone_points", "gone_segments", "hidden_nodes", "hidden_links", "expires_at")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    GONE_POINTS_FIELD_NUMBER: _ClassVar[int]
    GONE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_NODES_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_LINKS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    domain: str
    agreement: str
    level: str
    source: Version
    target: Version
    points: _containers.RepeatedCompositeFieldContainer[Point]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    gone_points: _containers.RepeatedScalarFieldContainer[str]
    gone_segments: _containers.RepeatedCompositeFieldContainer[SegmentKey]
    hidden_nodes: int
    hidden_links: int
    expires_at: int
    def __init__(self, domain: _Optional[str] = ..., agreement: _Optional[str] = ..., level: _Optional[str] = ..., source: _Optional[_Union[Version, _Mapping]] = ..., target: _Optional[_Union[Version, _Mapping]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., gone_points: _Optional[_Iterable[str]] = ..., gone_segments: _Optional[_Iterable[_Union[SegmentKey, _Mapping]]] = ..., hidden_nodes: _Optional[int] = ..., hidden_links: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class Requirement(_message.Message):
    __slots__ = ("delay_ms", "bandwidth_mbps", "loss")
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    delay_ms: float
    bandwidth_mbps: float
    loss: float
    def __init__(self, delay_ms: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("domain", "source", "target", "kpis", "link_id", "stale")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KPIS_FIELD_NUMBER: _ClassVar[int]
    LINK_ID_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    domain: str
    source: str
    target: str
    kpis: PathKpis
    link_id: str
    stale: bool
    def __init__(self, domain: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., kpis: _Optional[_Union[PathKpis, _Mapping]] = ..., link_id: _Optional[str] = ..., stale: _Optional[bool] = ...) -> None: ...

class ComposedPath(_message.Message):
    __slots__ = ("hops", "total")
    HOPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    total: PathKpis
    def __init__(self, hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., total: _Optional[_Union[PathKpis, _Mapping]] = ...) -> None: ...

class DomainOutcome(_message.Message):
    __slots__ = ("domain", "outcome", "version", "reason")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    domain: str
    outcome: str
    version: Version
    reason: str
    def __init__(self, domain: _Optional[str] = ..., outcome: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class PathAnswer(_message.Message):
    __slots__ = ("source", "target", "mode", "requirement", "paths", "domains", "answered_at", "inner_approximation")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_FIELD_NUMBER: _ClassVar[int]
    INNER_APPROXIMATION_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    mode: str
    requirement: Requirement
    paths: _containers.RepeatedCompositeFieldContainer[ComposedPath]
    domains: _containers.RepeatedCompositeFieldContainer[DomainOutcome]
    answered_at: int
    inner_approximation: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., mode: _Optional[str] = ..., requirement: _Optional[_Union[Requirement, _Mapping]] = ..., paths: _Optional[_Iterable[_Union[ComposedPath, _Mapping]]] = ..., domains: _Optional[_Iterable[_Union[DomainOutcome, _Mapping]]] = ..., answered_at: _Optional[int] = ..., inner_approximation: _Optional[bool] = ...) -> None: ...

class Objective(_message.Message):
    __slots__ = ("delay_ms", "loss", "availability", "bandwidth_mbps")
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MBPS_FIELD_NUMBER: _ClassVar[int]
    delay_ms: float
    loss: float
    availability: float
    bandwidth_mbps: float
    def __init__(self, delay_ms: _Optional[float] = ..., loss: _Optional[float] = ..., availability: _Optional[float] = ..., bandwidth_mbps: _Optional[float] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("id", "name", "source", "target", "objective", "customer", "slice")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    source: str
    target: str
    objective: Objective
    customer: str
    slice: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., objective: _Optional[_Union[Objective, _Mapping]] = ..., customer: _Optional[str] = ..., slice: _Optional[str] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("id", "name", "snssai", "customer", "elements")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNSSAI_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    snssai: str
    customer: str
    elements: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., snssai: _Optional[str] = ..., customer: _Optional[str] = ..., elements: _Optional[_Iterable[str]] = ...) -> None: ...

class Customer(_message.Message):
    __slots__ = ("id", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class BudgetShare(_message.Message):
    __slots__ = ("domain", "share_ms", "used_ms", "outcome")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SHARE_MS_FIELD_NUMBER: _ClassVar[int]
    USED_MS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    domain: str
    share_ms: float
    used_ms: float
    outcome: str
    def __init__(self, domain: _Optional[str] = ..., share_ms: _Optional[float] = ..., used_ms: _Optional[float] = ..., outcome: _Optional[str] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("service", "path", "budget", "domains", "met", "at", "cause")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    MET_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    service: Service
    path: ComposedPath
    budget: _containers.RepeatedCompositeFieldContainer[BudgetShare]
    domains: _containers.RepeatedCompositeFieldContainer[DomainOutcome]
    met: bool
    at: int
    cause: str
    def __init__(self, service: _Optional[_Union[Service, _Mapping]] = ..., path: _Optional[_Union[ComposedPath, _Mapping]] = ..., budget: _Optional[_Iterable[_Union[BudgetShare, _Mapping]]] = ..., domains: _Optional[_Iterable[_Union[DomainOutcome, _Mapping]]] = ..., met: _Optional[bool] = ..., at: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class DomainStatus(_message.Message):
    __slots__ = ("domain", "operator", "connected", "level", "version", "received_at", "points", "segments", "hidden_nodes", "hidden_links", "peer", "problem")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_NODES_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_LINKS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    domain: str
    operator: str
    connected: bool
    level: str
    version: Version
    received_at: int
    points: int
    segments: int
    hidden_nodes: int
    hidden_links: int
    peer: str
    problem: str
    def __init__(self, domain: _Optional[str] = ..., operator: _Optional[str] = ..., connected: _Optional[bool] = ..., level: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., received_at: _Optional[int] = ..., points: _Optional[int] = ..., segments: _Optional[int] = ..., hidden_nodes: _Optional[int] = ..., hidden_links: _Optional[int] = ..., peer: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class DeviceStatus(_message.Message):
    __slots__ = ("name", "protocol", "connection", "address", "received_at", "leaves", "updates", "quarantined", "reconnects", "problem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    RECONNECTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: str
    connection: str
    address: str
    received_at: int
    leaves: int
    updates: int
    quarantined: int
    reconnects: int
    problem: str
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[str] = ..., connection: _Optional[str] = ..., address: _Optional[str] = ..., received_at: _Optional[int] = ..., leaves: _Optional[int] = ..., updates: _Optional[int] = ..., quarantined: _Optional[int] = ..., reconnects: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("code", "severity", "domain", "element", "message", "remedy", "since")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: str
    domain: str
    element: str
    message: str
    remedy: str
    since: int
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[str] = ..., domain: _Optional[str] = ..., element: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., since: _Optional[int] = ...) -> None: ...

class Alarm(_message.Message):
    __slots__ = ("id", "domain", "device", "resource", "alarm_type", "qualifier", "source", "severity", "text", "is_cleared", "created_at", "raised_at", "changed_at", "cleared_at", "element", "remedy", "occurrences", "stale", "operator_state", "operator", "note", "changes")
    ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ALARM_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUALIFIER_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_CLEARED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    RAISED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    CLEARED_AT_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    OCCURRENCES_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_STATE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    id: str
    domain: str
    device: str
    resource: str
    alarm_type: str
    qualifier: str
    source: str
    severity: str
    text: str
    is_cleared: bool
    created_at: int
    raised_at: int
    changed_at: int
    cleared_at: int
    element: str
    remedy: str
    occurrences: int
    stale: bool
    operator_state: str
    operator: str
    note: str
    changes: _containers.RepeatedCompositeFieldContainer[AlarmStatusChange]
    def __init__(self, id: _Optional[str] = ..., domain: _Optional[str] = ..., device: _Optional[str] = ..., resource: _Optional[str] = ..., alarm_type: _Optional[str] = ..., qualifier: _Optional[str] = ..., source: _Optional[str] = ..., severity: _Optional[str] = ..., text: _Optional[str] = ..., is_cleared: _Optional[bool] = ..., created_at: _Optional[int] = ..., raised_at: _Optional[int] = ..., changed_at: _Optional[int] = ..., cleared_at: _Optional[int] = ..., element: _Optional[str] = ..., remedy: _Optional[str] = ..., occurrences: _Optional[int] = ..., stale: _Optional[bool] = ..., operator_state: _Optional[str] = ..., operator: _Optional[str] = ..., note: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[AlarmStatusChange, _Mapping]]] = ...) -> None: ...

class AlarmStatusChange(_message.Message):
    __slots__ = ("at", "severity", "text")
    AT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    at: int
    severity: str
    text: str
    def __init__(self, at: _Optional[int] = ..., severity: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "capability", "scope", "scenario", "requirements", "state", "created_at", "ended_at", "progress", "step", "problem", "owner", "parent", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    id: str
    capability: str
    scope: _containers.RepeatedScalarFieldContainer[str]
    scenario: bytes
    requirements: JobRequirements
    state: str
    created_at: int
    ended_at: int
    progress: float
    step: str
    problem: str
    owner: str
    parent: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., capability: _Optional[str] = ..., scope: _Optional[_Iterable[str]] = ..., scenario: _Optional[bytes] = ..., requirements: _Optional[_Union[JobRequirements, _Mapping]] = ..., state: _Optional[str] = ..., created_at: _Optional[int] = ..., ended_at: _Optional[int] = ..., progress: _Optional[float] = ..., step: _Optional[str] = ..., problem: _Optional[str] = ..., owner: _Optional[str] = ..., parent: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class JobRequirements(_message.Message):
    __slots__ = ("deadline_s", "at_versions", "delay_ms", "loss")
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    AT_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    deadline_s: float
    at_versions: _containers.RepeatedCompositeFieldContainer[VersionOf]
    delay_ms: float
    loss: float
    def __init__(self, deadline_s: _Optional[float] = ..., at_versions: _Optional[_Iterable[_Union[VersionOf, _Mapping]]] = ..., delay_ms: _Optional[float] = ..., loss: _Optional[float] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("at", "value", "origin")
    AT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    at: int
    value: float
    origin: str
    def __init__(self, at: _Optional[int] = ..., value: _Optional[float] = ..., origin: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "at", "kind", "domain", "text", "domain_status", "service_status", "finding", "device_status", "observed_at", "alarm")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_STATUS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_STATUS_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    DEVICE_STATUS_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    id: int
    at: int
    kind: str
    domain: str
    text: str
    domain_status: DomainStatus
    service_status: ServiceStatus
    finding: Finding
    device_status: DeviceStatus
    observed_at: int
    alarm: Alarm
    def __init__(self, id: _Optional[int] = ..., at: _Optional[int] = ..., kind: _Optional[str] = ..., domain: _Optional[str] = ..., text: _Optional[str] = ..., domain_status: _Optional[_Union[DomainStatus, _Mapping]] = ..., service_status: _Optional[_Union[ServiceStatus, _Mapping]] = ..., finding: _Optional[_Union[Finding, _Mapping]] = ..., device_status: _Optional[_Union[DeviceStatus, _Mapping]] = ..., observed_at: _Optional[int] = ..., alarm: _Optional[_Union[Alarm, _Mapping]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("query", "format", "max_rows", "timeout_ms", "require", "explain", "view")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    query: str
    format: str
    max_rows: int
    timeout_ms: int
    require: str
    explain: bool
    view: str
    def __init__(self, query: _Optional[str] = ..., format: _Optional[str] = ..., max_rows: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., require: _Optional[str] = ..., explain: _Optional[bool] = ..., view: _Optional[str] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("head", "data", "end")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    head: QueryHead
    data: bytes
    end: QueryEnd
    def __init__(self, head: _Optional[_Union[QueryHead, _Mapping]] = ..., data: _Optional[bytes] = ..., end: _Optional[_Union[QueryEnd, _Mapping]] = ...) -> None: ...

class QueryHead(_message.Message):
    __slots__ = ("form", "media_type")
    FORM_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    form: str
    media_type: str
    def __init__(self, form: _Optional[str] = ..., media_type: _Optional[str] = ...) -> None: ...

class QueryEnd(_message.Message):
    __slots__ = ("rows", "stopped_by", "parts", "plan", "requests", "bytes", "notes")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_BY_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    stopped_by: str
    parts: _containers.RepeatedCompositeFieldContainer[QueryPart]
    plan: str
    requests: int
    bytes: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rows: _Optional[int] = ..., stopped_by: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[QueryPart, _Mapping]]] = ..., plan: _Optional[str] = ..., requests: _Optional[int] = ..., bytes: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryPart(_message.Message):
    __slots__ = ("domain", "outcome", "reason", "version", "requests", "rows")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    domain: str
    outcome: str
    reason: str
    version: Version
    requests: int
    rows: int
    def __init__(self, domain: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., requests: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class GetImpactRequest(_message.Message):
    __slots__ = ("element", "require", "also")
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    ALSO_FIELD_NUMBER: _ClassVar[int]
    element: str
    require: str
    also: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, element: _Optional[str] = ..., require: _Optional[str] = ..., also: _Optional[_Iterable[str]] = ...) -> None: ...

class GetImpactResponse(_message.Message):
    __slots__ = ("element", "affected", "parts")
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    element: str
    affected: _containers.RepeatedCompositeFieldContainer[Affected]
    parts: _containers.RepeatedCompositeFieldContainer[QueryPart]
    def __init__(self, element: _Optional[str] = ..., affected: _Optional[_Iterable[_Union[Affected, _Mapping]]] = ..., parts: _Optional[_Iterable[_Union[QueryPart, _Mapping]]] = ...) -> None: ...

class Affected(_message.Message):
    __slots__ = ("kind", "id", "name", "domain", "evidence")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: str
    name: str
    domain: str
    evidence: _containers.RepeatedCompositeFieldContainer[Dependency]
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[str] = ..., name: _Optional[str] = ..., domain: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ...) -> None: ...

class Dependency(_message.Message):
    __slots__ = ("subject", "relation", "object", "domain")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    subject: str
    relation: str
    object: str
    domain: str
    def __init__(self, subject: _Optional[str] = ..., relation: _Optional[str] = ..., object: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class CheckGraphRequest(_message.Message):
    __slots__ = ("shape",)
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    shape: str
    def __init__(self, shape: _Optional[str] = ...) -> None: ...

class CheckGraphResponse(_message.Message):
    __slots__ = ("findings", "shapes", "parts")
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    shapes: int
    parts: _containers.RepeatedCompositeFieldContainer[QueryPart]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., shapes: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[QueryPart, _Mapping]]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("tenant", "kind", "id", "version", "sequence", "body", "changed_at")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    kind: str
    id: str
    version: int
    sequence: int
    body: bytes
    changed_at: int
    def __init__(self, tenant: _Optional[str] = ..., kind: _Optional[str] = ..., id: _Optional[str] = ..., version: _Optional[int] = ..., sequence: _Optional[int] = ..., body: _Optional[bytes] = ..., changed_at: _Optional[int] = ...) -> None: ...

class CreateRecordRequest(_message.Message):
    __slots__ = ("tenant", "kind", "body", "key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    kind: str
    body: bytes
    key: str
    def __init__(self, tenant: _Optional[str] = ..., kind: _Optional[str] = ..., body: _Optional[bytes] = ..., key: _Optional[str] = ...) -> None: ...

class CreateRecordResponse(_message.Message):
    __slots__ = ("record", "repeated_key")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    REPEATED_KEY_FIELD_NUMBER: _ClassVar[int]
    record: Record
    repeated_key: bool
    def __init__(self, record: _Optional[_Union[Record, _Mapping]] = ..., repeated_key: _Optional[bool] = ...) -> None: ...

class ChangeRecordRequest(_message.Message):
    __slots__ = ("tenant", "kind", "id", "patch", "if_version")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    kind: str
    id: str
    patch: bytes
    if_version: int
    def __init__(self, tenant: _Optional[str] = ..., kind: _Optional[str] = ..., id: _Optional[str] = ..., patch: _Optional[bytes] = ..., if_version: _Optional[int] = ...) -> None: ...

class ChangeRecordResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: Record
    def __init__(self, record: _Optional[_Union[Record, _Mapping]] = ...) -> None: ...

class RemoveRecordRequest(_message.Message):
    __slots__ = ("tenant", "kind", "id", "if_version")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    kind: str
    id: str
    if_version: int
    def __init__(self, tenant: _Optional[str] = ..., kind: _Optional[str] = ..., id: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class RemoveRecordResponse(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class FollowRecordsRequest(_message.Message):
    __slots__ = ("after", "epoch")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    after: int
    epoch: str
    def __init__(self, after: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class FollowRecordsResponse(_message.Message):
    __slots__ = ("records", "epoch", "sequence", "complete", "begins_anew", "at", "tenants")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    BEGINS_ANEW_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    epoch: str
    sequence: int
    complete: bool
    begins_anew: bool
    at: int
    tenants: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., complete: _Optional[bool] = ..., begins_anew: _Optional[bool] = ..., at: _Optional[int] = ..., tenants: _Optional[_Iterable[str]] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("tenant", "id", "api", "callback", "query", "state", "waiting", "dead", "last_error", "failing_since")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    FAILING_SINCE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    api: str
    callback: str
    query: str
    state: str
    waiting: int
    dead: int
    last_error: str
    failing_since: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., api: _Optional[str] = ..., callback: _Optional[str] = ..., query: _Optional[str] = ..., state: _Optional[str] = ..., waiting: _Optional[int] = ..., dead: _Optional[int] = ..., last_error: _Optional[str] = ..., failing_since: _Optional[str] = ...) -> None: ...

class ListSubscriptionsRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class ListSubscriptionsResponse(_message.Message):
    __slots__ = ("subscriptions",)
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    def __init__(self, subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("event_id", "event_type", "at", "resource_id", "attempts", "reason")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_type: str
    at: int
    resource_id: str
    attempts: int
    reason: str
    def __init__(self, event_id: _Optional[str] = ..., event_type: _Optional[str] = ..., at: _Optional[int] = ..., resource_id: _Optional[str] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("tenant", "id", "limit")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    limit: int
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    def __init__(self, letters: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ...) -> None: ...

class RetryDeliveriesRequest(_message.Message):
    __slots__ = ("tenant", "id")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    id: str
    def __init__(self, tenant: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class RetryDeliveriesResponse(_message.Message):
    __slots__ = ("subscription", "retried")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    RETRIED_FIELD_NUMBER: _ClassVar[int]
    subscription: Subscription
    retried: int
    def __init__(self, subscription: _Optional[_Union[Subscription, _Mapping]] = ..., retried: _Optional[int] = ...) -> None: ...

class LearningRun(_message.Message):
    __slots__ = ("id", "task", "domains", "state", "round", "rounds", "created_at", "ended_at", "problem", "owner", "log", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    task: bytes
    domains: _containers.RepeatedScalarFieldContainer[str]
    state: str
    round: int
    rounds: int
    created_at: int
    ended_at: int
    problem: str
    owner: str
    log: bytes
    version: int
    def __init__(self, id: _Optional[str] = ..., task: _Optional[bytes] = ..., domains: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., created_at: _Optional[int] = ..., ended_at: _Optional[int] = ..., problem: _Optional[str] = ..., owner: _Optional[str] = ..., log: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class StartRunRequest(_message.Message):
    __slots__ = ("task", "domains")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    task: bytes
    domains: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[bytes] = ..., domains: _Optional[_Iterable[str]] = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: LearningRun
    def __init__(self, run: _Optional[_Union[LearningRun, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: LearningRun
    def __init__(self, run: _Optional[_Union[LearningRun, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[LearningRun]
    def __init__(self, runs: _Optional[_Iterable[_Union[LearningRun, _Mapping]]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: LearningRun
    def __init__(self, run: _Optional[_Union[LearningRun, _Mapping]] = ...) -> None: ...

class StopRunRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class StopRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: LearningRun
    def __init__(self, run: _Optional[_Union[LearningRun, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class LearnedModel(_message.Message):
    __slots__ = ("card", "in_service", "reason")
    CARD_FIELD_NUMBER: _ClassVar[int]
    IN_SERVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    card: bytes
    in_service: bool
    reason: str
    def __init__(self, card: _Optional[bytes] = ..., in_service: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[LearnedModel]
    def __init__(self, models: _Optional[_Iterable[_Union[LearnedModel, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version", "arrays", "own")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    arrays: bool
    own: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., arrays: _Optional[bool] = ..., own: _Optional[bool] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "data", "bytes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    model: LearnedModel
    data: bytes
    bytes: int
    def __init__(self, model: _Optional[_Union[LearnedModel, _Mapping]] = ..., data: _Optional[bytes] = ..., bytes: _Optional[int] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("model", "outcomes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    model: LearnedModel
    outcomes: _containers.RepeatedCompositeFieldContainer[DomainOutcome]
    def __init__(self, model: _Optional[_Union[LearnedModel, _Mapping]] = ..., outcomes: _Optional[_Iterable[_Union[DomainOutcome, _Mapping]]] = ...) -> None: ...

class GetForecastRequest(_message.Message):
    __slots__ = ("model", "elements", "hindsight")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HINDSIGHT_FIELD_NUMBER: _ClassVar[int]
    model: str
    elements: _containers.RepeatedScalarFieldContainer[str]
    hindsight: bool
    def __init__(self, model: _Optional[str] = ..., elements: _Optional[_Iterable[str]] = ..., hindsight: _Optional[bool] = ...) -> None: ...

class Forecast(_message.Message):
    __slots__ = ("element", "kpi", "unit", "at", "times", "quantiles", "values", "truth")
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    KPI_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    QUANTILES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    element: str
    kpi: str
    unit: str
    at: int
    times: _containers.RepeatedScalarFieldContainer[int]
    quantiles: _containers.RepeatedScalarFieldContainer[float]
    values: _containers.RepeatedScalarFieldContainer[float]
    truth: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, element: _Optional[str] = ..., kpi: _Optional[str] = ..., unit: _Optional[str] = ..., at: _Optional[int] = ..., times: _Optional[_Iterable[int]] = ..., quantiles: _Optional[_Iterable[float]] = ..., values: _Optional[_Iterable[float]] = ..., truth: _Optional[_Iterable[float]] = ...) -> None: ...

class GetForecastResponse(_message.Message):
    __slots__ = ("forecasts", "version")
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    forecasts: _containers.RepeatedCompositeFieldContainer[Forecast]
    version: int
    def __init__(self, forecasts: _Optional[_Iterable[_Union[Forecast, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...
