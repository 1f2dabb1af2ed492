"""Folders outside of the checkout that some tests read, and what is said where they are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["broken", "untried"]

INSIDE = {"FEDTWIN_SPECS": "tmf", "FEDTWIN_DATA": ""}
"""By variable: the folder that has to be in the one that it names."""
MISSED = {
    "FEDTWIN_SPECS": "no answer of the TM Forum APIs was held against TM Forum's documents",
    "FEDTWIN_DATA": "nothing was computed from published measurements",
}


def broken(environment: Mapping[str, str]) -> str:
    """The first variable that names a folder which is not there, with a remedy; empty if all is well."""
    for variable, inside in INSIDE.items():
        named = environment.get(variable, "")
        if named and not (folder := Path(named) / inside).is_dir():
            return (
                f"{variable}={named}: there is no folder {folder}; name the right one, or unset {variable}:"
                " the tests that need it are skipped then"
            )
    return ""


def untried(environment: Mapping[str, str], reasons: Iterable[str]) -> Iterator[str]:
    """A line for each variable that is not set though tests asked for it, with how many were skipped."""
    told = list(reasons)
    for variable, missed in MISSED.items():
        skipped = sum(variable in reason for reason in told)
        if skipped and not environment.get(variable):
            yield f"{variable} IS NOT SET: {missed}; tests skipped for that: {skipped}"
