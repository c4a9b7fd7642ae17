"""The TLS files of the connection: checked when read, read again when they change, never a half-written pair.

What is out of date is used all the same: a connection that stands outlives its certificate, and not everybody looks at
dates. But it is said at the start, and is the first suspect when no connection can be made.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from otelbridge.net.files import WatchedFiles
from otelbridge.send.settings import SendSettings
from otelbridge.send.target import SendSettingsError


class Period(NamedTuple):
    """From when until when a certificate is valid."""

    begin: datetime
    end: datetime

    def outside(self, now: datetime) -> str:
        """What is wrong with it now; empty while nothing is."""
        if now > self.end:
            return f"expired on {self.end:%Y-%m-%d %H:%M} UTC"
        if now < self.begin:
            return f"is valid from {self.begin:%Y-%m-%d %H:%M} UTC on, or this machine's clock is wrong"
        return ""


def period_of(pem: bytes, *, bundle: bool) -> Period:
    """The period of the first certificate, or of a CA bundle: it is of use as long as the last one of it is.

    Raises:
        ValueError: there is none that can be read.
    """
    found = x509.load_pem_x509_certificates(pem)
    chosen = max(found, key=lambda one: one.not_valid_after_utc) if bundle else found[0]
    return Period(chosen.not_valid_before_utc, chosen.not_valid_after_utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Checked contents. Two of them are equal when nothing changed."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    cert_path: Path | None = None
    key_path: Path | None = None


class Certificates:
    """The TLS files in force.

    Raises:
        SendSettingsError: at the start a file cannot be read or is not what it should be. Later, the last good
            ones stay in force, and `trouble` says why.
    """

    def __init__(self, settings: SendSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        if (settings.cert_file is None) != (settings.key_file is None):
            raise SendSettingsError("send.cert_file and send.key_file belong together; set both or none")
        self._settings = settings
        self._paths = {
            name: path for name in ("ca_file", "cert_file", "key_file") if (path := getattr(settings, name)) is not None
        }
        self._files = WatchedFiles(*self._paths.values(), clock=clock)
        self._seen: tuple[bytes, ...] = ()
        self._periods: dict[str, Period] = {}
        self.trouble = ""
        try:
            self._seen = self._files.contents()
        except OSError as error:
            name = next(name for name, path in self._paths.items() if str(path) == error.filename)
            raise SendSettingsError(
                f"send.{name} is {error.filename!r}: {error.strerror}; give a PEM file that the bridge can read"
            ) from None
        self._good = self._checked(self._seen)

    def renewed(self) -> bool:
        """Reads the files now: whether they are others than before, and good."""
        before = self._good
        return self.current(doubted=True) != before

    def current(self, *, doubted: bool = False) -> TlsFiles:
        """The newest good files; read again now if `doubted`, else once in a while."""
        contents = self._files.contents(doubted=doubted)
        if contents != self._seen:
            self._seen = contents
            try:
                self._good = self._checked(contents)
                self.trouble = ""
            except SendSettingsError as error:
                # A rotation in the middle of writing, or a bad one: the old pair may well work for a while.
                self.trouble = str(error)
        return self._good

    def out_of_date(self) -> str:
        """Which of the files in force is out of date now, and since when; empty where none is."""
        outside = ((name, period.outside(datetime.now(UTC))) for name, period in self._periods.items())
        return "; ".join(f"send.{name} ({self._paths[name]}) {what}" for name, what in outside if what)

    @property
    def expires_unix_seconds(self) -> int | None:
        """When the first of the files in force expires."""
        return min((int(period.end.timestamp()) for period in self._periods.values()), default=None)

    def _checked(self, contents: tuple[bytes, ...]) -> TlsFiles:
        read = dict(zip(self._paths, contents, strict=True))
        periods: dict[str, Period] = {
            name: _period(read[name], f"send.{name}", self._paths[name])
            for name in ("ca_file", "cert_file")
            if name in read
        }
        if "key_file" in read:
            _check_pair(read["cert_file"], read["key_file"], self._paths["key_file"])
        self._periods = periods
        return TlsFiles(
            ca=read.get("ca_file"),
            cert=read.get("cert_file"),
            key=read.get("key_file"),
            cert_path=self._settings.cert_file,
            key_path=self._settings.key_file,
        )


def ssl_context(files: TlsFiles) -> ssl.SSLContext:
    """A client's context for the standard library. Python loads a key from its file only, not from memory.

    Raises:
        OSError: the files changed since they were checked, and no longer fit.
    """
    context = ssl.create_default_context(cadata=files.ca.decode("ascii", "replace") if files.ca else None)
    if files.cert_path is not None:
        context.load_cert_chain(files.cert_path, files.key_path)
    return context


def _period(pem: bytes, name: str, path: Path) -> Period:
    try:
        return period_of(pem, bundle=name.endswith("ca_file"))
    except ValueError:
        raise SendSettingsError(
            f"{name} is {str(path)!r}, which holds no certificate that can be read; give a PEM file"
        ) from None


def _check_pair(cert: bytes, key: bytes, path: Path) -> None:
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        raise SendSettingsError(
            f"send.key_file is {str(path)!r}, which holds no unencrypted private key; give a PEM file"
        ) from None
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*spki) != x509.load_pem_x509_certificates(cert)[0].public_key().public_bytes(
        *spki
    ):
        raise SendSettingsError(f"send.key_file is {str(path)!r}, which is not the key of send.cert_file")
