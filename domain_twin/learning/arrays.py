"""A model's arrays as bytes and back: what the registry keeps and what is delivered to domains.

Owns the form (NumPy's .npz without compression, without pickles) and refuses everything else: a file that
would unfold to more than it is, names twice, types other than float32 and float64, what is not finite.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ContractError
from domain_twin.learning.learner import Arrays
from domain_twin.learning.task import Array

__all__ = ["DTYPES", "decode_arrays", "digest_of", "encode_arrays", "forms_of"]

DTYPES: Final = ("float32", "float64")
"""Types that a model's arrays have."""

_MOST_ARRAYS: Final = 1024
_LONGEST_NAME: Final = 128


def digest_of(data: bytes) -> str:
    """SHA-256 of arrays as they are kept, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def forms_of(arrays: Arrays) -> tuple[Array, ...]:
    """Names, shapes and types, in the arrays' order."""
    return tuple(
        Array(name, tuple(map(int, value.shape)), value.dtype.name) for name, value in arrays.items()
    )


def encode_arrays(arrays: Arrays) -> bytes:
    """The arrays as bytes, the same for the same arrays. Raises ContractError for other types."""
    _check(arrays)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, value in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(value, order="C"), version=(1, 0), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())  # without a time: reproducible
    return buffer.getvalue()


def decode_arrays(data: bytes, max_bytes: int) -> Arrays:
    """The arrays that `data` holds. Raises ContractError: damaged, too large, another type."""
    if len(data) > max_bytes:
        raise ContractError(f"arrays: {len(data)} bytes, {max_bytes} at most")
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            listed = file.infolist()
            if len(listed) > _MOST_ARRAYS or sum(item.file_size for item in listed) > max_bytes:
                raise ContractError(f"arrays: {len(listed)} of them, or more than {max_bytes} bytes inside")
            for item in listed:
                name = item.filename.removesuffix(".npy")
                if item.compress_type != zipfile.ZIP_STORED or name == item.filename or name in arrays:
                    raise ContractError(f"arrays: {item.filename[:80]!r} is packed, no array, or there twice")
                arrays[name] = _array(name, file.read(item))
    except ContractError:
        raise
    except Exception as error:  # whatever a stranger's bytes make zipfile and numpy raise
        said = str(error)[:200] or type(error).__name__
        raise ContractError(f"arrays: not as they were written ({said})") from None
    _check(arrays)
    return arrays


def _array(name: str, data: bytes) -> NDArray[Any]:
    """One array; the size that its header states is checked before anything of that size is made."""
    part = io.BytesIO(data)
    if np.lib.format.read_magic(part) != (1, 0):
        raise ContractError(f"arrays: {name!r} is of another version of the format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(part)
    body = data[part.tell() :]
    if fortran or dtype.hasobject or math.prod(shape) * dtype.itemsize != len(body):
        raise ContractError(f"arrays: {name!r} states a form that its {len(body)} bytes do not have")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def _check(arrays: Arrays) -> None:
    for name, value in arrays.items():
        if not name or len(name) > _LONGEST_NAME or "/" in name or "\\" in name or not name.isprintable():
            raise ContractError(f"array {name[:80]!r}: a name has 1 to {_LONGEST_NAME} printable characters")
        if value.dtype.name not in DTYPES or not value.dtype.isnative:
            raise ContractError(f"array {name!r}: of type {value.dtype}, {' or '.join(DTYPES)} are taken")
        if not np.isfinite(value).all():
            raise ContractError(f"array {name!r}: holds values that are not finite")
