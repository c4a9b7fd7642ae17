"""Reads and checks the PEM files of a TLS connection, and watches them for changes and expiry.

grpcio takes any bytes and reports a bad pair as UNAVAILABLE at the first call, so everything is checked here first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from otelbridge.net.files import SettingFile, TlsFileError, Validity, WatchedFiles, read_bounded

if TYPE_CHECKING:
    import ssl

FILE_NAMES = ("ca_file", "cert_file", "key_file")


class TlsFileSettings(Protocol):
    """The part of a settings section that names the files: PEM, None where there is none."""

    @property
    def ca_file(self) -> Path | None:
        """CA bundle that the server is checked against."""

    @property
    def cert_file(self) -> Path | None:
        """Client certificate."""

    @property
    def key_file(self) -> Path | None:
        """Its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Checked contents. None stands for a file that is not configured; two of them are equal when nothing changed."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    cert_path: Path | None = None
    key_path: Path | None = None
    validities: tuple[tuple[SettingFile, Validity], ...] = field(default=(), repr=False)
    """Of the client certificate and of the CA bundle, by its place."""

    @property
    def digest(self) -> str:
        """Of the contents of all three: Kubernetes swaps symbolic links, so names and times say nothing."""
        return digest_of(self.ca, self.cert, self.key)

    @property
    def expires_unix_seconds(self) -> int | None:
        """When the first of the client certificate and the bundle's last CA expires."""
        return min((int(validity.end.timestamp()) for _, validity in self.validities), default=None)

    def out_of_date(self, now: datetime | None = None) -> str:
        """Which of them is out of date now, and since when; empty where none is."""
        faults = ((place, validity.fault(now or datetime.now(UTC))) for place, validity in self.validities)
        return "; ".join(f"{place}: {fault}" for place, fault in faults if fault)


def read_tls_files(settings: TlsFileSettings, section: str) -> TlsFiles:
    """Reads and checks the files: PEM, and that the key is the certificate's. Dates are the caller's business.

    Raises:
        TlsFileError: a file cannot be read, or what is in it cannot be used.
    """
    return checked(settings, section, *(_read(settings, section, name) for name in FILE_NAMES))


def read_usable(settings: TlsFileSettings, section: str) -> TlsFiles:
    """The files, which must be in date too: a connection that is to be made would fail with them.

    Raises:
        TlsFileError: they cannot be used as they are.
    """
    files = read_tls_files(settings, section)
    for place, validity in files.validities:
        if fault := validity.fault(datetime.now(UTC)):
            raise TlsFileError(place, fault, "renew the file; it is read again by itself")
    return files


def read_digest(settings: TlsFileSettings) -> str:
    """The digest of the files as they are now; empty while one of them cannot be read."""
    try:
        return digest_of(*(_read(settings, "", name) for name in FILE_NAMES))
    except TlsFileError:
        return ""


def checked(
    settings: TlsFileSettings, section: str, ca: bytes | None, cert: bytes | None, key: bytes | None
) -> TlsFiles:
    """Checks contents that were read already.

    Raises:
        TlsFileError: as `read_tls_files`.
    """
    _check_names(settings, section)
    validities = []
    if ca is not None or cert is not None:
        from otelbridge.net import pem  # noqa: PLC0415 - with cryptography: only who uses such files pays for it

        if ca is not None:
            place = _place(settings, section, "ca_file")
            validities.append((place, pem.validity_of(ca, place, bundle=True)))
        if cert is not None:
            place = _place(settings, section, "cert_file")
            validities.append((place, pem.validity_of(cert, place, bundle=False)))
            if key is not None:
                pem.check_pair(cert, place, key, _place(settings, section, "key_file"))
    return TlsFiles(
        ca=ca,
        cert=cert,
        key=key,
        cert_path=settings.cert_file,
        key_path=settings.key_file,
        validities=tuple(validities),
    )


def client_context(files: TlsFiles, alpn: str = "") -> ssl.SSLContext:
    """A client's context for the standard library. Python loads a key from its file only, not from memory.

    Raises:
        OSError: the files changed since they were checked, and no longer fit.
    """
    import ssl  # noqa: PLC0415 - with OpenSSL: for TLS only

    context = ssl.create_default_context(cadata=files.ca.decode("ascii", "replace") if files.ca else None)
    if files.cert_path is not None:
        context.load_cert_chain(files.cert_path, files.key_path)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def digest_of(*contents: bytes | None) -> str:
    """One digest of several contents."""
    digest = sha256()
    for content in contents:
        digest.update(sha256(content or b"").digest())
    return digest.hexdigest()


class ReloadedTlsFiles:
    """The TLS files in force: the last good ones, read again once in a while.

    What is out of date is used all the same: a connection that stands outlives its certificate, and not everybody
    looks at dates. But it is said at the start, and is the first suspect when no connection can be made.

    Raises:
        TlsFileError: at the start a file cannot be used. Later, the last good ones stay in force, and `trouble` says
            why.
    """

    def __init__(self, settings: TlsFileSettings, section: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        _check_names(settings, section)
        self._settings, self._section = settings, section
        self._names = [name for name in FILE_NAMES if getattr(settings, name) is not None]
        self._files = WatchedFiles(*(getattr(settings, name) for name in self._names), clock=clock)
        self.trouble = ""
        for name in self._names:
            _read(settings, section, name)  # for an error that names the setting
        self._seen = self._files.contents()
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
            except TlsFileError as error:
                # A rotation in the middle of writing, or a bad one: the old pair may well work for a while.
                self.trouble = str(error)
        return self._good

    def out_of_date(self) -> str:
        """Which of the files in force is out of date now, and since when; empty where none is."""
        return self._good.out_of_date()

    @property
    def expires_unix_seconds(self) -> int | None:
        """When the first of the files in force expires."""
        return self._good.expires_unix_seconds

    def _checked(self, contents: tuple[bytes, ...]) -> TlsFiles:
        read = dict(zip(self._names, contents, strict=True))
        return checked(self._settings, self._section, read.get("ca_file"), read.get("cert_file"), read.get("key_file"))


def _read(settings: TlsFileSettings, section: str, name: str) -> bytes | None:
    path: Path | None = getattr(settings, name)
    if path is None:
        return None
    try:
        content = read_bounded(path)
    except OSError as error:
        cure = "correct the path, or mount the file and make it readable for this user"
        raise TlsFileError(
            _place(settings, section, name), f"cannot be read: {error.strerror or error}", cure
        ) from error
    if not content:
        raise TlsFileError(_place(settings, section, name), "is empty", "fill it, or name another")
    return content


def _check_names(settings: TlsFileSettings, section: str) -> None:
    if (settings.cert_file is None) != (settings.key_file is None):
        lone, other = ("cert_file", "key_file") if settings.cert_file else ("key_file", "cert_file")
        place = _place(settings, section, lone)
        raise TlsFileError(place, f"is given without {other}", f"set {section}.{other} too; the two belong together")


def _place(settings: TlsFileSettings, section: str, name: str) -> SettingFile:
    return SettingFile(f"{section}.{name}", getattr(settings, name))
