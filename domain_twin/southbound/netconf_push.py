"""What a device says unasked: YANG-push (RFC 8641) and configuration changes (RFC 5277, RFC 6470).

Owns requests for subscriptions and the reading of their notifications, yang-patch (RFC 8072) among them. A
leaf-list changes entry by entry there, so its values are kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from domain_twin.errors import SchemaViolation
from domain_twin.southbound.netconf_messages import NOTIFICATION
from domain_twin.southbound.netconf_xml import XmlReader, event_time, filter_element
from domain_twin.yang.paths import LEAF_LIST_VALUE, covers, format_path, parse_path
from domain_twin.yang.schema import NodeKind, SchemaSet

__all__ = [
    "PUSH",
    "PushReader",
    "Pushed",
    "changed_paths",
    "create_subscription",
    "establish_push",
    "resync_push",
    "subscription_id",
]

SUBSCRIBED = "urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications"
PUSH = "urn:ietf:params:xml:ns:yang:ietf-yang-push"
DATASTORES = "urn:ietf:params:xml:ns:yang:ietf-datastores"
EVENTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"

_LONGEST_PATH = 1000
_GONE = {"delete", "remove"}
_NEW = {"create", "replace", "insert"}
_WITH_VALUE = _NEW | {"merge"}
_ENDED = {"subscription-terminated", "subscription-suspended"}


def establish_push(schema: SchemaSet, paths: Sequence[str], period_s: float | None = None) -> Any:
    """establish-subscription to the operational datastore: on change, or each `period_s`."""
    request = etree.Element(f"{{{SUBSCRIBED}}}establish-subscription", nsmap=_nsmap(SUBSCRIBED))
    datastore = etree.SubElement(request, f"{{{PUSH}}}datastore", nsmap={**_nsmap(PUSH), "ds": DATASTORES})
    datastore.text = "ds:operational"
    chosen = filter_element(schema, paths, f"{{{PUSH}}}datastore-subtree-filter")
    if chosen is not None:
        request.append(chosen)
    if period_s is None:
        trigger = etree.SubElement(request, f"{{{PUSH}}}on-change", nsmap=_nsmap(PUSH))
        etree.SubElement(trigger, f"{{{PUSH}}}sync-on-start").text = "true"
    else:
        trigger = etree.SubElement(request, f"{{{PUSH}}}periodic", nsmap=_nsmap(PUSH))
        etree.SubElement(trigger, f"{{{PUSH}}}period").text = str(max(1, round(period_s * 100)))
    return request


def subscription_id(reply: Any) -> str:
    """The id in the reply to establish-subscription; empty where the device gives none."""
    return (reply.findtext(f"{{{SUBSCRIBED}}}id") or "").strip()


def resync_push(subscription: str) -> Any:
    """resync-subscription: have everything sent anew (RFC 8641 4.4.4)."""
    request = etree.Element(f"{{{PUSH}}}resync-subscription", nsmap=_nsmap(PUSH))
    etree.SubElement(request, f"{{{PUSH}}}id").text = subscription
    return request


def create_subscription() -> Any:
    """RFC 5277's create-subscription to the NETCONF stream, from now on."""
    return etree.Element(f"{{{NOTIFICATION}}}create-subscription", nsmap=_nsmap(NOTIFICATION))


def _nsmap(namespace: str) -> Any:
    return {None: namespace}


@dataclass(slots=True)
class Pushed:
    """What one notification says: `full` is everything that was subscribed to."""

    observed_at: int
    full: bool = False
    subscription: str = ""
    incomplete: bool = False  # RFC 8641 3.11.1: the device knows that it left something out
    updates: dict[str, Any] = field(default_factory=dict)  # unusable edits by their own text: quarantined
    deletes: list[str] = field(default_factory=list)
    ended: str = ""


class PushReader:
    """Reads the notifications of one subscription, in order."""

    def __init__(self, reader: XmlReader, subscription: str = "") -> None:
        """`subscription`: the id of those to read; empty reads all."""
        self._reader = reader
        self._subscription = subscription
        self._leaf_lists: dict[str, tuple[Any, ...]] = {}

    def read(self, notification: Any) -> Pushed | None:
        """What a notification means; None where it is none of YANG-push."""
        pushed = Pushed(event_time(notification.findtext(f"{{{NOTIFICATION}}}eventTime")))
        for event in notification:
            if not isinstance(event.tag, str):
                continue
            name = etree.QName(event)
            if name.namespace == PUSH and name.localname == "push-update":
                pushed.full = True
                pushed.subscription = (event.findtext(f"{{{PUSH}}}id") or "").strip()
                if not self._mine(pushed):
                    return pushed
                contents = event.find(f"{{{PUSH}}}datastore-contents")
                pushed.updates = self._reader.leaves(contents if contents is not None else ())
                self._leaf_lists = {path: v for path, v in pushed.updates.items() if type(v) is tuple}
                return pushed
            if name.namespace == PUSH and name.localname == "push-change-update":
                pushed.subscription = (event.findtext(f"{{{PUSH}}}id") or "").strip()
                pushed.incomplete = event.find(f"{{{PUSH}}}incomplete-update") is not None
                if not self._mine(pushed):
                    return pushed
                for edit in event.iter(f"{{{PUSH}}}edit"):
                    try:
                        self._edit(pushed, edit)
                    except SchemaViolation:
                        text = edit.findtext(f"{{{PUSH}}}target") or "/"
                        pushed.updates[text.strip()[:_LONGEST_PATH]] = ""
                return pushed
            if name.namespace == SUBSCRIBED and name.localname in _ENDED:
                pushed.subscription = (event.findtext(f"{{{SUBSCRIBED}}}id") or "").strip()
                reason = event.findtext(f"{{{SUBSCRIBED}}}reason") or "no reason given"
                pushed.ended = f"{name.localname}: {reason}"
                return pushed
        return None

    def is_other(self, pushed: Pushed) -> bool:
        """Whether a notification is of another subscription."""
        return not self._mine(pushed)

    def _mine(self, pushed: Pushed) -> bool:
        return not self._subscription or pushed.subscription == self._subscription

    def _edit(self, pushed: Pushed, edit: Any) -> None:
        operation = (edit.findtext(f"{{{PUSH}}}operation") or "").strip()
        element = edit.find(f"{{{PUSH}}}target")
        if element is None:
            raise SchemaViolation("a yang-patch edit without a target")
        target = self._reader.target(element)
        node, value = target.node, edit.find(f"{{{PUSH}}}value")
        if operation == "move":  # RFC 8072: the order of entries, which is not mirrored
            return
        if operation not in _GONE and (operation not in _WITH_VALUE or value is None):
            raise SchemaViolation(f"a yang-patch edit {operation!r} without a value, or of no such operation")
        if node is not None and node.kind is NodeKind.LEAF_LIST:
            self._leaf_list(pushed, target.path, operation, value)
            return
        if operation in _GONE or (operation in _NEW and (node is None or not node.is_leaf)):
            self._forget(pushed, target.path)
        if operation not in _GONE:
            found = self._reader.leaves_below(value if value is not None else (), target)
            for leaf, held in found.items():
                pushed.updates[leaf] = held
                if type(held) is tuple:
                    self._leaf_lists[leaf] = held

    def _forget(self, pushed: Pushed, path: str) -> None:
        pushed.deletes.append(path)
        for leaf in [leaf for leaf in pushed.updates if covers(path, leaf)]:
            del pushed.updates[leaf]  # deletes of a batch come before its updates
        for leaf in [leaf for leaf in self._leaf_lists if covers(path, leaf)]:
            del self._leaf_lists[leaf]

    def _leaf_list(self, pushed: Pushed, path: str, operation: str, value: Any) -> None:
        *above, last = parse_path(path)
        leaf = format_path([*above, last._replace(keys=())])
        node = self._reader.schema.node(leaf)
        assert node is not None  # the caller found it
        held = self._leaf_lists.get(leaf, ())
        entry = next((text for key, text in last.keys if key == LEAF_LIST_VALUE), None)
        if entry is None and operation in _GONE:
            held = ()
        elif operation in _GONE:
            held = tuple(item for item in held if str(item) != entry and node.codec.lexical(item) != entry)
        else:
            read = self._reader.leaves(value if value is not None else (), format_path(above)).get(leaf, ())
            held = tuple(read) if entry is None else (*held, *(item for item in read if item not in held))
        if held:
            self._leaf_lists[leaf] = pushed.updates[leaf] = held
        else:
            self._forget(pushed, leaf)


def changed_paths(reader: XmlReader, notification: Any) -> Iterator[str]:
    """Paths that a netconf-config-change names; the whole datastore where it names what no module defines."""
    for event in notification.iter(f"{{{EVENTS}}}netconf-config-change"):
        targets: Iterable[Any] = event.iter(f"{{{EVENTS}}}target")
        found = False
        for target in targets:
            found = True
            try:
                yield reader.path(target.text or "/", target.nsmap)
            except SchemaViolation:
                yield "/"
        if not found:
            yield "/"
