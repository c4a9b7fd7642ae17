"""A server's certificate in words (names, dates, issuer), and the cure for each way in which TLS can fail."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509

# How the settings ask for plaintext, by section.
PLAINTEXT = {"feed.tls": "set feed.tls.enabled to false", "send": "let send.endpoint begin with http://"}

# A part of OpenSSL's words, and what to do; {section} is `feed.tls` or `send`.
CURES: Mapping[str, str] = {
    "certificate has expired": "Renew the server's certificate; this machine's clock may also be wrong.",
    "certificate is not yet valid": "This machine's clock is behind, or the server's certificate is from the future.",
    "unable to get": "Set {section}.ca_file to the CA that issued the server's certificate.",
    "self-signed certificate": "Set {section}.ca_file to the CA that issued the server's certificate.",
    "self signed certificate": "Set {section}.ca_file to the CA that issued the server's certificate.",
    "certificate signature failure": "Set {section}.ca_file to the CA that issued the server's certificate.",
    "ostname mismatch": "Dial one of the certificate's names, or set {section}.server_name to one of them.",
    "IP address mismatch": "Dial one of the certificate's names, or set {section}.server_name to one of them.",
    "WRONG_VERSION_NUMBER": "The server speaks no TLS on this port: {plaintext}, or dial another port.",
    "RECORD_LAYER_FAILURE": "The server speaks no TLS on this port: {plaintext}, or dial another port.",
    "does not speak TLS": "The server speaks no TLS on this port: {plaintext}, or dial another port.",
    "CERTIFICATE_REQUIRED": "The server asks for a client certificate: set {section}.cert_file and {section}.key_file.",
    "client certificate": "The server wants a client certificate of its CA: set {section}.cert_file and key_file.",
    "ALERT": "The server refuses us: is the client certificate of its CA, and in date?",
}
DEFAULT_CURE = "Compare {section}.ca_file, cert_file, key_file and server_name with what the server expects."


def cure(words: str, section: str) -> str:
    """What to do about TLS's words."""
    found = next((text for part, text in CURES.items() if part in words), DEFAULT_CURE)
    return found.format(section=section, plaintext=PLAINTEXT[section])


def server_certificate(host: str, port: int, *, server_name: str, timeout_seconds: float) -> str:
    """The certificate that a server shows, in one sentence; empty when it shows none. Nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # This looks at the certificate, whatever it is worth; the step proper has verified it, or refused it.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=server_name or host) as shaken,
        ):
            encoded = shaken.getpeercert(binary_form=True)
        return in_words(x509.load_der_x509_certificate(encoded)) if encoded else ""
    except (OSError, ValueError):
        return ""


def in_words(certificate: x509.Certificate, *, now: datetime | None = None) -> str:
    """Names, dates and issuer of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = ", ".join(
            [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
        )
    except x509.ExtensionNotFound:
        listed = "no names"
    until = certificate.not_valid_after_utc
    days = (until - (now or datetime.now(UTC))).days
    left = "expired" if days < 0 else f"{days} day{'' if days == 1 else 's'} left"
    return (
        f"It is for {listed}; valid until {until:%Y-%m-%d} ({left}); issued by {certificate.issuer.rfc4514_string()}."
    )
