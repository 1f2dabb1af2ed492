"""The event queue of the packet network: a 4-ary heap of (time, what). Knows nothing of packets."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

__all__ = ["jitted", "pop", "push"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def jitted(function: _Function) -> _Function:
    """Compile a function of the packet loop to machine code that runs without the interpreter lock.

    Without numba's reference counts: the loop allocates nothing, and counting the arrays of the state at
    every call takes three times as long as moving the packets. Division by zero gives inf, as in NumPy.
    """
    return cast(
        _Function, njit(nogil=True, cache=True, error_model="numpy", _nrt=False, forceinline=True)(function)
    )


@jitted
def push(queue: Any, head: Any, time: float, what: int) -> None:
    """Add one event; the caller sizes the queue so that it never overflows."""
    at = head[0].events
    head[0].events = at + 1
    while at > 0:
        parent = (at - 1) >> 2
        if queue[parent].time <= time:
            break
        queue[at].time = queue[parent].time
        queue[at].what = queue[parent].what
        at = parent
    queue[at].time = time
    queue[at].what = what


@jitted
def pop(queue: Any, head: Any) -> None:
    """Remove the earliest event; the caller has read it at index 0."""
    length = head[0].events - 1
    head[0].events = length
    time, what = queue[length].time, queue[length].what
    at = 0
    while True:
        first = 4 * at + 1
        if first >= length:
            break
        least = first
        for child in range(first + 1, min(first + 4, length)):
            if queue[child].time < queue[least].time:
                least = child
        if queue[least].time >= time:
            break
        queue[at].time = queue[least].time
        queue[at].what = queue[least].what
        at = least
    queue[at].time = time
    queue[at].what = what
