"""Data trees of an emulated device: edits, differences, validity, and their RFC 7951 JSON form.

A tree is a dict from schema node to: a dict (container), a dict of key tuple to dict (list), a value (leaf)
or a tuple of values (leaf-list). Trees are never changed in place: an edit shares what it leaves alone, so a
candidate, a roll-back point and a difference cost what was touched. Owns no device and does no I/O.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from domain_twin.emulator.device_schema import SchemaNode, Step, format_path
from domain_twin.errors import OperationRejected

Tree: TypeAlias = dict[SchemaNode, Any]
Operation: TypeAlias = Literal["merge", "replace", "create", "delete", "remove", "none"]

OPERATIONS: tuple[Operation, ...] = ("merge", "replace", "create", "delete", "remove", "none")


class ConfigRejected(OperationRejected):
    """A device refuses an edit; `tag` is the error-tag of RFC 6241 appendix A, `path` the node at fault."""

    def __init__(self, path: str, reason: str, tag: str = "invalid-value"):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.tag = tag


@dataclass(slots=True)
class Request:
    """What an edit wants of one node: `operation` None inherits that of the node above.

    `value` is a leaf's value, one value of a leaf-list, or (a tuple) the whole leaf-list. `keys` None on a
    list means all of its entries. `key_leaves` are the key values of a list entry as leaves.
    """

    node: SchemaNode
    operation: Operation | None = None
    keys: tuple[str, ...] | None = None
    key_leaves: tuple[Any, ...] = ()
    value: Any = None
    children: "list[Request]" = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.children = list(self.children)


@dataclass(frozen=True, slots=True)
class DataEdit:
    """One difference between two trees, at the highest node that came or went, or at a changed leaf."""

    operation: Literal["create", "replace", "delete"]
    steps: tuple[Step, ...]
    old: Any
    new: Any

    @property
    def path(self) -> str:
        """Canonical instance identifier of the edited node."""
        return format_path(self.steps)


def apply(
    tree: Tree, requests: Iterable[Request], operation: Operation, above: tuple[Step, ...] = ()
) -> Tree:
    """The tree after `requests`, those without an operation of their own doing `operation` (RFC 6241 7.2).

    Raises ConfigRejected; `tree` stays as it is.
    """
    result = dict(tree)
    for request in requests:
        node = request.node
        chosen = request.operation or operation
        if node.keyword == "leaf":
            _apply_leaf(result, request, chosen, above)
        elif node.keyword == "leaf-list":
            _apply_leaf_list(result, request, chosen, above)
        elif node.keyword == "list":
            _apply_entry(result, request, chosen, above)
        else:
            _apply_container(result, request, chosen, above)
        if node.case and node in result:
            _leave_other_cases(result, node)
    return result


def _apply_leaf(result: Tree, request: Request, operation: Operation, above: tuple[Step, ...]) -> None:
    node = request.node
    _check_presence(node in result, operation, (*above, (node, None)))
    if operation in ("delete", "remove"):
        result.pop(node, None)
    elif operation != "none":
        result[node] = request.value


def _apply_leaf_list(result: Tree, request: Request, operation: Operation, above: tuple[Step, ...]) -> None:
    node = request.node
    held: tuple[Any, ...] = result.get(node, ())
    if isinstance(request.value, tuple) or request.value is None:  # the whole leaf-list
        _check_presence(bool(held), operation, (*above, (node, None)))
        values = request.value or ()
        if operation in ("delete", "remove"):
            values = ()
        elif operation == "none":
            values = held
    else:
        _check_presence(request.value in held, operation, (*above, (node, None)))
        values = held
        if operation in ("delete", "remove"):
            values = tuple(value for value in held if value != request.value)
        elif operation != "none" and request.value not in held:
            values = (*held, request.value)
    if values:
        result[node] = values
    else:
        result.pop(node, None)


def _apply_container(result: Tree, request: Request, operation: Operation, above: tuple[Step, ...]) -> None:
    node = request.node
    here = (*above, (node, None))
    if node.presence or operation in ("create", "delete"):
        _check_presence(node in result, operation, here)
    if operation in ("delete", "remove"):
        result.pop(node, None)
        return
    fresh = operation in ("replace", "create")
    inner = apply(
        {} if fresh else result.get(node, {}), request.children, "merge" if fresh else operation, here
    )
    if inner or node.presence:
        result[node] = inner
    else:
        result.pop(node, None)


def _apply_entry(result: Tree, request: Request, operation: Operation, above: tuple[Step, ...]) -> None:
    node = request.node
    here = (*above, (node, request.keys))
    entries: dict[Any, Tree] = dict(result.get(node, {}))
    if request.keys is None:
        _check_presence(bool(entries), operation, here)
        if operation not in ("delete", "remove"):
            raise ConfigRejected(
                format_path(here), f"keys missing: {', '.join(node.keys)}", "missing-element"
            )
        result.pop(node, None)
        return
    _check_presence(request.keys in entries, operation, here)
    if operation in ("delete", "remove"):
        entries.pop(request.keys, None)
    else:
        fresh = operation in ("replace", "create")
        held = {} if fresh else entries.get(request.keys, {})
        key_leaves = dict(zip(node.children.values(), request.key_leaves, strict=False))
        entries[request.keys] = apply(
            {**key_leaves, **held}, request.children, "merge" if fresh else operation, here
        )
    if entries:
        result[node] = entries
    else:
        result.pop(node, None)


def _check_presence(present: bool, operation: Operation, steps: tuple[Step, ...]) -> None:
    if operation == "create" and present:
        raise ConfigRejected(format_path(steps), "exists already, so it cannot be created", "data-exists")
    if operation in ("delete", "none") and not present:
        raise ConfigRejected(format_path(steps), "does not exist", "data-missing")


def _leave_other_cases(result: Tree, node: SchemaNode) -> None:
    mine = dict(zip(node.case[::2], node.case[1::2], strict=False))  # choice -> case (RFC 7950 7.9)
    for other in list(result):
        theirs = dict(zip(other.case[::2], other.case[1::2], strict=False))
        if any(theirs.get(choice, case) is not case for choice, case in mine.items()):
            del result[other]


def validate(tree: Tree, above: tuple[Step, ...] = (), node: SchemaNode | None = None) -> None:
    """Raise ConfigRejected where a mandatory leaf is missing from what is there."""
    if node is not None:
        for child in node.children.values():
            if child.mandatory and child.config and child not in tree:
                path = format_path((*above, (child, None)))
                raise ConfigRejected(path, "is mandatory and missing", "missing-element")
    for child, held in tree.items():
        if child.keyword == "list":
            for keys, entry in held.items():
                validate(entry, (*above, (child, keys)), child)
        elif child.keyword == "container":
            validate(held, (*above, (child, None)), child)


def leaves(tree: Tree, above: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """All leaves, leaf-lists and presence containers (value: their own subtree) with their steps."""
    for node, held in tree.items():
        if node.is_leaf:
            yield (*above, (node, None)), held
        elif node.keyword == "list":
            for keys, entry in held.items():
                yield from leaves(entry, (*above, (node, keys)))
        else:
            if node.presence:
                yield (*above, (node, None)), held
            yield from leaves(held, (*above, (node, None)))


def difference(old: Tree, new: Tree, above: tuple[Step, ...] = ()) -> Iterator[DataEdit]:
    """What turns `old` into `new`: deletions, creations and changed leaves. Shared subtrees cost nothing."""
    for node in dict.fromkeys((*old, *new)):
        before, after = old.get(node), new.get(node)
        if before is after:
            continue
        if node.is_leaf:
            if before != after:
                yield _edit((*above, (node, None)), before, after)
        elif node.keyword == "list":
            before, after = before or {}, after or {}
            for keys in dict.fromkeys((*before, *after)):
                yield from _nested(before.get(keys), after.get(keys), (*above, (node, keys)))
        elif node.presence:
            yield from _nested(before, after, (*above, (node, None)))
        else:
            yield from difference(before or {}, after or {}, (*above, (node, None)))


def _nested(before: Tree | None, after: Tree | None, here: tuple[Step, ...]) -> Iterator[DataEdit]:
    if before is None or after is None:
        yield _edit(here, before, after)
    elif before is not after:
        yield from difference(before, after, here)


def _edit(steps: tuple[Step, ...], old: Any, new: Any) -> DataEdit:
    return DataEdit("create" if old is None else "delete" if new is None else "replace", steps, old, new)


def edit_leaves(edit: DataEdit) -> Iterator[tuple[tuple[Step, ...], Any, Any]]:
    """The leaves an edit changes, with their old and new values."""
    node = edit.steps[-1][0]
    if node.is_leaf:
        yield edit.steps, edit.old, edit.new
        return
    if node.presence:
        yield edit.steps, edit.old, edit.new
    for steps, value in leaves(edit.old or {}, edit.steps):
        yield steps, value, None
    for steps, value in leaves(edit.new or {}, edit.steps):
        yield steps, None, value


def key_leaves(node: SchemaNode, keys: Sequence[str]) -> tuple[Any, ...]:
    """The typed values behind canonical key texts."""
    nodes = list(node.children.values())[: len(node.keys)]
    return tuple(
        child.leaf_type.from_text(text) for child, text in zip(nodes, keys, strict=True) if child.leaf_type
    )


def chain(steps: Sequence[Step], bottom: Sequence[Request]) -> list[Request]:
    """`bottom` reached through `steps`, merging on the way."""
    inner = list(bottom)
    for node, keys in reversed(steps):
        inner = [
            Request(node, "merge", keys, key_leaves(node, keys) if keys is not None else (), children=inner)
        ]
    return inner


def descend(tree: Tree, steps: Sequence[Step]) -> Any:
    """What `steps` lead to in `tree`: a subtree, the entries of a list, or a slot; None where absent."""
    held: Any = tree
    for node, keys in steps:
        if not isinstance(held, dict) or node not in held:
            return None
        held = held[node]
        if keys is not None:
            held = held.get(keys)
            if held is None:
                return None
    return held
