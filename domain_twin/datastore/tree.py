"""An index of paths by their ancestors, so that a subtree is found without looking at the rest of the store.

Owns which paths lie below which; holds no values. Paths are canonical instance identifiers
(`domain_twin.yang.paths`). Adding a path costs one step where its siblings are known already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A step: a name, then predicates whose quoted values may hold any character but their own quote.
_STEP = re.compile(r"""/[^/\[]+(?:\[(?:[^'"\]]|'[^']*'|"[^"]*")*\])*""")
_ROOT = ""


class PathTree:
    """A set of leaf paths that answers: which of you lie at or below this one?"""

    __slots__ = ("_children",)

    def __init__(self) -> None:
        self._children: dict[str, set[str]] = {}

    def add(self, path: str) -> None:
        """Index a leaf's path."""
        child = path
        while child != _ROOT:
            above = parent_of(child)
            siblings = self._children.get(above)
            if siblings is not None:
                siblings.add(child)
                return
            self._children[above] = {child}
            child = above

    def discard(self, path: str) -> None:
        """Forget a leaf's path, and the ancestors that have nothing left below them."""
        child = path
        while child != _ROOT:
            above = parent_of(child)
            siblings = self._children.get(above)
            if siblings is None:
                return
            siblings.discard(child)
            if siblings:
                return
            del self._children[above]
            child = above

    def below(self, path: str) -> list[str]:
        """The leaf paths at or below `path`, sorted. A list without keys stands for all its entries."""
        return sorted(self._walk(path))

    def _walk(self, path: str) -> Iterator[str]:
        if path in {"/", _ROOT}:
            stack = [_ROOT] if _ROOT in self._children else []
        elif path in self._children:
            stack = [path]
        else:
            siblings = self._children.get(parent_of(path), set())
            stack = [path] if path in siblings else [s for s in siblings if s.startswith(path + "[")]
        while stack:
            node = stack.pop()
            children = self._children.get(node)
            if children is None:
                yield node
            else:
                stack.extend(children)


def parent_of(path: str) -> str:
    """The path of the node above; that of a top-level node is empty."""
    if not path.endswith("]"):  # the last step has no predicate, so its slash is not inside a quoted key
        return path[: max(path.rfind("/"), 0)]
    start = 0
    for step in _STEP.finditer(path):
        start = step.start()
    return path[:start]
