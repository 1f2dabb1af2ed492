"""What a NETCONF server answers when it cannot do what was asked: rpc-error (RFC 6241 4.3, appendix A)."""

from collections.abc import Mapping
from typing import Any, Literal

from domain_twin.emulator.data_tree import ConfigRejected
from domain_twin.emulator.device_schema import DeviceSchema, Step
from domain_twin.emulator.xml_paths import path_element, printable
from domain_twin.errors import OperationRejected, SchemaViolation

NETCONF = "urn:ietf:params:xml:ns:netconf:base:1.0"


class RpcError(OperationRejected):
    """One rpc-error; `info` are the elements of error-info, `steps` the node at fault."""

    def __init__(
        self,
        tag: str,
        message: str,
        *,
        kind: Literal["transport", "rpc", "protocol", "application"] = "application",
        steps: tuple[Step, ...] = (),
        info: Mapping[str, Any] | None = None,
        app_tag: str = "",
    ):
        super().__init__(message)
        self.tag = tag
        self.message = message
        self.kind = kind
        self.steps = steps
        self.info = dict(info or {})
        self.app_tag = app_tag

    @classmethod
    def of(cls, rejection: ConfigRejected, schema: DeviceSchema) -> "RpcError":
        """The rpc-error of a transaction that the datastore refused."""
        try:
            steps = schema.parse(rejection.path) if rejection.path != "/" else ()
        except SchemaViolation:
            return cls(rejection.tag, str(rejection))
        info = {"bad-element": steps[-1][0].name} if steps and rejection.tag == "missing-element" else {}
        kind: Any = "protocol" if rejection.tag in ("in-use", "lock-denied") else "application"
        return cls(rejection.tag, str(rejection), kind=kind, steps=steps, info=info)

    def xml(self) -> str:
        """The rpc-error element."""
        parts = [
            "<rpc-error>",
            f"<error-type>{self.kind}</error-type>",
            f"<error-tag>{self.tag}</error-tag>",
            "<error-severity>error</error-severity>",
        ]
        if self.app_tag:
            parts.append(f"<error-app-tag>{printable(self.app_tag)}</error-app-tag>")
        if self.steps:
            parts.append(path_element("error-path", self.steps))
        parts.append(f'<error-message xml:lang="en">{printable(self.message)}</error-message>')
        if self.info:
            parts.append("<error-info>")
            parts.extend(f"<{name}>{printable(str(value))}</{name}>" for name, value in self.info.items())
            parts.append("</error-info>")
        parts.append("</rpc-error>")
        return "".join(parts)
