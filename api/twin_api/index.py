"""Which records hold which value at one path: made at the first question about the path, kept up after it.

Records are known by their slots, small whole numbers; sets of them are bit masks, one bit a slot: AND,
OR, NOT and counting take microseconds for ten thousands. Values that few records hold are kept as sets of
slots: a mask for each of them would cost more than it says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

__all__ = ["Index", "Key", "Reader", "mask_of", "newest", "slots_of"]

Key = str | int | float
"""What is compared: texts with texts, numbers (and instants, in microseconds) with numbers."""
Reader = Callable[[Any], Key | None]
"""The key of a value at the end of a path; None where the value cannot be compared."""

_FEW: Final = 32


def mask_of(slots: Iterable[int]) -> int:
    """Slots as a mask."""
    octets = bytearray()
    for slot in slots:
        at = slot >> 3
        if at >= len(octets):
            octets.extend(bytes(at + 1 - len(octets)))
        octets[at] |= 1 << (slot & 7)
    return int.from_bytes(octets, "little")


def slots_of(mask: int) -> Iterator[int]:
    """The slots of a mask, the newest (the highest) first."""
    return newest(mask, 0, mask.bit_count())


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


class Index:
    """The values at one path."""

    def __init__(self, path: tuple[str, ...], read: Reader) -> None:
        self.path = path
        self._read = read
        self._held: dict[Key, set[int] | int] = {}
        self._texts: list[str] | None = None
        self._numbers: list[int | float] | None = None

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
                self._texts = self._numbers = None
            elif isinstance(held, int):
                self._held[key] = held | 1 << slot
            elif len(held) >= _FEW:
                self._held[key] = mask_of(held) | 1 << slot
            else:
                held.add(slot)

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
                self._texts = self._numbers = None

    def equal(self, keys: Iterable[Key]) -> int:
        """Records that hold one of the values."""
        mask = 0
        for key in keys:
            held = self._held.get(key)
            if held is not None:
                mask |= held if isinstance(held, int) else mask_of(held)
        return mask

    def any_value(self) -> int:
        """Records that hold a value there."""
        return self._union(self._held.values())

    def between(self, key: Key, *, above: bool, same: bool) -> int:
        """Records that hold a value above (or below) a key, or the same."""
        ordered: list[Any] = self.texts() if isinstance(key, str) else self.numbers()
        if above:
            chosen = ordered[(bisect_left if same else bisect_right)(ordered, key) :]
        else:
            chosen = ordered[: (bisect_right if same else bisect_left)(ordered, key)]
        return self._union(self._held[each] for each in chosen)

    def where(self, fits: Callable[[str], bool]) -> int:
        """Records that hold a text that fits."""
        return self._union(self._held[each] for each in self.texts() if fits(each))

    def groups(self, *, descending: bool) -> Iterator[int]:
        """Masks of the records that hold each value, in order of the values: numbers, then texts."""
        ordered: list[Key] = [*self.numbers(), *self.texts()]
        for key in reversed(ordered) if descending else ordered:
            held = self._held[key]
            yield held if isinstance(held, int) else mask_of(held)

    def texts(self) -> list[str]:
        """The texts that are held, in order."""
        if self._texts is None:
            self._texts = sorted(key for key in self._held if isinstance(key, str))
        return self._texts

    def numbers(self) -> list[int | float]:
        """The numbers that are held, in order."""
        if self._numbers is None:
            self._numbers = sorted(key for key in self._held if not isinstance(key, str))
        return self._numbers

    @staticmethod
    def _union(held: Iterable[set[int] | int]) -> int:
        mask = 0
        few: list[int] = []
        for each in held:
            if isinstance(each, int):
                mask |= each
            else:
                few.extend(each)
        return mask | mask_of(few) if few else mask
