"""Certificate files that change under a running connection, in; checked certificates to renew it with, out."""

from __future__ import annotations

from otelbridge.feed.certificates import CertificateError, ClientCertificates, read_certificates, read_digest
from otelbridge.feed.settings import FeedTlsSettings

CHECK_SECONDS = 5.0
"""The content is compared this often: three small files."""

AWAITED_CHECK_SECONDS = 1.0
"""So often while nothing is watched until an operator has changed something, most often one of these files."""

SETTLE_SECONDS = 1.0
"""Changed files must stay as they are for so long: the three are not replaced in one instant."""

RENEW_PAUSE_SECONDS = 60.0
"""Renewals are at least so far apart: relays have crashed when subscribers came and went under load."""


class Renewal:
    """Watches the files. Does nothing while TLS is off, or no file is configured. Times are monotonic."""

    def __init__(self, settings: FeedTlsSettings) -> None:
        self._settings = settings
        self._watched = settings.enabled and any((settings.ca_file, settings.cert_file, settings.key_file))
        self._used = ""
        """Digest of what the present connection was made with, or of what was last refused."""
        self._seen = ""
        self._seen_at = 0.0
        self._checked_at = 0.0
        self._check_at = 0.0
        self._renew_at = 0.0

    def read(self) -> ClientCertificates | None:
        """The certificates for a new connection, read again; None while TLS is off.

        Raises:
            CertificateError: they cannot be used as they are.
        """
        if not self._settings.enabled:
            return None
        self._used = read_digest(self._settings)
        certificates = read_certificates(self._settings)
        self._used = certificates.digest
        return certificates

    def due(self, now: float) -> bool:
        """Whether a connection that is watched should be renewed."""
        return now >= self._renew_at and self.changed(now)

    def changed(self, now: float, *, awaited: bool = False) -> bool:
        """Whether the files differ from those that were last used or refused, and have settled.

        Args:
            now: the time.
            awaited: somebody waits for it.
        """
        check_at = self._checked_at + AWAITED_CHECK_SECONDS if awaited else self._check_at
        if not self._watched or now < check_at:
            return False
        self._checked_at, self._check_at = now, now + CHECK_SECONDS
        digest = read_digest(self._settings)
        if not digest or digest == self._used:
            return False
        if digest != self._seen:
            self._seen, self._seen_at, self._check_at = digest, now, now + SETTLE_SECONDS
            return False
        return now - self._seen_at >= SETTLE_SECONDS

    def renew(self, now: float) -> ClientCertificates | None:
        """The changed certificates, for a connection beside the present one.

        Raises:
            CertificateError: they cannot be used; raised once per content, the present connection goes on.
        """
        self._renew_at = now + RENEW_PAUSE_SECONDS
        try:
            return self.read()
        except CertificateError:
            # A half-written pair is completed within moments: that must not wait for the pause.
            self._renew_at = now
            raise
