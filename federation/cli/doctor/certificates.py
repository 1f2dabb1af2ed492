"""What doctor sees of certificates and keys: their end, their chain, who may read them. Changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509

from domain_twin.config import BrokerConfig, IdentityConfig
from domain_twin.errors import TwinError
from federation.cli.checks import Rows

_SHARE = 1 / 6  # of its life, when a certificate should have been renewed


def identity(rows: Rows, files: IdentityConfig, role: str, name: str) -> None:
    """Both certificates of a process: how long they last, and whether their order in the file is right."""
    for subject, path in (
        ("certificate", files.certificate),
        ("signing certificate", files.signing_certificate),
    ):
        _end(rows, subject, path, f"fedtwin ca {role} {name} -o {path.parent}")


def pair(rows: Rows, certificate: Path, _key: Path, role: str, name: str) -> None:
    """An engineer's certificate."""
    _end(rows, "certificate", certificate, f"fedtwin ca {role} {name} -o {certificate.parent}")


def own_chain(rows: Rows, config: BrokerConfig) -> None:
    """Whether the broker's own certificate leads to a root of its operator, where [trust] has that."""
    from domain_twin.trust.roots import TrustBundle

    if config.operator not in config.trust:
        return
    try:
        TrustBundle.load(config.trust).verify(config.identity.certificate.read_bytes())
    except (TwinError, OSError) as error:
        rows.wrong(
            "chain",
            f"{config.identity.certificate} does not lead to {config.trust[config.operator]}: {error}",
            f"openssl verify -CAfile {config.trust[config.operator]} {config.identity.certificate}",
        )
    else:
        rows.fine("chain", f"leads to {config.trust[config.operator]}")


def _end(rows: Rows, subject: str, path: Path, renew: str) -> None:
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return  # told by the check of the file already
    for below, above in pairwise(chain):
        if below.issuer != above.subject:
            rows.wrong(
                subject,
                f"{path}: {below.subject.rfc4514_string()} is followed by"
                f" {above.subject.rfc4514_string()}, which did not issue it",
                renew,
            )
            return
    leaf, now = chain[0], datetime.now(UTC)
    left = leaf.not_valid_after_utc - now
    if left <= timedelta() or leaf.not_valid_before_utc > now:
        return  # told by the check of the file already
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if left < life * _SHARE:
        rows.doubtful(
            subject, f"{path} ends in {_span(left)}, most of its {_span(life)} is over; renew it", renew
        )
    else:
        rows.fine(subject, f"{path.name} lasts another {_span(left)}")


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours > 72 else f"{hours:.1f} h"
