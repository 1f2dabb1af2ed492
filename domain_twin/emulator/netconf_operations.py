"""The operations of a NETCONF server (RFC 6241, 6022, 5277, 8639, 8641): from an rpc's element to its reply.

One `Operations` a session. Checks parameters and turns them into calls of the datastores and subscriptions;
does no framing and no transport.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from domain_twin.emulator import data_tree
from domain_twin.emulator.data_tree import ConfigRejected, Operation, Tree
from domain_twin.emulator.device import Actor, DeviceDatastore, PathPattern
from domain_twin.emulator.netconf_datastores import Datastores, Name
from domain_twin.emulator.netconf_events import NOTIFICATION
from domain_twin.emulator.netconf_filter import subtree, subtree_patterns, xpath_patterns
from domain_twin.emulator.netconf_library import MONITORING, NMDA, library, schema_text, sessions
from domain_twin.emulator.netconf_parameters import (
    choice_of,
    event_tags,
    identifier_of,
    missing,
    number_of,
    reply_attributes,
    text_of,
    trigger_of,
)
from domain_twin.emulator.netconf_push import PUSH, SUBSCRIBED, Subscriptions
from domain_twin.emulator.rpc_error import NETCONF, RpcError
from domain_twin.emulator.xml_tree import local_name, module_prefixes, namespace, requests_from_xml, xml_tree

log = logging.getLogger(__name__)

_OK = "<ok/>"
_WITH_DEFAULTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults"


class Sessions(Protocol):
    """The device's sessions, as one of them may see and end them."""

    def describe(self) -> list[dict[str, Any]]:
        """Entries of netconf-state's list of sessions."""
        ...

    def kill(self, session_id: int, by: int) -> None:
        """End a session. Raises RpcError where there is no such one."""
        ...

    def owner_of(self, subscription: int) -> Subscriptions | None:
        """The subscriptions of the session that holds one."""
        ...


class Operations:
    """What one session may do."""

    def __init__(
        self,
        store: DeviceDatastore,
        *,
        datastores: Datastores,
        subscriptions: Subscriptions,
        sessions_: Sessions,
        actor: Actor,
        identifiers: Iterator[int],
    ):
        self._store = store
        self._schema = store.schema
        self._datastores = datastores
        self._subscriptions = subscriptions
        self._sessions = sessions_
        self._actor = actor
        self._identifiers = identifiers
        self.closing = False
        self._after_reply: list[Callable[[], None]] = []
        base = f"{{{NETCONF}}}"
        self._handlers: Mapping[str, Callable[[Any], str]] = {
            f"{base}get": self._get,
            f"{base}get-config": self._get_config,
            f"{{{NMDA}}}get-data": self._get_data,
            f"{base}edit-config": self._edit_config,
            f"{base}copy-config": self._copy_config,
            f"{base}delete-config": self._delete_config,
            f"{base}validate": self._validate,
            f"{base}commit": self._commit,
            f"{base}cancel-commit": self._cancel_commit,
            f"{base}discard-changes": self._discard_changes,
            f"{base}lock": self._lock,
            f"{base}unlock": self._unlock,
            f"{base}close-session": self._close_session,
            f"{base}kill-session": self._kill_session,
            f"{{{MONITORING}}}get-schema": self._get_schema,
            f"{{{NOTIFICATION}}}create-subscription": self._create_subscription,
            f"{{{SUBSCRIBED}}}establish-subscription": self._establish_subscription,
            f"{{{SUBSCRIBED}}}modify-subscription": self._modify_subscription,
            f"{{{SUBSCRIBED}}}delete-subscription": self._delete_subscription,
            f"{{{SUBSCRIBED}}}kill-subscription": self._kill_subscription,
            f"{{{PUSH}}}resync-subscription": self._resync_subscription,
        }

    def reply(self, rpc: Any) -> str:
        """The rpc-reply to an rpc element; `after_reply` must be called once it was sent."""
        try:
            content = self._dispatch(rpc)
        except RpcError as error:
            content = error.xml()
        except ConfigRejected as rejection:
            content = RpcError.of(rejection, self._schema).xml()
        except Exception:
            log.exception("a NETCONF operation failed", extra={"device": self._store.name})
            content = RpcError("operation-failed", "the device failed inside; its log says why").xml()
        return f"<rpc-reply{reply_attributes(rpc)}>{content}</rpc-reply>"

    def after_reply(self) -> None:
        """Start what must come after the reply: a subscription's first notification."""
        actions, self._after_reply = self._after_reply, []
        for action in actions:
            action()

    def _dispatch(self, rpc: Any) -> str:
        if rpc.tag != f"{{{NETCONF}}}rpc":
            raise RpcError("malformed-message", f"an rpc is expected, not {local_name(rpc)!r}", kind="rpc")
        if "message-id" not in rpc.attrib:
            raise RpcError(
                "missing-attribute",
                "an rpc needs a message-id",
                kind="rpc",
                info={"bad-attribute": "message-id", "bad-element": "rpc"},
            )
        if len(rpc) != 1:
            tag = "missing-element" if len(rpc) == 0 else "unknown-element"
            raise RpcError(tag, "an rpc holds one operation", kind="protocol")
        operation = rpc[0]
        handler = self._handlers.get(operation.tag)
        if handler is None:
            raise RpcError(
                "operation-not-supported",
                f"the device has no operation {local_name(operation)!r} in {namespace(operation)!r}",
                kind="protocol",
                info={"bad-element": local_name(operation)},
            )
        return handler(operation)

    # ---- reading -----------------------------------------------------------

    def _get(self, operation: Any) -> str:
        return self._data(operation, self._operational())

    def _operational(self) -> Tree:
        whole: Tree = {**self._store.operational, **library(self._schema)}
        state = sessions(self._schema, self._sessions.describe())
        for node, held in state.items():
            whole[node] = {**whole.get(node, {}), **held}
        return whole

    def _get_config(self, operation: Any) -> str:
        return self._data(operation, self._source(operation, "source"))

    def _get_data(self, operation: Any) -> str:
        """RFC 8526 3.1.1, by subtree filters."""
        name = self._datastore(operation, NMDA)
        for child in operation:
            if local_name(child) not in ("datastore", "subtree-filter"):
                raise RpcError(
                    "operation-not-supported",
                    f"get-data by {local_name(child)!r}: a datastore and a subtree-filter are accepted",
                    kind="protocol",
                    info={"bad-element": local_name(child)},
                )
        if name not in ("operational", "running", "candidate"):
            raise RpcError(
                "invalid-value",
                f"datastore {name!r}: operational, running and candidate are held",
                info={"bad-element": "datastore"},
            )
        tree = self._operational() if name == "operational" else self._datastores.tree(name)  # type: ignore[arg-type]
        wanted = operation.find(f"{{{NMDA}}}subtree-filter")
        if wanted is not None:
            tree = subtree(self._schema, tree, wanted)
        return f'<data xmlns="{NMDA}">{xml_tree(self._schema, tree)}</data>'

    def _data(self, operation: Any, tree: Tree) -> str:
        defaults = operation.find(f"{{{_WITH_DEFAULTS}}}with-defaults")
        if defaults is not None and (defaults.text or "").strip() != "explicit":
            raise RpcError(
                "invalid-value",
                "defaults are reported as set: explicit",
                info={"bad-element": "with-defaults"},
            )
        wanted = operation.find(f"{{{NETCONF}}}filter")
        if wanted is not None:
            kind = wanted.get("type") or wanted.get(f"{{{NETCONF}}}type") or "subtree"
            if kind != "subtree":
                raise RpcError(
                    "operation-not-supported",
                    f"filter type {kind!r}: the device has no :xpath, subtree filters are accepted",
                    kind="protocol",
                    info={"bad-attribute": "type", "bad-element": "filter"},
                )
            tree = subtree(self._schema, tree, wanted)
        return f"<data>{xml_tree(self._schema, tree)}</data>"

    def _get_schema(self, operation: Any) -> str:
        identifier = text_of(operation, MONITORING, "identifier")
        if identifier is None:
            raise missing("identifier")
        return schema_text(
            self._schema,
            identifier,
            text_of(operation, MONITORING, "version"),
            text_of(operation, MONITORING, "format"),
        )

    # ---- editing -----------------------------------------------------------

    def _edit_config(self, operation: Any) -> str:
        target = self._name(operation, "target")
        default: Operation = (
            choice_of(operation, "default-operation", ("merge", "replace", "none")) or "merge"
        )
        test = choice_of(operation, "test-option", ("test-then-set", "set", "test-only"))
        # whatever stops an edit, nothing of it stays: stop-on-error is rollback-on-error here
        choice_of(operation, "error-option", ("stop-on-error", "rollback-on-error"))
        config = operation.find(f"{{{NETCONF}}}config")
        if config is None:
            raise missing("config")
        self._datastores.check_free(target, self._actor.session_id)
        requests = requests_from_xml(self._schema, None, config)
        before = self._datastores.tree(target)
        if default == "replace":
            named = {request.node for request in requests}
            before = {node: held for node, held in before.items() if node in named}
        after = data_tree.apply(before, requests, default)
        if test == "test-only":
            data_tree.validate(after)
            return _OK
        if target == "candidate" and test == "test-then-set":
            data_tree.validate(after)
        self._datastores.write(target, after, self._actor)
        return _OK

    def _copy_config(self, operation: Any) -> str:
        target = self._name(operation, "target")
        self._datastores.write(target, self._source(operation, "source"), self._actor)
        return _OK

    def _delete_config(self, operation: Any) -> str:
        target = self._name(operation, "target")
        raise RpcError("operation-not-supported", f"{target} cannot be deleted", kind="protocol")

    def _validate(self, operation: Any) -> str:
        data_tree.validate(self._source(operation, "source"))
        return _OK

    def _discard_changes(self, operation: Any) -> str:
        self._datastores.discard(self._actor.session_id)
        return _OK

    def _commit(self, operation: Any) -> str:
        confirmed = operation.find(f"{{{NETCONF}}}confirmed") is not None
        timeout = number_of(operation, "confirm-timeout")
        persist = text_of(operation, NETCONF, "persist")
        if not confirmed and (timeout is not None or persist is not None):
            raise missing("confirmed")
        self._datastores.commit(
            self._actor,
            confirmed=confirmed,
            timeout_s=600 if timeout is None else timeout,
            persist=persist,
            persist_id=text_of(operation, NETCONF, "persist-id"),
        )
        return _OK

    def _cancel_commit(self, operation: Any) -> str:
        self._datastores.cancel_commit(self._actor, text_of(operation, NETCONF, "persist-id"))
        return _OK

    def _lock(self, operation: Any) -> str:
        self._datastores.lock(self._name(operation, "target"), self._actor.session_id)
        return _OK

    def _unlock(self, operation: Any) -> str:
        self._datastores.unlock(self._name(operation, "target"), self._actor.session_id)
        return _OK

    # ---- sessions ----------------------------------------------------------

    def _close_session(self, operation: Any) -> str:
        self.closing = True
        return _OK

    def _kill_session(self, operation: Any) -> str:
        session_id = number_of(operation, "session-id")
        if session_id is None:
            raise missing("session-id")
        self._sessions.kill(session_id, self._actor.session_id)
        return _OK

    # ---- subscriptions -----------------------------------------------------

    def _create_subscription(self, operation: Any) -> str:
        self._check_stream(text_of(operation, NOTIFICATION, "stream"))
        if operation.find(f"{{{NOTIFICATION}}}startTime") is not None:
            raise RpcError(
                "operation-not-supported", "the device keeps no event log: no replay", kind="protocol"
            )
        if operation.find(f"{{{NOTIFICATION}}}stopTime") is not None:
            raise missing("startTime")
        if 0 in self._subscriptions:
            raise RpcError(
                "operation-failed", "this session has its event subscription already", kind="protocol"
            )
        wanted = event_tags(operation.find(f"{{{NOTIFICATION}}}filter"))
        self._after_reply.append(lambda: self._subscriptions.add_stream(0, wanted))
        return _OK

    def _establish_subscription(self, operation: Any) -> str:
        identifier = next(self._identifiers)
        if operation.find(f"{{{SUBSCRIBED}}}stream") is not None:
            self._check_stream(text_of(operation, SUBSCRIBED, "stream"))
            wanted = event_tags(operation.find(f"{{{SUBSCRIBED}}}stream-subtree-filter"))
            self._after_reply.append(lambda: self._subscriptions.add_stream(identifier, wanted))
        else:
            self._check_datastore(operation)
            patterns = self._patterns(operation) or [PathPattern((), "/")]
            trigger = trigger_of(operation)
            self._after_reply.append(lambda: self._subscriptions.add_push(identifier, patterns, trigger))
        return f'<id xmlns="{SUBSCRIBED}">{identifier}</id>'

    def _modify_subscription(self, operation: Any) -> str:
        identifier = identifier_of(operation, SUBSCRIBED)
        self._check_datastore(operation)
        patterns, trigger = self._patterns(operation), trigger_of(operation)
        self._subscriptions.modify(identifier, patterns, trigger)
        return _OK

    def _delete_subscription(self, operation: Any) -> str:
        self._subscriptions.remove(identifier_of(operation, SUBSCRIBED))
        return _OK

    def _kill_subscription(self, operation: Any) -> str:
        identifier = identifier_of(operation, SUBSCRIBED)
        owner = self._sessions.owner_of(identifier) or self._subscriptions
        owner.kill(identifier)
        return _OK

    def _resync_subscription(self, operation: Any) -> str:
        self._subscriptions.resync(identifier_of(operation, PUSH))
        return _OK

    def _check_stream(self, stream: str | None) -> None:
        if stream not in (None, "NETCONF"):
            raise RpcError(
                "invalid-value", f"stream {stream!r}: the device has NETCONF", info={"bad-element": "stream"}
            )

    def _datastore(self, operation: Any, uri: str) -> str:
        """The datastore that a parameter names; empty for one that is none of ietf-datastores'."""
        element = operation.find(f"{{{uri}}}datastore")
        if element is None:
            raise missing("datastore")
        prefix, _, name = (element.text or "").strip().rpartition(":")
        module = module_prefixes(self._schema, element).get(prefix or None)
        return name if module == "ietf-datastores" else ""

    def _check_datastore(self, operation: Any) -> None:
        name = self._datastore(operation, PUSH)
        if name != "operational":
            raise RpcError(
                "invalid-value",
                f"datastore {name!r}: operational (of ietf-datastores) can be subscribed to",
                app_tag="ietf-yang-push:datastore-not-subscribable",
                info={"bad-element": "datastore"},
            )

    def _patterns(self, operation: Any) -> list[PathPattern] | None:
        tree_filter = operation.find(f"{{{PUSH}}}datastore-subtree-filter")
        if tree_filter is not None:
            return subtree_patterns(self._schema, list(tree_filter))
        path = operation.find(f"{{{PUSH}}}datastore-xpath-filter")
        if path is not None:
            return xpath_patterns(self._schema, path.text or "", module_prefixes(self._schema, path))
        if operation.find(f"{{{PUSH}}}selection-filter-ref") is not None:
            raise RpcError("operation-not-supported", "the device holds no named filters", kind="protocol")
        return None

    # ---- parameters --------------------------------------------------------

    def _name(self, operation: Any, role: str) -> Name:
        element = operation.find(f"{{{NETCONF}}}{role}")
        if element is None or len(element) != 1:
            raise missing(role)
        name = local_name(element[0])
        if name not in ("running", "candidate") or namespace(element[0]) != NETCONF:
            raise RpcError(
                "invalid-value",
                f"{role} {name!r}: running and candidate are held",
                kind="protocol",
                info={"bad-element": name},
            )
        return name  # type: ignore[return-value]

    def _source(self, operation: Any, role: str) -> Tree:
        config = operation.find(f"{{{NETCONF}}}{role}/{{{NETCONF}}}config")
        if config is not None:
            return data_tree.apply({}, requests_from_xml(self._schema, None, config), "merge")
        return self._datastores.tree(self._name(operation, role))
