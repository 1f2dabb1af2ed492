"""The resources of one kind that one tenant sees, newest first, each as JSON; and indices to find them by.

A slot is taken once and never again: a higher slot is a newer resource, and a change keeps its slot.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from federation.partners.record import Record
from twin_api.index import Index, Reader, mask_of, newest

__all__ = ["Entry", "Shelf", "encode"]

MAX_INDICES: Final = 48
_MOST_HOLES: Final = 1024
_WALK: Final = 8


def encode(value: Any) -> bytes:
    """JSON in UTF-8, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class Entry:
    """One resource: the record, the document that is shown, and its octets once somebody asked."""

    __slots__ = ("_data", "_present", "_shown", "record")

    def __init__(self, record: Record, present: Callable[[Record], dict[str, Any]]) -> None:
        self.record = record
        self._present = present
        self._shown: dict[str, Any] | None = None
        self._data: bytes | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """The document, as clients see it."""
        if self._shown is None:
            self._shown = self._present(self.record)
        return self._shown

    @property
    def data(self) -> bytes:
        """The document's octets."""
        if self._data is None:
            self._data = encode(self.shown)
        return self._data


class Shelf:
    """Entries by id and by slot."""

    def __init__(self) -> None:
        self._slots: list[Entry | None] = []
        self._where: dict[str, int] = {}
        self._indices: OrderedDict[tuple[str, ...], Index] = OrderedDict()
        self.all = 0
        """A mask of all entries."""

    def __len__(self) -> int:
        return len(self._where)

    def get(self, identity: str) -> Entry | None:
        """The entry of that id."""
        slot = self._where.get(identity)
        return None if slot is None else self._slots[slot]

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one of its id."""
        identity = entry.record.id
        slot = self._where.get(identity)
        if slot is None:
            slot = len(self._slots)
            self._slots.append(entry)
            self._where[identity] = slot
            self.all |= 1 << slot
        else:
            before = self._slots[slot]
            self._slots[slot] = entry
            for index in self._indices.values():
                index.discard(slot, before.shown if before else None)
        for index in self._indices.values():
            index.add(slot, entry.shown)

    def drop(self, identity: str) -> None:
        """Forget an entry, if it is there."""
        slot = self._where.pop(identity, None)
        if slot is None:
            return
        entry = self._slots[slot]
        self._slots[slot] = None
        self.all &= ~(1 << slot)
        for index in self._indices.values():
            index.discard(slot, entry.shown if entry else None)
        if len(self._slots) > _MOST_HOLES + 2 * len(self._where):
            self._close_up()

    def _close_up(self) -> None:
        """Take away the holes that removed entries left."""
        self._slots = [entry for entry in self._slots if entry is not None]
        self._where = {entry.record.id: slot for slot, entry in enumerate(self._slots) if entry is not None}
        self._indices.clear()
        self.all = (1 << len(self._slots)) - 1

    def index(self, path: tuple[str, ...], read: Reader) -> Index:
        """The index of a path; those that nobody asked for longest make room for new ones."""
        found = self._indices.get(path)
        if found is not None:
            self._indices.move_to_end(path)
            return found
        made = Index(path, read)
        for slot, entry in enumerate(self._slots):
            if entry is not None:
                made.add(slot, entry.shown)
        self._indices[path] = made
        if len(self._indices) > MAX_INDICES:
            self._indices.popitem(last=False)
        return made

    def page(self, mask: int, offset: int, limit: int) -> list[Entry]:
        """Entries of a mask, newest first, from the `offset`-th."""
        return [entry for slot in newest(mask, offset, limit) if (entry := self._slots[slot]) is not None]

    def sorted_page(
        self, mask: int, order: Sequence[tuple[Index, bool]], offset: int, limit: int
    ) -> list[Entry]:
        """Entries by their values, each (index, descending); without a value last, ties newest first."""
        found: list[Entry] = []
        for slot in self._in_order(mask, order):
            if offset:
                offset -= 1
                continue
            if len(found) == limit:
                break
            entry = self._slots[slot]
            if entry is not None:
                found.append(entry)
        return found

    def _in_order(self, mask: int, order: Sequence[tuple[Index, bool]]) -> Iterator[int]:
        if not order:
            yield from newest(mask, 0, mask.bit_count())
            return
        (index, descending), *rest = order
        left = bytearray(mask.to_bytes((len(self._slots) + 7) // 8, "little"))
        for group in index.groups(descending=descending):
            if not isinstance(group, int) and len(group) == 1:
                (slot,) = group
                if left[slot >> 3] >> (slot & 7) & 1:
                    left[slot >> 3] &= ~(1 << (slot & 7))
                    yield slot
                continue
            if isinstance(group, int):
                slots: list[int] = list(newest(group & int.from_bytes(left, "little"), 0, len(self._slots)))
            else:
                slots = sorted((slot for slot in group if left[slot >> 3] >> (slot & 7) & 1), reverse=True)
            for slot in slots:  # of many values the first in this order counts
                left[slot >> 3] &= ~(1 << (slot & 7))
            if len(slots) < 2 or not rest:
                yield from slots
            elif len(rest[0][0]) > _WALK * len(slots):  # to walk over all values costs more than to sort
                yield from self._ranked(slots, rest)
            else:
                yield from self._in_order(mask_of(slots), rest)
        yield from self._in_order(int.from_bytes(left, "little"), rest)

    def _ranked(self, slots: list[int], order: Sequence[tuple[Index, bool]]) -> list[int]:
        """Slots, the newest first, sorted by their values."""
        for index, descending in reversed(order):
            ranks = {slot: self._rank(slot, index, descending) for slot in slots}
            there = [slot for slot in slots if ranks[slot] is not None]
            there.sort(key=lambda slot: ranks[slot], reverse=descending)  # sorted at once
            slots = there + [slot for slot in slots if ranks[slot] is None]
        return slots

    def _rank(self, slot: int, index: Index, descending: bool) -> Any:
        entry = self._slots[slot]
        return None if entry is None else index.rank(entry.shown, descending=descending)

    def has_index(self, path: tuple[str, ...]) -> bool:
        """Whether an index of that path is there already."""
        return path in self._indices

    def where(self, fits: Callable[[Entry], bool]) -> int:
        """A mask of the entries that fit, each looked at: for shelves that stay small."""
        return mask_of(slot for slot, entry in enumerate(self._slots) if entry is not None and fits(entry))

    def entries(self) -> Mapping[str, Entry]:
        """All, by id."""
        return {name: entry for name, slot in self._where.items() if (entry := self._slots[slot]) is not None}
