"""What is said of folders that tests read from outside of the checkout."""

from __future__ import annotations

from pathlib import Path

import outside


def test_a_folder_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "tmf").mkdir()
    whole = {"FEDTWIN_SPECS": str(tmp_path), "FEDTWIN_DATA": str(tmp_path)}

    assert outside.broken({}) == ""
    assert outside.broken(whole) == ""
    for variable in whole:
        told = outside.broken({**whole, variable: str(tmp_path / "none")})
        assert told.startswith(f"{variable}={tmp_path / 'none'}: there is no folder")
        assert f"unset {variable}" in told
    assert f"no folder {tmp_path / 'tmf' / 'tmf'};" in outside.broken(
        {"FEDTWIN_SPECS": str(tmp_path / "tmf")}
    )


def test_what_was_not_tried_is_counted_by_variable() -> None:
    reasons = ["Skipped: FEDTWIN_SPECS is not set: answers", "no Java", "FEDTWIN_SPECS is not set"]

    (told,) = outside.untried({"FEDTWIN_DATA": "", "FEDTWIN_SPECS": ""}, reasons)

    assert told.startswith("FEDTWIN_SPECS IS NOT SET: ")
    assert told.endswith(": 2")
    assert list(outside.untried({"FEDTWIN_SPECS": "/a", "FEDTWIN_DATA": "/b"}, reasons)) == []
