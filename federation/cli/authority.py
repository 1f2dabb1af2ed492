"""`fedtwin ca`: certificates for trials and the demo. Owns words; `domain_twin.trust.ca` makes the files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from cryptography import x509

    from domain_twin.trust.identity import Role

SECTION = "Operate"
Folder: TypeAlias = Annotated[Path, typer.Option("--ca", help="Folder of the operator's authority.")]
Out: TypeAlias = Annotated[Path, typer.Option("--out", "-o", help="Folder that the files go to.")]
Hours: TypeAlias = Annotated[float, typer.Option("--hours", help="How long it is valid.", min=0.01)]


def add_to(app: typer.Typer) -> None:
    """Add `ca` with its sub-commands."""
    part = subgroup(
        app, "ca", section=SECTION, help_text="Make and show certificates: one authority an operator."
    )
    command(part, "init", group="ca", section=SECTION, example="fedtwin ca init longhaul.example --ca ca/")(
        init
    )
    command(
        part, "agent", group="ca", section=SECTION, example="fedtwin ca agent transport --ca ca/ -o pki/"
    )(agent)
    command(
        part,
        "broker",
        group="ca",
        section=SECTION,
        example="fedtwin ca broker main --dns broker.exchange.example --ca ca/ -o pki/",
    )(broker)
    command(part, "api", group="ca", section=SECTION, example="fedtwin ca api main --ca ca/ -o pki/")(api)
    command(part, "user", group="ca", section=SECTION, example="fedtwin ca user ada --ca ca/ -o pki/")(user)
    command(part, "show", group="ca", section=SECTION, example="fedtwin ca show pki/agent-transport.pem")(
        show
    )


def init(
    *,
    operator: Annotated[
        str, typer.Argument(metavar="OPERATOR", help="Trust domain, such as longhaul.example.")
    ],
    ca: Folder = Path("ca"),
    intermediate: Annotated[
        bool, typer.Option("--intermediate", help="Issue from an intermediate below the root.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an operator's authority.

    Peers put its root.pem into their trust; its keys stay with the operator.
    """
    from domain_twin.trust.ca import OperatorCA
    from federation.cli.console import emit, out, short_path

    made = OperatorCA.create(operator, ca, intermediate=intermediate)
    if as_json:
        emit({"operator": operator, "root": made.root})
        return
    out().print(f"{operator}: authority made; give {short_path(made.root)} to those who are to trust it")


def agent(
    *,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The agent's domain.")],
    ca: Folder = Path("ca"),
    to: Out = Path("pki"),
    hours: Hours = 24,
    as_json: Json = False,
) -> None:
    """Issue an agent's identity.

    It can dial a broker and sign statements, and can never pose as a broker.
    """
    from domain_twin.trust.identity import Role

    _issue(Role.AGENT, domain, ca, to, hours, (), as_json)


def broker(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="The broker's id.")] = "main",
    dns: Annotated[
        list[str] | None, typer.Option("--dns", help="Name or IP address that agents dial; repeatable.")
    ] = None,
    ca: Folder = Path("ca"),
    to: Out = Path("pki"),
    hours: Hours = 24,
    as_json: Json = False,
) -> None:
    """Issue a broker's identity."""
    from domain_twin.trust.identity import Role

    if not dns:
        raise typer.BadParameter(
            "name at least one host name or IP address that agents dial", param_hint="--dns"
        )
    _issue(Role.BROKER, name, ca, to, hours, tuple(dns), as_json)


def api(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="The id of the API process.")] = "main",
    ca: Folder = Path("ca"),
    to: Out = Path("pki"),
    hours: Hours = 24,
    as_json: Json = False,
) -> None:
    """Issue the identity of an API process, to speak for partners with."""
    from domain_twin.trust.identity import Role

    _issue(Role.API, name, ca, to, hours, (), as_json)


def user(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The engineer's name.")],
    ca: Folder = Path("ca"),
    to: Out = Path("pki"),
    hours: Hours = 24,
    as_json: Json = False,
) -> None:
    """Issue an engineer's identity, to read the twin with."""
    from domain_twin.trust.identity import Role

    _issue(Role.USER, name, ca, to, hours, (), as_json)


def _issue(  # noqa: PLR0917
    role: Role, name: str, ca: Path, to: Path, hours: float, dns: tuple[str, ...], as_json: bool
) -> None:
    from datetime import timedelta

    from domain_twin.trust.ca import OperatorCA
    from federation.cli.console import emit, out, short_path

    issued = OperatorCA.load(ca).issue(role, name, to, dns=dns, life=timedelta(hours=hours))
    if as_json:
        emit(issued)
        return
    from federation.cli.tables import attributes_table

    out().print(f"{issued.identity}, valid {hours:g} h")
    out().print(
        attributes_table(
            {
                "certificate": short_path(issued.certificate),
                "key": short_path(issued.key),
                "signing_certificate": short_path(issued.signing_certificate),
                "signing_key": short_path(issued.signing_key),
            }
        )
    )


def show(
    *,
    certificate: Annotated[
        Path, typer.Argument(metavar="PEM", help="A certificate, with intermediates or not.")
    ],
    as_json: Json = False,
) -> None:
    """Show whose a certificate is, and until when it holds."""
    from cryptography import x509

    from domain_twin.errors import ConfigError
    from federation.cli.console import emit, out

    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except OSError as error:
        raise ConfigError(f"{certificate}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ConfigError(f"{certificate}: not a PEM file with certificates") from error
    rows = [describe(each) for each in chain]
    if as_json:
        emit({"certificates": rows})
        return
    from federation.cli.tables import attributes_table

    for number, row in enumerate(rows):
        if number:
            out().print()
        out().print(attributes_table(row))


def describe(certificate: x509.Certificate) -> dict[str, str]:
    """What a person wants to know of a certificate, by name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identities = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = [
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        ]
    except x509.ExtensionNotFound:
        identities, hosts = [], []
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        purposes = [_PURPOSES.get(oid.dotted_string, oid.dotted_string) for oid in usage]
    except x509.ExtensionNotFound:
        purposes = []
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    hours = left.total_seconds() / 3600
    state = f"{hours:.0f} h left" if hours > 0 else f"expired {-hours:.0f} h ago"
    return {
        "identity": ", ".join(identities) or "none",
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": ", ".join(hosts) or "none",
        "for": ", ".join(purposes) or "signing certificates",
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%MZ} to"
        f" {certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ} ({state})",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "server",
    "1.3.6.1.5.5.7.3.2": "client",
    "1.3.6.1.5.5.7.3.36": "signing statements",
}
