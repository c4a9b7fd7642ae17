"""Reads PEM files: certificates, their validity, and whether a key belongs to a certificate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from otelbridge.net.files import SettingFile, TlsFileError, Validity

_CERTIFICATE = re.compile(rb"^-----BEGIN (?:X509 )?CERTIFICATE-----\s*$", re.MULTILINE)
_KEY = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----\s*$", re.MULTILINE)
"""How they begin for OpenSSL and gRPC; cryptography takes them after a byte order mark and spaces, and in one line."""
CURE = "name a PEM file, in which each -----BEGIN begins a line"
PUBLIC_KEY_FORM = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def validity_of(pem: bytes, place: SettingFile, *, bundle: bool) -> Validity:
    """Of the first certificate; of a CA bundle: of the last to expire, for the old one may stay after a rotation.

    Raises:
        TlsFileError: there is none that can be read.
    """
    found = certificates_in(pem, place)
    chosen = max(found, key=lambda one: one.not_valid_after_utc) if bundle else found[0]
    return Validity(chosen.not_valid_before_utc, chosen.not_valid_after_utc)


def certificates_in(pem: bytes, place: SettingFile) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one.

    Raises:
        TlsFileError: there is none, or one that is cut short.
    """
    found = []
    with suppress(ValueError):
        found = x509.load_pem_x509_certificates(pem)
    if not found or len(found) != len(_CERTIFICATE.findall(pem)):
        raise TlsFileError(place, "holds no certificate in PEM form, or one that is cut short", CURE)
    return found


def ca_orders(bundle: bytes) -> Iterator[bytes]:
    """A CA bundle with each of those CAs first that share a name with another one; itself alone where none does.

    Of several CAs of one name gRPC tries the first only (measured, grpcio 1.85): after KubeArmor's CA was made anew, a
    bundle of the old and the new one works with the servers of the first.
    """
    found = x509.load_pem_x509_certificates(bundle)
    names = [certificate.subject for certificate in found]
    shared = [one for one in found if names.count(one.subject) > 1]
    if not shared:
        yield bundle
    for first in shared:
        rest = [one for one in found if one is not first]
        yield b"".join(one.public_bytes(Encoding.PEM) for one in (first, *rest))


def check_pair(cert_pem: bytes, cert_place: SettingFile, key_pem: bytes, place: SettingFile) -> None:
    """That a key is the certificate's own.

    Raises:
        TlsFileError: it is not, or is none.
    """
    leaf = certificates_in(cert_pem, cert_place)[0]
    try:
        key = load_pem_private_key(key_pem if _KEY.search(key_pem) else b"", password=None)
    except TypeError:
        raise TlsFileError(place, "the key is encrypted", "give it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsFileError(place, "holds no private key in PEM form, or one cut short", CURE) from None
    if key.public_key().public_bytes(*PUBLIC_KEY_FORM) != leaf.public_key().public_bytes(*PUBLIC_KEY_FORM):
        raise TlsFileError(
            place,
            f"is not the key of the certificate in {cert_place}",
            "take both from one issue; this one may be half written",
        )
