"""Models on disk: whole or set aside, the last good one in service, arrays that are what they say."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from domain_twin.errors import Conflict, ContractError, NotFound
from domain_twin.learning.arrays import decode_arrays, digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import Arrays
from domain_twin.learning.store import REFUSED, ModelStore
from domain_twin.learning.task import Card, Task

MAX = 1 << 20
TASK = Task("demand")


def arrays(value: float) -> Arrays:
    return {"w": np.full((3, 2), value, np.float32), "b": np.zeros(2)}


def version(number: int, *, model: str = "demand") -> tuple[Card, bytes]:
    made = arrays(float(number))
    data = encode_arrays(made)
    task = Task(model)
    card = Card(
        model, number, task, forms_of(made), number, "run", 3, ("ran", "core"), digest=digest_of(data)
    )
    return card, data


def store(folder: Path, **more: int) -> ModelStore:
    return ModelStore(folder, owner="ran", max_bytes=MAX, **more)


@pytest.fixture
def kept(tmp_path: Path) -> ModelStore:
    """Three versions: the first two were good, the second is in service, the third is no good."""
    made = store(tmp_path)
    for number in (1, 2, 3):
        made.put(*version(number))
    made.serve("demand", 1)
    made.serve("demand", 2, "better than persistence")
    made.note("demand", 3, f"{REFUSED}worse than version 2")
    return made


def test_versions_are_kept_over_a_restart(kept: ModelStore) -> None:
    again = store(kept.folder)

    assert [(one.card.version, one.in_service, one.reason) for one in again.models()] == [
        (3, False, "refused: worse than version 2"),
        (2, True, "better than persistence"),
        (1, False, ""),
    ]
    card, found = again.arrays("demand")
    assert (card, again.findings()) == (version(2)[0], [])
    assert found["w"].tolist() == arrays(2.0)["w"].tolist()


@pytest.mark.parametrize("file", ["arrays.npz", "card.json"])
def test_a_version_cut_in_half_is_set_aside_and_the_last_good_one_serves(kept: ModelStore, file: str) -> None:
    path = kept.folder / "demand" / "2" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    again = store(kept.folder)

    assert again.arrays("demand")[0].version == 1  # the newest that was good, not the newest
    (finding,) = again.findings()
    assert (finding.code, finding.domain) == ("learning.damaged", "ran")
    assert "demand/2 is damaged and was set aside" in finding.message
    assert not path.exists()
    assert store(kept.folder).arrays("demand")[0].version == 1  # and so it stays
    assert again.highest("demand") == 3


def test_a_version_damaged_under_a_running_process_is_noticed_when_it_is_read(kept: ModelStore) -> None:
    path = kept.folder / "demand" / "2" / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-1])

    card, data = kept.whole("demand")

    assert (card.version, digest_of(data)) == (1, card.digest)
    assert kept.in_service("demand") == 1
    assert kept.findings()


def test_what_is_in_service_cut_in_half_falls_back_to_the_newest_good_version(kept: ModelStore) -> None:
    path = kept.folder / "demand" / "service.json"
    path.write_bytes(path.read_bytes()[:5])

    again = store(kept.folder)

    assert again.in_service("demand") == 2  # version 3 is newer, and was refused
    assert "service.json is damaged" in again.findings()[0].message


def test_nothing_serves_where_nothing_good_is_left(kept: ModelStore) -> None:
    for number in (1, 2):
        (kept.folder / "demand" / str(number) / "arrays.npz").write_bytes(b"")

    again = store(kept.folder)

    assert again.in_service("demand") == 0
    with pytest.raises(NotFound, match="no version of model 'demand' is in service"):
        again.arrays("demand")


def test_half_a_version_is_never_put_in_place(tmp_path: Path) -> None:
    made = store(tmp_path)
    (tmp_path / "demand" / ".1.new").mkdir(parents=True)  # a process was killed here
    (tmp_path / "demand" / ".1.new" / "card.json").write_bytes(b"{")

    made.put(*version(1))
    made.serve("demand", 1)

    assert store(tmp_path).arrays("demand")[0].version == 1


def test_old_versions_go_and_the_one_in_service_stays(tmp_path: Path) -> None:
    made = store(tmp_path, kept=2)
    made.put(*version(1))
    made.serve("demand", 1)
    for number in (2, 3, 4):
        made.put(*version(number))

    assert [one.card.version for one in made.models()] == [4, 3, 1]
    assert [one.card.version for one in store(tmp_path).models()] == [4, 3, 1]


def test_another_version_under_the_same_number_is_refused(kept: ModelStore) -> None:
    card, _ = version(1)
    other = encode_arrays(arrays(9.0))
    with pytest.raises(Conflict, match="version 1 of model 'demand' is kept already"):
        kept.put(Card("demand", 1, TASK, card.arrays, 1, "run", 3, (), digest=digest_of(other)), other)
    kept.put(*version(1))  # the same once more is none


def test_arrays_that_are_not_those_of_the_card_are_refused(tmp_path: Path) -> None:
    made = store(tmp_path)
    card, data = version(1)
    with pytest.raises(ContractError, match="do not have the SHA-256 of their card"):
        made.put(card, encode_arrays(arrays(2.0)))
    odd = encode_arrays({"w": np.zeros(4)})
    with pytest.raises(ContractError, match="other names or shapes"):
        made.put(Card("demand", 1, TASK, card.arrays, 1, "run", 3, (), digest=digest_of(odd)), odd)
    for name in ("../demand", "Demand", ""):
        with pytest.raises(ContractError, match="cannot be kept"):
            made.put(Card(name, 1, Task(name), card.arrays, 1, "run", 3, (), digest=card.digest), data)
    assert list(tmp_path.iterdir()) == []


named = st.dictionaries(
    st.from_regex(r"[a-z][a-z_.]{0,20}", fullmatch=True),
    npst.arrays(
        st.sampled_from([np.float32, np.float64]),
        npst.array_shapes(min_dims=0, max_dims=3, max_side=4, min_side=0),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    max_size=4,
)


@settings(max_examples=40)
@given(named)
def test_arrays_come_back_as_they_were(made: Arrays) -> None:
    data = encode_arrays(made)
    found = decode_arrays(data, MAX)
    assert encode_arrays(found) == data
    assert forms_of(found) == forms_of(made)
    assert all(np.array_equal(found[name], made[name]) for name in made)


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(0, 500))
def test_rubbish_is_no_model(rubbish: bytes, at: int) -> None:
    data = encode_arrays(arrays(1.0))
    for odd in (rubbish, data[:at], data[:at] + rubbish + data[at:]):
        if odd != data:
            try:
                decode_arrays(odd, MAX)
            except ContractError:
                continue


def packed(name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def array_file(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def giant() -> bytes:
    """An array that states a terabyte and holds nothing."""
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (packed("w.npy", array_file(np.zeros(4)), zipfile.ZIP_DEFLATED), "is packed"),
        (packed("w.npy", giant()), "states a form that its 0 bytes do not have"),
        (packed("w.npy", array_file(np.array([{}], object), allow_pickle=True)), "states a form"),
        (packed("w.npy", array_file(np.array([np.nan]))), "not finite"),
        (packed("w.npy", array_file(np.array([np.inf], np.float32))), "not finite"),
        (packed("w.npy", array_file(np.zeros(2, np.int64))), "of type int64"),
        (packed("w.npy", array_file(np.zeros(2, ">f8"))), "of type >f8"),
        (packed("../w.npy", array_file(np.zeros(2))), "a name has 1 to"),
        (packed("w.txt", b"x"), "is packed, no array, or there twice"),
        (b"\0" * (MAX + 1), f"{MAX + 1} bytes, {MAX} at most"),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        decode_arrays(data, MAX)
