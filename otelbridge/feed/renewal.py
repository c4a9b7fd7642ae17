"""Watches the certificate files under a running connection, and reads those that the next one is made with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from otelbridge.feed.settings import FeedTlsSettings
from otelbridge.net.files import TlsFileError
from otelbridge.net.tls_files import TlsFiles, read_digest, read_tls_files

CHECK_SECONDS = 5.0
"""The content is compared this often: three small files."""

AWAITED_CHECK_SECONDS = 1.0
"""So often while nothing is watched until an operator has changed something, most often one of these files."""

SETTLE_SECONDS = 1.0
"""Changed files must stay as they are for so long: the three are not replaced in one instant."""

RENEW_PAUSE_SECONDS = 60.0
"""Renewals are at least so far apart: relays have crashed when subscribers came and went under load."""


def read_usable(settings: FeedTlsSettings) -> TlsFiles:
    """The files, which must be in date: a connection that is to be made would fail with them.

    Raises:
        TlsFileError: they cannot be used as they are.
    """
    files = read_tls_files(settings, "feed.tls")
    for place, validity in files.validities:
        if fault := validity.fault(datetime.now(UTC)):
            raise TlsFileError(place, fault, "renew the file; it is read again by itself")
    return files


class Renewal:
    """Watches the files. Does nothing while TLS is off, or no file is configured. Times are monotonic."""

    def __init__(self, settings: FeedTlsSettings) -> None:
        self._settings = settings
        self._watched = settings.enabled and any((settings.ca_file, settings.cert_file, settings.key_file))
        self._bundle: bytes | None = None
        self._orders: list[bytes] = []
        self._order = self._orders_left = 0
        self._used = ""
        """Digest of what the present connection was made with, or of what was last refused."""
        self._seen = ""
        self._seen_at = 0.0
        self._checked_at = 0.0
        self._check_at = 0.0
        self._renew_at = 0.0

    def read(self) -> TlsFiles | None:
        """The certificates for a new connection, read again; None while TLS is off.

        Raises:
            TlsFileError: they cannot be used as they are.
        """
        if not self._settings.enabled:
            return None
        self._used = read_digest(self._settings)
        files = read_usable(self._settings)
        self._used = files.digest
        orders = self._orders_of(files)
        return replace(files, ca=orders[self._order % len(orders)]) if orders else files

    def try_next_ca(self) -> bool:
        """Puts another CA of the server's CA's name first, where the bundle has several; False once all were tried."""
        self._order += 1
        self._orders_left -= 1
        return self._orders_left > 0

    def worked(self) -> None:
        """The order of the CAs that was used last is the one to begin with next time."""
        self._orders_left = len(self._orders)

    def _orders_of(self, files: TlsFiles) -> list[bytes]:
        """The bundle's orders, worked out when it changes."""
        if files.ca != self._bundle:
            from otelbridge.net.pem import ca_orders  # noqa: PLC0415 - with cryptography: only who uses TLS pays for it

            self._bundle, self._order = files.ca, 0
            self._orders = list(ca_orders(files.ca)) if files.ca else []
            self._orders_left = len(self._orders)
        return self._orders

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

    def renew(self, now: float) -> TlsFiles | None:
        """The changed certificates, for a connection beside the present one.

        Raises:
            TlsFileError: they cannot be used; raised once per content, the present connection goes on.
        """
        self._renew_at = now + RENEW_PAUSE_SECONDS
        try:
            return self.read()
        except TlsFileError:
            # A half-written pair is completed within moments: that must not wait for the pause.
            self._renew_at = now
            raise
