"""What is private in flwr and used all the same, and what a stranger's bytes may not do."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from domain_twin.errors import ContractError
from domain_twin.learning import flower
from domain_twin.learning.flower import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    decode,
    encode,
    node_number,
    record_of,
    run_number,
)

ROOT = Path(__file__).resolve().parents[2]


def message(**arrays: np.ndarray) -> Message:
    content = RecordDict({"arrays": record_of(arrays), "config": ConfigRecord({"server-round": 3})})
    return Message(content, dst_node_id=node_number("ran"), message_type="train", group_id="3")


def array(data: bytes, dtype: str = "float32") -> ArrayRecord:
    return ArrayRecord({"w": Array(dtype, (2,), "numpy.ndarray", data)})


def test_flower_is_the_version_whose_private_parts_are_known() -> None:
    from importlib.metadata import version

    assert version("flwr").startswith(flower.SUPPORTED)


def test_private_parts_are_as_they_are_used() -> None:
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as Proto
    from flwr.supercore.run import Run
    from flwr.supercore.task_identity import TaskIdentity

    assert list(inspect.signature(message_to_proto).parameters) == ["message"]
    assert list(inspect.signature(message_from_proto).parameters) == ["message_proto"]
    assert {"run_id", "message_id", "src_node_id", "dst_node_id", "reply_to_message_id", "message_type"} <= {
        field.name for field in Proto.DESCRIPTOR.fields_by_name["metadata"].message_type.fields
    }
    assert Run.create_empty(7).run_id == 7
    assert (TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id) == (1, 1, 1)
    assert "_message_id" in message(w=np.zeros(1)).metadata.__dict__


def test_strategies_ask_their_subclasses_for_what_is_overridden() -> None:
    wanted = {
        "configure_train",
        "aggregate_train",
        "configure_evaluate",
        "aggregate_evaluate",
        "summary",
    }
    assert flower.Strategy.__abstractmethods__ == wanted
    assert {"train_metrics_aggr_fn"} <= set(inspect.signature(flower.MultiKrum.__init__).parameters)


def test_private_imports_are_in_few_modules() -> None:
    """Flower's new API in one; SecAgg+, which is on its old path only, and its commands in one each."""
    public = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
    for path in [*(ROOT / "domain_twin").rglob("*.py"), *(ROOT / "federation").rglob("*.py")]:
        if path.name in {"flower.py", "secagg.py", "flower_control.py"}:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith(("import flwr", "from flwr")):
                assert line.split()[1].startswith(public), f"{path}: {line}"


def test_what_flower_would_send_to_its_makers_is_switched_off_before_it_is_imported() -> None:
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    text = (ROOT / "domain_twin/learning/flower.py").read_text(encoding="utf-8")
    assert text.index("os.environ.update(_OFF)") < text.index("from flwr.app")


def test_a_training_opens_no_connection_and_writes_nothing_at_home(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, sys
        home = os.environ["HOME"]
        def watch(event, arguments):
            if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
                print("CONNECTS", event, arguments, flush=True)
            if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax"):
                if str(arguments[0]).startswith(home):
                    print("WRITES", arguments[0], flush=True)
        sys.addaudithook(watch)
        import learning_parts as parts
        with parts.in_process(parts.sources()) as carrier:
            print("ACCEPTED", parts.run(carrier, task=parts.shorter(rounds=1)).accepted)
        """
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
        check=False,
    )
    assert told.stdout.split() == ["ACCEPTED", "1"], told.stdout + told.stderr[-2000:]
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12),
        hnp.arrays(st.sampled_from([np.float32, np.float64]), hnp.array_shapes(max_dims=3, min_side=0)),
        max_size=4,
    ),
    st.dictionaries(st.text(min_size=1, max_size=12), st.floats() | st.integers(-(2**62), 2**62), max_size=4),
)
def test_messages_come_back_as_they_went(arrays: dict[str, np.ndarray], metrics: dict[str, float]) -> None:
    content = RecordDict({"a": record_of(arrays), "m": MetricRecord(metrics)})
    sent = Message(content, dst_node_id=9, message_type="query.statistics")

    came = decode(encode(sent, run="r", message_id="m1"))

    assert came.metadata.message_id == "m1"
    assert came.metadata.run_id == run_number("r")
    back = arrays_in(came.content["a"])
    assert list(back) == list(arrays)
    for name, made in arrays.items():
        assert back[name].dtype == made.dtype
        np.testing.assert_array_equal(back[name], made)
    assert repr(dict(came.content["m"])) == repr(metrics)


def test_messages_do_not_share_what_they_carry() -> None:
    weights = np.ones(3, np.float32)
    first = decode(encode(message(w=weights)))
    second = arrays_in(next(iter(first.content.array_records.values())))
    second["w"][:] = 7

    assert arrays_in(next(iter(first.content.array_records.values())))["w"].tolist() == [1, 1, 1]
    assert weights.tolist() == [1, 1, 1]


def test_one_process_sends_messages_of_several_runs() -> None:
    one, other = encode(message(), run="a"), encode(message(), run="b")

    assert decode(one).metadata.run_id != decode(other).metadata.run_id
    assert decode(one).metadata.message_id != decode(other).metadata.message_id


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        decode(data)


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    data = encode(message(w=np.zeros(1000)))

    with pytest.raises(ContractError, match="are taken at most"):
        decode(data, limit_bytes=len(data) - 1)
    assert decode(data, limit_bytes=len(data))


def test_an_array_that_promises_more_than_it_brings_reserves_nothing() -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    )

    with pytest.raises(ContractError, match="do not fill shape"):
        arrays_in(array(buffer.getvalue() + bytes(8)))


@pytest.mark.parametrize(
    "made",
    [
        np.array([1, 2]),
        np.array(["a", "b"]),
        np.array([1 + 2j]),
        np.array([True]),
        np.zeros(2, ">f4"),
        np.zeros(2, "f2"),
    ],
    ids=str,
)
def test_arrays_of_other_types_are_refused(made: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, made)

    with pytest.raises(ContractError, match="dtype"):
        arrays_in(array(buffer.getvalue()))


def test_an_array_of_objects_runs_nothing(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)

    with pytest.raises(ContractError):
        arrays_in(array(buffer.getvalue()))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x09\x00" + bytes(64)]
)
def test_arrays_cut_in_half_are_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="'w'"):
        arrays_in(array(data))


@pytest.mark.parametrize("skew_s", [-10 * 86_400.0, 10 * 86_400.0])
def test_a_clock_that_is_days_off_answers_all_the_same(skew_s: float) -> None:
    asked = message()
    asked.metadata.created_at = time.time() + skew_s

    reply = decode(encode(Message(RecordDict(), reply_to=decode(encode(asked)))))

    assert reply.metadata.dst_node_id == asked.metadata.src_node_id
    assert Message(Error(0, "late"), reply_to=asked).has_error()
