"""Changes and leaves as Arrow columns, and back. Owns the schema that history and checkpoint share.

Imports pyarrow: only the files that write or read columns import this one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from domain_twin.datastore.encoding import ORIGIN_CODE, ORIGINS, ValueKind, decode, encode
from domain_twin.datastore.snapshot import Leaf
from domain_twin.model import Change, Nanoseconds, Origin, Version

_NAME = pa.dictionary(pa.int32(), pa.string())
VALUE_FIELDS = (
    pa.field("received_at", pa.int64(), nullable=False),
    pa.field("observed_at", pa.int64(), nullable=False),
    pa.field("device", _NAME, nullable=False),
    pa.field("path", _NAME, nullable=False),
    pa.field("kind", pa.uint8(), nullable=False),
    pa.field("number", pa.float64()),
    pa.field("text", pa.string()),
    pa.field("origin", pa.uint8(), nullable=False),
)
CHANGES = pa.schema(
    [
        pa.field("n", pa.int64(), nullable=False),
        *VALUE_FIELDS,
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("epoch", _NAME, nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
    ]
)
LEAVES = pa.schema([*VALUE_FIELDS, pa.field("source", _NAME, nullable=False)])


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which history does not know a device (empty: any device). `lost`: changes left out."""

    device: str
    start: Nanoseconds
    end: Nanoseconds
    reason: str
    lost: int = 0


class Mark(NamedTuple):
    """The last of the figures of a minute that are rolled up: only its version is left."""

    observed_at: Nanoseconds
    received_at: Nanoseconds


class Row(NamedTuple):
    """A change at the version it led to, or a gap."""

    epoch: str
    sequence: int
    content: Change | Gap | Mark

    @property
    def received_at(self) -> Nanoseconds:
        """When the agent learnt of it; of a gap: its end."""
        return self.content.end if isinstance(self.content, Gap) else self.content.received_at

    @property
    def key(self) -> tuple[str, str]:
        """Device and path; the path of a gap is empty."""
        content = self.content
        if isinstance(content, Change):
            return content.device, content.path
        return content.device if isinstance(content, Gap) else "", ""


def changes_table(rows: Sequence[Row], first_n: int) -> pa.Table:
    """Rows as an Arrow table, numbered from `first_n`."""
    return _table([(n, *_cells(row[2]), row[0], row[1]) for n, row in enumerate(rows, first_n)], CHANGES)


def row_of(cells: Sequence[Any]) -> Row:
    """The row behind the cells of one record of CHANGES."""
    _, received_at, observed_at, device, path, kind, number, text, origin, deleted, epoch, sequence = cells
    if kind == ValueKind.GAP:
        return Row(epoch, sequence, Gap(device, observed_at, received_at, text or "", int(number or 0)))
    if kind == ValueKind.MARK:
        return Row(epoch, sequence, Mark(observed_at, received_at))
    value = decode(kind, number, text)
    return Row(
        epoch,
        sequence,
        Change(device, path, value, observed_at, received_at, ORIGINS[origin], deleted),
    )


def leaves_table(leaves: Iterable[tuple[str, str, Leaf]]) -> pa.Table:
    """Leaves as an Arrow table."""
    return _table([(*_leaf_cells(device, path, leaf), leaf.source) for device, path, leaf in leaves], LEAVES)


def leaves_of(table: pa.Table) -> Iterator[tuple[str, str, Leaf]]:
    """The leaves of a table that `leaves_table` made."""
    for cells in zip(*(table[field.name].to_pylist() for field in LEAVES), strict=True):
        received_at, observed_at, device, path, kind, number, text, origin, source = cells
        leaf = Leaf(decode(kind, number, text), observed_at, received_at, ORIGINS[origin], source)
        yield device, path, leaf


def digest(table: pa.Table) -> int:
    """CRC-32 over what the cells hold, however the columns are laid out in chunks and dictionaries."""
    crc = 0
    for field in table.schema:
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        cells = table[field.name].cast(plain).combine_chunks()
        cells = pa.concat_arrays([cells.fill_null("" if pa.types.is_string(plain) else 0)])
        for buffer in cells.buffers()[1:]:
            crc = zlib.crc32(buffer, crc) if buffer is not None else crc
    return crc


def leaf_of(row: Row) -> tuple[str, str, Leaf] | None:
    """What a change left behind; None for a gap or a deletion."""
    content = row.content
    if not isinstance(content, Change) or content.deleted:
        return None
    leaf = Leaf(content.value, content.observed_at, content.received_at, content.origin, "history")
    return content.device, content.path, leaf


def version_of(row: Row) -> Version:
    """The version that a row led to."""
    content = row.content
    return Version(row.epoch, row.sequence, content.end if isinstance(content, Gap) else content.observed_at)


def _cells(content: Change | Gap | Mark) -> tuple[Any, ...]:
    if isinstance(content, Gap):
        measured = ORIGIN_CODE[Origin.MEASURED]
        times = (content.end, content.start)
        return (
            *times,
            content.device,
            "",
            ValueKind.GAP,
            float(content.lost),
            content.reason,
            measured,
            False,
        )
    if isinstance(content, Mark):
        raise TypeError("marks are made by the roll-up alone")
    device, path, value, observed_at, received_at, origin, deleted = content
    kind, number, text = encode(value)
    return received_at, observed_at, device, path, kind, number, text, ORIGIN_CODE[origin], deleted


def _leaf_cells(device: str, path: str, leaf: Leaf) -> tuple[Any, ...]:
    kind, number, text = encode(leaf.value)
    times = (leaf.received_at, leaf.observed_at)
    return (*times, device, path, kind, number, text, ORIGIN_CODE[leaf.origin])


def _table(records: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*records, strict=True) if records else ((),) * len(schema)
    return pa.table(
        [_array(cells, field) for cells, field in zip(columns, schema, strict=True)], schema=schema
    )


def _array(cells: Sequence[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(field.type):
        return pa.array(cells, pa.string()).dictionary_encode()
    return pa.array(cells, field.type)
