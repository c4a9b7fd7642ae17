"""Certificate files, in; bytes fit to be handed to gRPC, out - or a sentence that names the file and the fault.

grpcio takes any bytes and reports a bad pair as UNAVAILABLE at the first call. So everything is checked here first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from otelbridge.feed.settings import FeedTlsSettings


class CertificateError(ValueError):
    """The files cannot be used as they are; the message names the file and the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificates:
    """What TLS is spoken with. None stands for a file that is not configured."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)
    digest: str
    """Of the content of all three: Kubernetes swaps symbolic links, so names and times say nothing."""
    expires_unix_seconds: int | None
    """When the first of our own certificate and the CA bundle's last one expires."""


def read_certificates(settings: FeedTlsSettings, *, now: datetime | None = None) -> ClientCertificates:
    """Reads and checks the files: PEM, dates, and that the key is the certificate's.

    Raises:
        CertificateError: a file cannot be read, or what is in it cannot be used (now).
    """
    now = now or datetime.now(UTC)
    ca, cert, key = _read(settings.ca_file), _read(settings.cert_file), _read(settings.key_file)
    expiries: list[datetime] = []
    if ca is not None:
        expiries.append(_check_bundle(ca, settings.ca_file, now))
    if cert is not None:
        leaf = _certificates_in(cert, settings.cert_file)[0]
        _check_dates(leaf, settings.cert_file, now)
        expiries.append(leaf.not_valid_after_utc)
        if key is not None:
            _check_pair(leaf, key, settings)
    return ClientCertificates(
        ca=ca,
        cert=cert,
        key=key,
        digest=_digest(ca, cert, key),
        expires_unix_seconds=int(min(expiries).timestamp()) if expiries else None,
    )


def read_digest(settings: FeedTlsSettings) -> str:
    """The digest of the files as they are now; empty while one of them cannot be read."""
    try:
        return _digest(_read(settings.ca_file), _read(settings.cert_file), _read(settings.key_file))
    except CertificateError:
        return ""


def _digest(*contents: bytes | None) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content or b"").digest())
    return digest.hexdigest()


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror or error}") from error


def _certificates_in(pem: bytes, path: Path | None) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{path}: holds no certificate in PEM form, or one that is cut short") from error


def _check_bundle(pem: bytes, path: Path | None, now: datetime) -> datetime:
    """A CA bundle is fit for use while one of its certificates is: after a rotation the old one may stay in it."""
    bundle = _certificates_in(pem, path)
    last = max(bundle, key=lambda certificate: certificate.not_valid_after_utc)
    _check_dates(last, path, now)
    return last.not_valid_after_utc


def _check_dates(certificate: x509.Certificate, path: Path | None, now: datetime) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        raise CertificateError(f"{path}: the certificate expired on {last:%Y-%m-%d %H:%M} UTC: renew it")
    if now < first:
        raise CertificateError(
            f"{path}: the certificate is valid from {first:%Y-%m-%d %H:%M} UTC on: check this machine's clock"
        )


def _check_pair(leaf: x509.Certificate, key_pem: bytes, settings: FeedTlsSettings) -> None:
    try:
        key = load_pem_private_key(key_pem, password=None)
    except TypeError as error:
        raise CertificateError(f"{settings.key_file}: the key is encrypted: give it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{settings.key_file}: holds no private key in PEM form, or one cut short") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateError(
            f"{settings.key_file}: is not the key of the certificate in {settings.cert_file}: "
            "the pair is of two different issues, or half written"
        )
