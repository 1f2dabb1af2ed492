"""A many-to-one relation that is read both ways: which records say what, and who says this."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Index(Generic[K, V]):
    """Each key has at most one value; a value may have many keys."""

    __slots__ = ("_keys", "_values")

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._keys: dict[V, set[K]] = {}

    def put(self, key: K, value: V | None) -> V | None:
        """Give a key its value, or none any more; the value it had before."""
        before = self._values.get(key)
        if before == value:
            return before
        if before is not None:
            keys = self._keys[before]
            keys.discard(key)
            if not keys:
                del self._keys[before]
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
            self._keys.setdefault(value, set()).add(key)
        return before

    def get(self, key: K) -> V | None:
        """The value of a key."""
        return self._values.get(key)

    def keys(self, value: V) -> frozenset[K]:
        """The keys that have this value."""
        return frozenset(self._keys.get(value, ()))

    def values(self) -> Iterator[V]:
        """Each value that some key has, once."""
        return iter(self._keys)

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def shared(self) -> Iterator[tuple[V, frozenset[K]]]:
        """Values that more than one key has, with the keys."""
        return ((value, frozenset(keys)) for value, keys in self._keys.items() if len(keys) > 1)
