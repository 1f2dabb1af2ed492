"""Jobs and reports as canonical JSON and back, and the digest of a report. Owns the spelling; no I/O.

Canonical: members in the order of their names, no blanks, UTF-8, numbers as Python's shortest form that reads
back the same; NaN, which JSON lacks, is null. Equal reports are equal bytes, in every process of a platform.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from domain_twin.errors import ContractError
from domain_twin.model.job import Job, Report

__all__ = ["canonical", "digest_of", "job_json", "parse_job", "parse_report", "report_json", "sealed"]

T = TypeVar("T")
_FIGURES = ("float", "Number")  # annotations, as `from __future__ import annotations` leaves them
_NOT_DIGESTED = ("job", "answered_at", "digest")


def canonical(value: Any) -> bytes:
    """Any value of the model as canonical JSON. Infinite numbers raise ValueError: no figure is one."""
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def report_json(report: Report) -> bytes:
    """A report as canonical JSON."""
    return canonical(report)


def digest_of(report: Report) -> str:
    """SHA-256 over all of a report but its job's id, the time of the answer and the digest itself."""
    content = {key: value for key, value in _plain(report).items() if key not in _NOT_DIGESTED}
    return hashlib.sha256(canonical(content)).hexdigest()


def sealed(report: Report) -> Report:
    """The report with its digest."""
    return replace(report, digest=digest_of(report))


def parse_report(data: bytes) -> Report:
    """The report that canonical (or any) JSON holds. Raises ContractError, also where its digest is wrong."""
    report = _parse(Report, data)
    if report.digest and report.digest != digest_of(report):
        raise ContractError(
            f"report of job {report.job!r}: its digest is not that of its content; it was changed on its way,"
            " or written by another version"
        )
    return report


def job_json(job: Job) -> bytes:
    """A job as canonical JSON."""
    return canonical(job)


def parse_job(data: bytes) -> Job:
    """The job that JSON holds. Raises ContractError."""
    return _parse(Job, data)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: _member(getattr(value, field.name), field.type) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _member(value: Any, annotation: Any) -> Any:
    """A field's value; a whole number in a field of figures is written as it is read back, with a point."""
    return _plain(float(value) if annotation in _FIGURES and value is not None else value)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _parse(kind: Callable[..., T], data: bytes) -> T:
    try:
        parsed: T = _adapter(kind).validate_json(data)
        return parsed
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its beginning"
        raise ContractError(
            f"{kind.__name__}: {len(data)} bytes of JSON are none, at {where}: {first['msg']}; it may be of"
            " another version of fedtwin"
        ) from error
