"""The one place that knows Flower: what is switched off before it is imported, and its messages as bytes.

Owns every import of flwr that is not public (`tests/learning/test_flower_contract.py` fails when one of them
changes), the identity that Flower wants of a process, and the reading of arrays that a stranger wrote.
Nothing here opens a connection. Importing this module imports Flower, 0.5 s: it is done where learning is.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays

__all__ = [
    "DTYPES",
    "MAX_MESSAGE_BYTES",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "FedAvg",
    "FedMedian",
    "FedProx",
    "Grid",
    "Message",
    "MetricRecord",
    "MultiKrum",
    "RecordDict",
    "Run",
    "ServerApp",
    "Strategy",
    "arrays_in",
    "context",
    "decode",
    "empty_run",
    "encode",
    "node_number",
    "record_of",
    "run_number",
]

SUPPORTED: Final = "1.41."
"""Versions of flwr whose private parts are known."""
MAX_MESSAGE_BYTES: Final = 16 << 20
"""What an ask of a session carries at most (federation.wire.framing.MAX_ASK_BYTES)."""
DTYPES: Final = frozenset({"float32", "float64"})

_OFF: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",  # else it posts to its makers
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else it installs an app's dependencies as it runs
}

os.environ.update(_OFF)
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else Flower has gRPC write lines, in children too
# Flower's settings; what runs for long names a place in its state folder before.
os.environ.setdefault("FLWR_HOME", str(Path(tempfile.gettempdir()) / f"fedtwin-flwr-{os.getuid()}"))

if not version("flwr").startswith(SUPPORTED):
    raise ConfigError(
        f"flwr {version('flwr')} is installed; learning needs {SUPPORTED}x: pip install 'flwr~=1.41.0'"
    )

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of click, by way of typer, while flwr is imported
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as MessageProto
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg, FedMedian, FedProx, MultiKrum, Strategy
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity

_BEFORE_HEADER: Final = 10
_MAX_HEADER_BYTES: Final = 1024
_SERVER: Final = 1  # the node that asks; domains have the number of their name
_BITS: Final = 62  # fits Flower's signed and unsigned fields alike


def _settle() -> None:
    """Outside Flower's own processes: an identity, without which no Message can be made, and a quiet log."""
    if TaskIdentity._task_id is not None:
        return
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = _SERVER
    log = logging.getLogger("flwr")
    for handler in tuple(log.handlers):
        log.removeHandler(handler)
    log.propagate = True
    log.setLevel(logging.WARNING)


_settle()


def run_number(run: str) -> int:
    """The number that Flower knows `run` by: the same at every peer."""
    return _number("run", run)


def node_number(domain: str) -> int:
    """The number of `domain`'s node: the same in every run."""
    return _number("domain", domain)


def _number(kind: str, name: str) -> int:
    digest = hashlib.sha256(f"{kind}:{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) | 2  # never 0 and never the server's 1


def encode(message: Message, *, run: str = "", message_id: str = "") -> bytes:
    """`message` as Flower's protobuf, with an id of its own and, where given, the number of `run`.

    Flower takes a message's run from a global of the process; here several runs share one.
    """
    proto = message_to_proto(message)
    proto.metadata.message_id = message_id or uuid.uuid4().hex
    if run:
        proto.metadata.run_id = run_number(run)
    data: bytes = proto.SerializeToString()
    return data


def decode(data: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """The message that `data` is. Raises ContractError for what is too large or no message of Flower's."""
    if len(data) > limit_bytes:
        raise ContractError(f"a message of {len(data)} bytes; {limit_bytes} are taken at most")
    try:
        return message_from_proto(MessageProto.FromString(data))
    except Exception as error:  # whatever it is that a stranger's bytes make Flower or protobuf raise
        raise ContractError(f"{len(data)} bytes are no message of Flower's: {type(error).__name__}") from None


def record_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> ArrayRecord:
    """`arrays` as Flower sends them."""
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in arrays.items()})


def arrays_in(record: ArrayRecord) -> Arrays:
    """The arrays of `record`, whoever wrote it. Raises ContractError where one is not what it says.

    numpy's own reader reserves what a header asks for before it looks at how much follows: here nothing is
    reserved but what arrived.
    """
    return {str(name): _read(str(name), array) for name, array in record.items()}


def _read(name: str, array: Array) -> np.ndarray[Any, Any]:
    data = array.data
    begin = _BEFORE_HEADER + int.from_bytes(data[_BEFORE_HEADER - 2 : _BEFORE_HEADER], "little")
    try:
        if array.stype != "numpy.ndarray" or begin > _MAX_HEADER_BYTES:
            raise ValueError
        shape, fortran, dtype = _header(data[:begin])
    except Exception:  # whatever a stranger's header makes numpy raise
        raise ContractError(f"array {name[:64]!r}: not an array as numpy writes it") from None
    if str(dtype) not in DTYPES:
        kinds = " or ".join(sorted(DTYPES))
        raise ContractError(f"array {name[:64]!r}: dtype {str(dtype)[:32]}; {kinds} is taken")
    if len(data) - begin != math.prod(shape) * dtype.itemsize:
        raise ContractError(
            f"array {name[:64]!r}: {len(data) - begin} bytes do not fill shape {list(shape)[:8]}"
        )
    flat: np.ndarray[Any, Any] = np.frombuffer(data, dtype, offset=begin)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


@lru_cache(maxsize=1024)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype. A model's headers come again in every message."""
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError
    read: tuple[tuple[int, ...], bool, np.dtype[Any]] = np.lib.format.read_array_header_1_0(stream)
    return read


def context(node: int, run_id: int) -> Context:
    """An empty context of a node in a run."""
    return Context(run_id=run_id, node_id=node, node_config={}, state=RecordDict(), run_config={})


def empty_run(run: str) -> Run:
    """Flower's record of `run`; strategies of its own read the number only."""
    return Run.create_empty(run_number(run))
