"""When certificates end, read from their files whenever those change. Owns dates; judges nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

from domain_twin.trust.files import stamp


class CertificateEnd:
    """The earliest end of some PEM certificates; renewed files are noticed."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen: object = None
        self._end: datetime | None = None

    def not_after(self) -> datetime | None:
        """When the first of them ends; None where one cannot be read."""
        if (seen := stamp(*self._paths)) != self._seen:
            self._seen = seen
            try:
                self._end = min(
                    certificate.not_valid_after_utc
                    for path in self._paths
                    for certificate in x509.load_pem_x509_certificates(path.read_bytes())
                )
            except (OSError, ValueError):
                self._end = None
        return self._end
