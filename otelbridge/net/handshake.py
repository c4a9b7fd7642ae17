"""Makes a TLS handshake with Python's ssl that judges a server as gRPC does."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from otelbridge.net.files import Validity
from otelbridge.net.tls_faults import (
    CA_REMADE,
    EXPIRED,
    FRAME_HEADER_BYTES,
    HANDSHAKE_FAILED,
    HTTP1,
    HTTP1_GREETING,
    HTTP2_GREETING,
    NOT_TLS,
    NOT_YET_VALID,
    PLAINTEXT_SEEN,
    UNKNOWN_CA,
    WRONG_NAME,
    TlsFault,
    fault_in,
    in_words,
    is_http2_answer,
)
from otelbridge.net.tls_files import TlsFiles, client_context

ALERT_SECONDS = 0.3
"""TLS 1.3 servers refuse a client after the handshake: so long we listen for that."""
SELF_SIGNED = 18
"""X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT."""


class HandshakeError(Exception):
    """The handshake failed; `fault` says why, in the words of a section of the settings."""

    def __init__(self, fault: TlsFault, section: str, *, said: str = "") -> None:
        self.fault = fault
        self.wrong, self.cure = in_words(fault, section)
        super().__init__(f"{self.wrong} ({said})" if said else self.wrong)


def shake_hands(
    connect: Callable[[], socket.socket], files: TlsFiles, *, name: str, section: str, alpn: str = ""
) -> ssl.SSLSocket:
    """Makes a connection and a handshake; the server is judged as gRPC judges it.

    Args:
        connect: dials; called a second time where OpenSSL and gRPC may differ.
        files: the CA bundle (none: the system's) and the client's pair.
        name: what the certificate has to be for.
        section: the settings' section, for the words of an error.
        alpn: the protocol to offer, `h2`; empty for none.

    Raises:
        HandshakeError: it failed, and somebody has to change something.
        OSError: the connection failed.
    """
    try:
        return _shaken(connect(), client_context(files, alpn), name, section)
    except HandshakeError as error:
        if error.fault is NOT_TLS and (seen := _plaintext(connect, is_http2=alpn == "h2")):
            raise HandshakeError(seen, section) from None
        raise
    except ssl.SSLCertVerificationError as error:
        if error.verify_code != SELF_SIGNED:
            raise HandshakeError(
                fault_in(error.verify_message) or UNKNOWN_CA, section, said=error.verify_message
            ) from None
    context = client_context(files, alpn)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shaken = _shaken(connect(), context, name, section)
    encoded = shaken.getpeercert(binary_form=True) or b""
    fault = _judged(x509.load_der_x509_certificate(encoded), files, name)
    if fault is None:
        return shaken
    shaken.close()
    raise HandshakeError(fault, section)


def hear_refusal(shaken: ssl.SSLSocket, section: str) -> None:
    """Listens for what a server of TLS 1.3 says only after the handshake: that it does not accept the client.

    Raises:
        HandshakeError: it does not.
        OSError: it breaks off.
    """
    shaken.settimeout(ALERT_SECONDS)
    try:
        with contextlib.suppress(TimeoutError):  # silence: it waits for a request, as it should
            shaken.recv(1)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        raise HandshakeError(fault_in(reason) or HANDSHAKE_FAILED, section, said=reason) from None


def _plaintext(connect: Callable[[], socket.socket], *, is_http2: bool) -> TlsFault | None:
    """What a server says that is greeted in plaintext; None where it speaks neither HTTP/2 nor HTTP/1."""
    for greeting in (HTTP2_GREETING, HTTP1_GREETING):  # some servers of HTTP/1 answer the other one with a bare page
        try:
            with connect() as plain:
                plain.sendall(greeting)
                head = plain.recv(FRAME_HEADER_BYTES)
        except OSError:
            continue
        if is_http2_answer(head):
            return PLAINTEXT_SEEN
        if head.startswith(b"HTTP/"):
            return HTTP1 if is_http2 else PLAINTEXT_SEEN
    return None


def _shaken(plain: socket.socket, context: ssl.SSLContext, name: str, section: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except ssl.SSLCertVerificationError:
        plain.close()
        raise
    except (ssl.SSLEOFError, ConnectionError):
        plain.close()
        raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection in the handshake") from None
    except ssl.SSLError as error:
        plain.close()
        reason = error.reason or str(error)
        raise HandshakeError(fault_in(reason) or HANDSHAKE_FAILED, section, said=reason) from None
    except OSError:
        plain.close()
        raise


def _judged(leaf: x509.Certificate, files: TlsFiles, name: str) -> TlsFault | None:
    """What BoringSSL makes of a certificate that bears its issuer's name, as those of KubeArmor's operator do.

    OpenSSL 3 takes it for self-signed; BoringSSL looks at its key usage first, and lets it be issued by a CA of that
    name (measured with grpcio 1.85 and OpenSSL 3.0).
    """
    if _may_sign(leaf) or files.ca is None:
        return UNKNOWN_CA
    issuers = [one for one in x509.load_pem_x509_certificates(files.ca) if one.subject == leaf.issuer]
    if not issuers:
        return UNKNOWN_CA
    if not any(_issued(leaf, issuer) for issuer in issuers):
        return CA_REMADE
    validity = Validity(leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    now = datetime.now(UTC)
    if validity.fault(now):
        return EXPIRED if now > validity.end else NOT_YET_VALID
    return None if _is_for(leaf, name) else WRONG_NAME


def _may_sign(leaf: x509.Certificate) -> bool:
    try:
        return leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _issued(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    """Whether a certificate is for a name or an address; its common name counts where it has no other names."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return any(_fits(str(one.value), name) for one in common)
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        return any(_fits(pattern, name) for pattern in names.get_values_for_type(x509.DNSName))


def _fits(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        return bool(name.partition(".")[0]) and name.partition(".")[2] == pattern[2:]
    return pattern == name


def certificate_in_words(certificate: x509.Certificate, *, now: datetime | None = None) -> str:
    """Names, dates and issuer of a certificate, in one sentence."""
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


def server_certificate(connect: Callable[[], socket.socket], *, name: str) -> str:
    """The certificate that a server shows, in one sentence, whatever it is worth; empty when it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # This looks at the certificate only: nothing is sent, and the handshake proper has verified it, or refused it.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with connect() as plain, context.wrap_socket(plain, server_hostname=name) as shaken:
            encoded = shaken.getpeercert(binary_form=True)
        return certificate_in_words(x509.load_der_x509_certificate(encoded)) if encoded else ""
    except (OSError, ValueError):
        return ""
