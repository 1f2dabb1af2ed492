"""A CSV file with a time becomes a panel, and what is wrong with it is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domain_twin.errors import ConfigError
from domain_twin.learning.csv_data import panel_of, read_csv, resample
from domain_twin.learning.task import Feature, Task

TASK = Task(
    "load", features=(Feature("ndt:down", "Mbit/s"), Feature("up", "Mbit/s")), step_s=60.0, holdout=0.25
)


def written(folder: Path, text: str, name: str = "cell.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_files_become_elements_on_one_grid_of_time(tmp_path: Path) -> None:
    one = written(tmp_path, "time,up,down\n2024-01-01 00:00:10,1,10\n2024-01-01 00:00:50,3,\n", "one.csv")
    two = written(tmp_path, "time,down,up\n1704067380,7,8\n1704067200.5,5,6\n", "two.csv")

    panel = panel_of(TASK, [one, two])

    assert panel.elements == ("one", "two")
    assert panel.features == ("ndt:down", "up")
    assert (panel.start, panel.step_s, panel.steps, panel.holdout_from) == (1704067200 * 10**9, 60.0, 4, 3)
    np.testing.assert_array_equal(panel.values[0], [[10, 2], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(panel.values[1], [[5, 6], [np.nan] * 2, [np.nan] * 2, [7, 8]])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("time,down,up\n", "no row"),
        ("when,down,up\n0,1,2\n", "line 1: no column 'time'"),
        ("time,down\n0,1\n", "line 1: no column 'up'"),
        ("time,down,up\n0,1,2\nyesterday,1,2\n", "line 3: 'yesterday' is no time"),
        ("time,down,up\n0,1,2\nnan,1,2\n", "line 3: 'nan' is no time"),
        ("time,down,up\n0,1,2\n60,many,2\n", "line 3, column 'down': 'many' is no number"),
        ("time,down,up\n0,1,inf\n", "line 2, column 'up': 'inf' is not finite"),
        ("time,down,up\n0,1,2\n\n60,1\n", "line 4: 2 cells, the header has 3"),
        ("time,down,up\n0,1,2\n9e15,1,2\n", "line 3: '9e15' is no time"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, text: str, named: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as error:
        panel_of(TASK, [path])

    assert str(path) in str(error.value)
    assert named in str(error.value)


def test_a_span_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "time,down,up\n0,1,2\n1704067200,1,2\n")

    with pytest.raises(ConfigError, match=r"28401121 steps of 60 s.*longer step"):
        panel_of(TASK, [path])


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"time\xff\xfe,down")

    for path in (tmp_path / "none.csv", binary):
        with pytest.raises(ConfigError, match=path.name):
            read_csv(path, ["down"])
    with pytest.raises(ConfigError, match="no CSV file"):
        panel_of(TASK, [])


def test_values_of_one_step_are_averaged_and_those_outside_left_out() -> None:
    times = np.array([-1, 0, 4, 9, 20, 30], np.int64)
    values = np.array([[9.0], [1.0], [3.0], [np.nan], [5.0], [9.0]])

    np.testing.assert_array_equal(resample(times, values, 0, 10, 3), [[2.0], [np.nan], [5.0]])
