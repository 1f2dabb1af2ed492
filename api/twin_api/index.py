"""Which records hold which value at one path: made at the first question about the path, kept up after it.

Records are known by their slots, small whole numbers; sets of them are bit masks, one bit a slot: AND,
OR, NOT and counting take microseconds for ten thousands. Values that few records hold are kept as sets of
slots: a mask for each of them would cost more than it says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

__all__ = ["Index", "Key", "Reader", "mask_of", "newest", "union"]

Key = str | int | float
"""What is compared: texts with texts, numbers (and instants, in microseconds) with numbers."""
Reader = Callable[[Any], Key | None]
"""The key of a value at the end of a path; None where the value cannot be compared."""

_FEW: Final = 32
_RUN: Final = 128


def mask_of(slots: Iterable[int]) -> int:
    """Slots as a mask."""
    octets = bytearray()
    for slot in slots:
        at = slot >> 3
        if at >= len(octets):
            octets.extend(bytes(at + 1 - len(octets)))
        octets[at] |= 1 << (slot & 7)
    return int.from_bytes(octets, "little")


def union(held: Iterable[set[int] | int]) -> int:
    """Sets of slots, and masks, as one mask."""
    mask = 0
    few: list[int] = []
    for each in held:
        if isinstance(each, int):
            mask |= each
        else:
            few.extend(each)
    return mask | mask_of(few) if few else mask


def newest(mask: int, offset: int, limit: int) -> Iterator[int]:
    """Slots of a mask, the highest first, without the first `offset`; at most `limit`."""
    octets = mask.to_bytes((mask.bit_length() + 63) // 64 * 8, "little")
    words = memoryview(octets).cast("Q")
    for at in range(len(words) - 1, -1, -1):
        word = words[at]
        if not word:
            continue
        count = word.bit_count()
        if offset >= count:
            offset -= count
            continue
        while word:
            bit = word.bit_length() - 1
            word ^= 1 << bit
            if offset:
                offset -= 1
                continue
            if not limit:
                return
            limit -= 1
            yield at * 64 + bit


class _Run:
    """Some keys that follow each other, and a mask of all that hold one of them; None: to be made anew."""

    __slots__ = ("keys", "mask")

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys
        self.mask: int | None = None


class _Ordered:
    """Keys in order, in runs: a range is a few whole runs and parts of two."""

    def __init__(self, held: dict[Key, set[int] | int], keys: Iterable[Any]) -> None:
        self._held = held
        ordered = sorted(keys)
        self._runs = [_Run(ordered[at : at + _RUN]) for at in range(0, len(ordered), _RUN)]

    def __iter__(self) -> Iterator[Any]:
        return (key for run in self._runs for key in run.keys)

    def __reversed__(self) -> Iterator[Any]:
        return (key for run in reversed(self._runs) for key in reversed(run.keys))

    def _at(self, key: Any) -> int:
        """The run in which a key stands, or would."""
        return bisect_left(self._runs, key, key=lambda run: run.keys[-1])

    def added(self, key: Any, slot: int, *, new: bool) -> None:
        """A record came to hold a key."""
        at = self._at(key)
        if at == len(self._runs):
            if not self._runs:
                self._runs.append(_Run([key]))
                return
            at -= 1
        run = self._runs[at]
        if run.mask is not None:
            run.mask |= 1 << slot
        if new:
            insort(run.keys, key)
            if len(run.keys) > 2 * _RUN:
                self._runs[at : at + 1] = [_Run(run.keys[:_RUN]), _Run(run.keys[_RUN:])]

    def discarded(self, key: Any, *, last: bool) -> None:
        """A record holds a key no more."""
        run = self._runs[at := self._at(key)]
        run.mask = None
        if last:
            run.keys.pop(bisect_left(run.keys, key))
            if not run.keys:
                del self._runs[at]

    def between(self, key: Any, *, above: bool, same: bool) -> int:
        """A mask of what holds a key above (or below) this one, or the same."""
        if not self._runs:
            return 0
        at = self._at(key)
        whole = self._runs[at + 1 :] if above else self._runs[:at]
        mask = 0
        for run in whole:
            mask |= self._mask(run)
        if at < len(self._runs):
            keys = self._runs[at].keys
            cut = (bisect_left if above == same else bisect_right)(keys, key)
            mask |= self._union(keys[cut:] if above else keys[:cut])
        return mask

    def _mask(self, run: _Run) -> int:
        if run.mask is None:
            run.mask = self._union(run.keys)
        return run.mask

    def _union(self, keys: Iterable[Key]) -> int:
        return union(self._held[key] for key in keys)


class Index:
    """The values at one path."""

    def __init__(self, path: tuple[str, ...], read: Reader) -> None:
        self.path = path
        self._read = read
        self._held: dict[Key, set[int] | int] = {}
        self._ordered: tuple[_Ordered, _Ordered] | None = None

    def __len__(self) -> int:
        """How many values there are."""
        return len(self._held)

    def rank(self, document: Any, *, descending: bool) -> tuple[bool, Key] | None:
        """Where a document stands in the order of the values: by the first of its own in that order."""
        keys = [(isinstance(key, str), key) for key in self.keys_of(document)]
        return None if not keys else max(keys) if descending else min(keys)

    def keys_of(self, document: Any) -> set[Key]:
        """What one document holds at the path: arrays give all their values."""
        found: set[Key] = set()
        self._walk(document, 0, found)
        return found

    def _walk(self, value: Any, depth: int, found: set[Key]) -> None:
        if isinstance(value, list):
            for each in value:
                self._walk(each, depth, found)
        elif depth == len(self.path):
            key = self._read(value)
            if key is not None:
                found.add(key)
        elif isinstance(value, dict):
            name = self.path[depth]
            if name in value:
                self._walk(value[name], depth + 1, found)

    def add(self, slot: int, document: Any) -> None:
        """A document has come."""
        for key in self.keys_of(document):
            held = self._held.get(key)
            if held is None:
                self._held[key] = {slot}
            elif isinstance(held, int):
                self._held[key] = held | 1 << slot
            elif len(held) >= _FEW:
                self._held[key] = mask_of(held) | 1 << slot
            else:
                held.add(slot)
            if self._ordered is not None:
                self._ordered[isinstance(key, str)].added(key, slot, new=held is None)

    def discard(self, slot: int, document: Any) -> None:
        """A document is gone, as it was when it came."""
        for key in self.keys_of(document):
            held = self._held[key]
            if isinstance(held, int):
                left: set[int] | int = held & ~(1 << slot)
                self._held[key] = left
            else:
                held.discard(slot)
                left = held
            if not left:
                del self._held[key]
            if self._ordered is not None:
                self._ordered[isinstance(key, str)].discarded(key, last=not left)

    def equal(self, keys: Iterable[Key]) -> int:
        """Records that hold one of the values."""
        return union(held for key in keys if (held := self._held.get(key)) is not None)

    def between(self, key: Key, *, above: bool, same: bool) -> int:
        """Records that hold a value above (or below) a key, or the same."""
        return self._in_order()[isinstance(key, str)].between(key, above=above, same=same)

    def where(self, fits: Callable[[str], bool]) -> int:
        """Records that hold a text that fits."""
        return union(held for key, held in self._held.items() if isinstance(key, str) and fits(key))

    def groups(self, *, descending: bool) -> Iterator[set[int] | int]:
        """Who holds each value, as slots or as a mask, in order of the values: numbers, then texts."""
        numbers, texts = self._in_order()
        keys: Iterator[Any] = (
            chain(reversed(texts), reversed(numbers)) if descending else chain(numbers, texts)
        )
        return (self._held[key] for key in keys)

    def _in_order(self) -> tuple[_Ordered, _Ordered]:
        """Numbers and texts: put in order at the first question that needs it."""
        if self._ordered is None:
            self._ordered = (
                _Ordered(self._held, (key for key in self._held if not isinstance(key, str))),
                _Ordered(self._held, (key for key in self._held if isinstance(key, str))),
            )
        return self._ordered
