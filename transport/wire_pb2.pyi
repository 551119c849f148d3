from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerMessage(_message.Message):
    __slots__ = ("hello", "start", "ready", "refuse", "abort", "bye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSE_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    start: Start
    ready: Ready
    refuse: Refuse
    abort: Abort
    bye: Bye
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ..., refuse: _Optional[_Union[Refuse, _Mapping]] = ..., abort: _Optional[_Union[Abort, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("wire", "version", "model_digest", "party", "instance", "components", "network")
    WIRE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    wire: int
    version: str
    model_digest: bytes
    party: int
    instance: bytes
    components: bytes
    network: Network
    def __init__(self, wire: _Optional[int] = ..., version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., party: _Optional[int] = ..., instance: _Optional[bytes] = ..., components: _Optional[bytes] = ..., network: _Optional[_Union[Network, _Mapping]] = ...) -> None: ...

class Network(_message.Message):
    __slots__ = ("latency", "bandwidth")
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_FIELD_NUMBER: _ClassVar[int]
    latency: float
    bandwidth: float
    def __init__(self, latency: _Optional[float] = ..., bandwidth: _Optional[float] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("session", "request", "digest")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    request: bytes
    digest: bytes
    def __init__(self, session: _Optional[bytes] = ..., request: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("session", "coins", "beside")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    COINS_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    coins: _containers.RepeatedScalarFieldContainer[bytes]
    beside: _containers.RepeatedCompositeFieldContainer[Ready]
    def __init__(self, session: _Optional[bytes] = ..., coins: _Optional[_Iterable[bytes]] = ..., beside: _Optional[_Iterable[_Union[Ready, _Mapping]]] = ...) -> None: ...

class Refuse(_message.Message):
    __slots__ = ("session", "failure")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    failure: Failure
    def __init__(self, session: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("session", "message")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    message: str
    def __init__(self, session: _Optional[bytes] = ..., message: _Optional[str] = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("request", "status", "cancel", "sizes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    request: Request
    status: StatusQuery
    cancel: Cancel
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[_Union[Request, _Mapping]] = ..., status: _Optional[_Union[StatusQuery, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "model_digest", "version", "inputs", "outputs", "public_buffers", "handle", "keep", "release", "network", "model", "commitment", "opened")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_BUFFERS_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    model_digest: bytes
    version: str
    inputs: _containers.RepeatedCompositeFieldContainer[Array]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    public_buffers: int
    handle: bytes
    keep: _containers.RepeatedScalarFieldContainer[str]
    release: _containers.RepeatedCompositeFieldContainer[Held]
    network: Network
    model: str
    commitment: bytes
    opened: Opened
    def __init__(self, id: _Optional[bytes] = ..., model_digest: _Optional[bytes] = ..., version: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Array, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ..., public_buffers: _Optional[int] = ..., handle: _Optional[bytes] = ..., keep: _Optional[_Iterable[str]] = ..., release: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., network: _Optional[_Union[Network, _Mapping]] = ..., model: _Optional[str] = ..., commitment: _Optional[bytes] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("request", "opening")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    opening: bytes
    def __init__(self, request: _Optional[bytes] = ..., opening: _Optional[bytes] = ...) -> None: ...

class AuditFile(_message.Message):
    __slots__ = ("request", "public", "servers", "client_key", "opening", "error", "version")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_KEY_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    request: Request
    public: _containers.RepeatedScalarFieldContainer[bytes]
    servers: _containers.RepeatedCompositeFieldContainer[OneServer]
    client_key: str
    opening: bytes
    error: str
    version: str
    def __init__(self, request: _Optional[_Union[Request, _Mapping]] = ..., public: _Optional[_Iterable[bytes]] = ..., servers: _Optional[_Iterable[_Union[OneServer, _Mapping]]] = ..., client_key: _Optional[str] = ..., opening: _Optional[bytes] = ..., error: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class OneServer(_message.Message):
    __slots__ = ("private", "key", "signing_key", "receipt", "testimony", "refusal")
    PRIVATE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    TESTIMONY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    private: _containers.RepeatedScalarFieldContainer[bytes]
    key: str
    signing_key: str
    receipt: bytes
    testimony: bytes
    refusal: str
    def __init__(self, private: _Optional[_Iterable[bytes]] = ..., key: _Optional[str] = ..., signing_key: _Optional[str] = ..., receipt: _Optional[bytes] = ..., testimony: _Optional[bytes] = ..., refusal: _Optional[str] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("handle", "name", "skip", "axis")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SKIP_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    name: str
    skip: int
    axis: int
    def __init__(self, handle: _Optional[bytes] = ..., name: _Optional[str] = ..., skip: _Optional[int] = ..., axis: _Optional[int] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("name", "dtype", "shape", "secret", "ring_bits", "fraction_bits", "encoding", "buffers", "held")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    RING_BITS_FIELD_NUMBER: _ClassVar[int]
    FRACTION_BITS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    secret: bool
    ring_bits: int
    fraction_bits: int
    encoding: str
    buffers: int
    held: Held
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., secret: bool = ..., ring_bits: _Optional[int] = ..., fraction_bits: _Optional[int] = ..., encoding: _Optional[str] = ..., buffers: _Optional[int] = ..., held: _Optional[_Union[Held, _Mapping]] = ...) -> None: ...

class StatusQuery(_message.Message):
    __slots__ = ("tag",)
    TAG_FIELD_NUMBER: _ClassVar[int]
    tag: bytes
    def __init__(self, tag: _Optional[bytes] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    def __init__(self, request: _Optional[bytes] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("request", "accepted", "queued", "progress", "result", "failure", "status", "sizes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    accepted: Accepted
    queued: Queued
    progress: Progress
    result: Result
    failure: Failure
    status: Status
    sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[bytes] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    def __init__(self, session: _Optional[bytes] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("ahead",)
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    ahead: int
    def __init__(self, ahead: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "steps", "label", "bytes_sent", "seconds")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    step: int
    steps: int
    label: str
    bytes_sent: int
    seconds: float
    def __init__(self, step: _Optional[int] = ..., steps: _Optional[int] = ..., label: _Optional[str] = ..., bytes_sent: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("outputs", "bytes_sent", "messages_sent", "rounds", "seconds")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_SENT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[Array]
    bytes_sent: int
    messages_sent: int
    rounds: int
    seconds: float
    def __init__(self, outputs: _Optional[_Iterable[_Union[Array, _Mapping]]] = ..., bytes_sent: _Optional[int] = ..., messages_sent: _Optional[int] = ..., rounds: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("error", "message", "hint", "retry_after")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    error: str
    message: str
    hint: str
    retry_after: float
    def __init__(self, error: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., retry_after: _Optional[float] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("version", "model_digest", "party", "state", "waiting", "uptime_seconds", "detail", "network", "models", "running", "plans", "peers", "kept_bytes", "memory_bytes", "connections", "signs")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    SIGNS_FIELD_NUMBER: _ClassVar[int]
    version: str
    model_digest: bytes
    party: int
    state: str
    waiting: int
    uptime_seconds: float
    detail: str
    network: Network
    models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    running: int
    plans: int
    peers: _containers.RepeatedCompositeFieldContainer[PeerSeen]
    kept_bytes: int
    memory_bytes: int
    connections: int
    signs: bool
    def __init__(self, version: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., party: _Optional[int] = ..., state: _Optional[str] = ..., waiting: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., detail: _Optional[str] = ..., network: _Optional[_Union[Network, _Mapping]] = ..., models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ..., running: _Optional[int] = ..., plans: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[PeerSeen, _Mapping]]] = ..., kept_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., connections: _Optional[int] = ..., signs: bool = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "digest", "graphs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: bytes
    graphs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[bytes] = ..., graphs: _Optional[_Iterable[str]] = ...) -> None: ...

class PeerSeen(_message.Message):
    __slots__ = ("party", "connected", "version")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    party: int
    connected: bool
    version: str
    def __init__(self, party: _Optional[int] = ..., connected: bool = ..., version: _Optional[str] = ...) -> None: ...
