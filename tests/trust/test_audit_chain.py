from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_parts import WHO, Keys, fill, make_keys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.trust.audit import GENESIS, canonical, decode, encode, instant, nanoseconds
from domain_twin.trust.audit_files import segments
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_verify import Report, verify

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def written(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail of three files, signed in between and at its end."""
    folder = tmp_path_factory.mktemp("written") / "audit"
    log = keys.log(folder, segment_bytes=4096)
    fill(log, 12)
    log.sign()
    fill(log, 14)
    log.close()
    assert len(segments(folder)) >= 3
    return folder


@pytest.fixture
def check(keys: Keys) -> Callable[[Path], Report]:
    return lambda folder: verify(folder, trust=keys.trust, signed=True)


def copy_of(written: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(written, target)
    return target


def lines_of(folder: Path) -> list[tuple[Path, int]]:
    return [
        (path, number)
        for path in segments(folder)
        for number in range(len(path.read_bytes().splitlines(keepends=True)))
    ]


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def test_a_trail_that_nobody_touched_is_whole(written: Path, check: Callable[[Path], Report]) -> None:
    report = check(written)

    assert report.fault is None
    assert report.remarks == []
    assert report.who == WHO
    assert report.records == report.signed_to + 1  # the last head signs all that came before it


@given(st.data())
@QUICK
def test_any_changed_byte_is_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], data: st.DataObject
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    path = data.draw(st.sampled_from(segments(folder)))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    report = check(folder)

    last = path == segments(folder)[-1] and place == len(content) - 1
    if last:  # the newline after the last record: as after a kill
        assert report.remarks or report.fault
    else:
        assert report.fault
        assert report.fault.file == path.name


@given(st.data())
@QUICK
def test_any_removed_line_is_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], data: st.DataObject
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    path, number = data.draw(st.sampled_from(lines_of(folder)[:-1]))
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number]
    rewrite(path, lines)

    assert not check(folder).whole


@given(st.data())
@QUICK
def test_any_two_lines_swapped_are_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], data: st.DataObject
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    path = data.draw(st.sampled_from(segments(folder)))
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) < 2:
        return
    one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    rewrite(path, lines)

    assert not check(folder).whole


@given(st.data())
@QUICK
def test_any_line_put_in_is_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], data: st.DataObject
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    path, number = data.draw(st.sampled_from(lines_of(folder)))
    lines = path.read_bytes().splitlines(keepends=True)
    before = decode(lines[number].rstrip(b"\n"))
    forged = encode(before.seq + 1, before.at, "disclosed", {"peer": "nobody"}, before.sha256)[1]
    lines.insert(number + 1, data.draw(st.sampled_from([lines[number], forged])))
    rewrite(path, lines)

    assert not check(folder).whole


@given(st.data())
@QUICK
def test_any_end_cut_off_before_the_signed_head_is_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], data: st.DataObject
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    listed = segments(folder)
    index = data.draw(st.integers(0, len(listed) - 1))
    path = listed[index]
    lines = path.read_bytes().splitlines(keepends=True)
    whole = sum(map(len, lines))
    # The last record is the head itself, and says nothing that head.json does not.
    most = whole - len(lines[-1]) - 1 if index == len(listed) - 1 else whole
    os.truncate(path, data.draw(st.integers(0, most)))
    for later in listed[index + 1 :]:
        later.unlink()

    report = check(folder)

    assert not report.whole


def test_records_after_the_last_signed_head_can_be_cut_and_this_is_said(
    keys: Keys, tmp_path: Path, check: Callable[[Path], Report]
) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 5)
    log.sign()
    fill(log, 5)
    (path,) = segments(tmp_path / "audit")
    lines = path.read_bytes().splitlines(keepends=True)

    whole = check(tmp_path / "audit")
    rewrite(path, lines[:-3])
    cut = check(tmp_path / "audit")

    assert (whole.unsigned, cut.unsigned) == (6, 3)  # the number of records that nothing vouches for is shown
    assert cut.whole
    log.close()


def test_a_record_that_was_made_anew_with_its_own_hash_is_found(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO)  # unsigned: the chain alone has to show it
    fill(log, 5)
    log.close()
    (path,) = segments(tmp_path / "audit")
    lines = path.read_bytes().splitlines(keepends=True)
    real = decode(lines[3].rstrip(b"\n"))
    lines[3] = encode(real.seq, real.at, real.kind, {"peer": "somebody else"}, real.prev)[1]
    rewrite(path, lines)

    fault = verify(tmp_path / "audit").fault

    assert fault
    assert (fault.line, fault.seq) == (5, 5)
    assert "does not follow" in fault.what


def test_a_jump_in_the_numbers_is_found(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO)
    fill(log, 5)
    head, (path,) = log.head, segments(tmp_path / "audit")
    with path.open("ab") as file:
        file.write(encode(head.seq + 3, 0, "disclosed", {}, head.sha256)[1])

    fault = verify(tmp_path / "audit").fault

    assert fault
    assert "are missing" in fault.what
    log.close()


def test_a_line_that_something_else_wrote_again_is_found(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO)
    fill(log, 5)
    log.close()
    (path,) = segments(tmp_path / "audit")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"kind":', b'"kind": ')
    rewrite(path, lines)

    fault = verify(tmp_path / "audit").fault

    assert fault
    assert "canonical form" in fault.what


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_file_is_found(
    written: Path, tmp_path: Path, check: Callable[[Path], Report], which: int
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    segments(folder)[which].unlink()

    assert not check(folder).whole


def test_a_file_replaced_by_one_of_the_same_process_is_found(
    keys: Keys, written: Path, tmp_path: Path, check: Callable[[Path], Report]
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    other = keys.log(tmp_path / "other", segment_bytes=4096)
    fill(other, 26)
    other.close()
    mine, theirs = segments(folder)[1], segments(tmp_path / "other")[1]
    shutil.copy(theirs, mine)

    assert not check(folder).whole


def test_a_signed_head_that_was_taken_away_or_put_back_is_found(
    keys: Keys, tmp_path: Path, check: Callable[[Path], Report]
) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 5)
    log.sign()
    older = (tmp_path / "audit" / "head.json").read_bytes()
    fill(log, 5)
    log.close()

    (tmp_path / "audit" / "head.json").write_bytes(older)
    put_back = check(tmp_path / "audit").fault
    (tmp_path / "audit" / "head.json").unlink()
    taken = check(tmp_path / "audit").fault

    assert put_back
    assert "older one was put back" in put_back.what
    assert taken
    assert "taken away" in taken.what


def test_a_trail_made_anew_by_another_key_is_found(
    keys: Keys, written: Path, tmp_path: Path, check: Callable[[Path], Report]
) -> None:
    impostor = make_keys(tmp_path / "impostor").log(tmp_path / "audit")
    fill(impostor, 20)
    impostor.close()

    report = check(tmp_path / "audit")

    assert report.fault
    assert "does not chain to the roots" in report.fault.what


def test_a_trail_made_anew_without_a_key_is_found(tmp_path: Path, check: Callable[[Path], Report]) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO)
    fill(log)
    log.close()

    report = check(tmp_path / "audit")

    assert report.fault
    assert "no head is signed" in report.fault.what
    assert verify(tmp_path / "audit").whole  # without a configuration nobody knows that it should be


def test_a_forged_signature_is_found(written: Path, tmp_path: Path, check: Callable[[Path], Report]) -> None:
    folder = copy_of(written, tmp_path / "audit")
    signed = json.loads((folder / "head.json").read_text())
    signed["seq"] -= 1
    (folder / "head.json").write_text(json.dumps(signed))

    report = check(folder)

    assert report.fault
    assert report.fault.file == "head.json"


def test_what_the_other_side_noted_finds_a_cut_that_nothing_here_shows(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 5)
    log.sign()
    fill(log, 5)
    noted = log.head
    (path,) = segments(tmp_path / "audit")
    rewrite(path, path.read_bytes().splitlines(keepends=True)[:-3])

    assert verify(tmp_path / "audit", trust=keys.trust).whole
    report = verify(tmp_path / "audit", trust=keys.trust, heads=[noted])

    assert report.fault
    assert "which" not in report.fault.what
    assert "cut off" in report.fault.what
    log.close()


def test_a_fault_names_file_line_and_record(
    written: Path, tmp_path: Path, check: Callable[[Path], Report]
) -> None:
    folder = copy_of(written, tmp_path / "audit")
    path = segments(folder)[1]
    lines = path.read_bytes().splitlines(keepends=True)
    record = decode(lines[2].rstrip(b"\n"))
    lines[2] = lines[2].replace(b"evaluate", b"describe")
    rewrite(path, lines)

    fault = check(folder).fault

    assert fault
    assert (fault.file, fault.line, fault.seq) == (path.name, 3, record.seq)
    assert "was changed" in fault.what


@given(st.integers(0, 2**62))
def test_times_survive_as_text(at: int) -> None:
    assert nanoseconds(instant(at)) == at


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_records_survive_as_lines(data: dict[str, object]) -> None:
    record, line = encode(7, 5, "disclosed", data, GENESIS)

    again = decode(line.rstrip(b"\n"))

    assert again.sha256 == record.sha256
    assert again.data == data
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1]",
        b"nonsense",
        b'{"at":1,"data":{},"kind":"x","prev":"","seq":1,"sha256":""}',
        b"[" * 9999,
    ],
)
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ContractError):
        decode(line)


def test_figures_are_not_recorded() -> None:
    with pytest.raises(TypeError, match="whole numbers only"):
        canonical({"delay": 1.5})
