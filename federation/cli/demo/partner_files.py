"""What the demo's partners and their api read: profiles, tokens, api.toml. Owns who the partners are.

A partner gets an address and an access token. It has no certificate, and no file of an operator names more
of it than its name in an agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from federation.cli.demo.files import DemoFiles

__all__ = [
    "GUEST",
    "OTHER",
    "PARTNERS",
    "Partner",
    "agreements",
    "broker_tables",
    "write_api",
    "write_partners",
]

API_NAME = "main"
TOKEN_LIFE_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner of the demo; `node_at`: the domain that shows itself to it as one node only."""

    id: str
    name: str
    node_at: str = ""


GUEST = Partner("acme", "Acme Reality, studios for extended reality")
OTHER = Partner("brightline", "Brightline, railways", node_at="transport")
PARTNERS = (GUEST, OTHER)


def agreements(domain: str, exchange: str) -> str:
    """A domain's agreements on partners: each sees what its own says, and never more than the exchange."""
    return "\n".join(_agreement(domain, exchange, partner) for partner in PARTNERS)


def _agreement(domain: str, exchange: str, partner: Partner) -> str:
    level = "node" if partner.node_at == domain else "mesh"
    return f"""\
# This partner of the exchange may have the domain in a twin of its own, in coarser figures.
[[agreement]]
id = "{domain}-{partner.id}"
peer = "spiffe://{exchange}/partner/{partner.id}"
level = "{level}"
actions = ["sandbox", "what-if", "query"]
precision = {{ delay_ms = 0.1, bandwidth_mbps = 10.0, loss = 1e-5 }}
"""


def broker_tables(exchange: str, partners: Sequence[Partner] = PARTNERS) -> str:
    """The broker's tables on partners, and on the api that speaks for them."""
    listed = "\n".join(f'[[partner]]\nid = "{each.id}"\nname = "{each.name}"\n' for each in partners)
    return f"""\
# The HTTP api speaks for partners: it has verified their tokens. What they get, broker and domains decide.
[[access]]
subject = "spiffe://{exchange}/api/{API_NAME}"
partners = true

{listed}"""


def write_api(files: DemoFiles, *, operator: str, profile: str) -> None:
    """Write api.toml, the api's profile of the broker, and the keys of the trial issuer. Raises ConfigError.

    `profile` is the text of a client profile without its certificate.
    """
    from twin_api.issuer import DEFAULT_ISSUER, SET_FILE, TrialIssuer

    folder = files.api.parent
    TrialIssuer.create(folder / "issuer")
    (folder / "state").mkdir()
    (folder / "broker.toml").write_text(
        f"""\
# How the api reaches the broker.
{profile}root = "../ca/root.pem"
certificate = "pki/api-{API_NAME}.pem"
key = "pki/api-{API_NAME}.key"
""",
        encoding="utf-8",
    )
    files.api.write_text(
        f"""\
# The service APIs of {operator}, for partners. On this machine alone, so without TLS: see [tls].
listen = "{files.api_address}"
public_address = "http://{files.api_address}"
broker = "broker.toml"
state = "state"

# Who vouches for partners. This one is for trials: its key lies beside it, and it asks nobody for a secret.
[[issuer]]
iss = "{DEFAULT_ISSUER}"
jwks = "issuer/{SET_FILE}"
trial = true

[metrics]
listen = "127.0.0.1:0"
""",
        encoding="utf-8",
    )


def write_partners(files: DemoFiles) -> None:
    """Write each partner's profile and token. Raises ConfigError."""
    from twin_api.caller import Scope
    from twin_api.issuer import TrialIssuer

    issuer = TrialIssuer.load(files.api.parent / "issuer")
    scopes = [scope for scope in Scope if scope is not Scope.OPERATOR]
    audience = f"http://{files.api_address}"
    for partner in PARTNERS:
        token = files.folder / "partners" / f"{partner.id}.token"
        token.parent.mkdir(exist_ok=True)
        token.touch(mode=0o600)
        token.write_text(
            issuer.issue(partner.id, scopes, audience=audience, life_s=TOKEN_LIFE_S) + "\n", encoding="utf-8"
        )
        files.partner(partner.id).write_text(
            f"""\
# How {partner.id} reaches the service APIs. The token says who asks, for {TOKEN_LIFE_S / 3600:g} hours.
url = "{audience}"
token = "file:{token.relative_to(files.folder)}"
""",
            encoding="utf-8",
        )
