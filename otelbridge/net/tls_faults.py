"""Explains TLS errors with their cures: one table for OpenSSL's words (Python's) and BoringSSL's (gRPC's).

No cure advises less security, unless the server was seen to answer in plaintext.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple

PLAINTEXT = {"feed.tls": "set feed.tls.enabled to false", "send": "let send.endpoint begin with http://"}
"""How the settings ask for plaintext, by section."""
TLS = {
    "feed.tls": "set feed.tls.enabled to true, and feed.tls.ca_file to KubeArmor's CA",
    "send": "let send.endpoint begin with https://: TLS is expected on that port",
}
"""How they ask for TLS."""
OTHER_PROTOCOL = {"feed.tls": "", "send": ", or set send.protocol to http/protobuf"}
"""What the settings have instead of gRPC, by section."""

HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""What a client of HTTP/2 begins with: the preface, and empty settings."""
HTTP1_GREETING = b"OPTIONS * HTTP/1.1\r\nHost: otelbridge\r\nConnection: close\r\n\r\n"
SETTINGS_FRAME = 4
FRAME_HEADER_BYTES = 9

HTTP1_STATUS_BYTES = len("HTTP/1.1 200")
GATEWAY_STATUSES = (502, 503, 504)
"""Of HTTP: a proxy or load balancer says that the server behind it cannot be reached."""


def gateway_status(head: bytes) -> int:
    """Such a status, where an answer in HTTP/1 begins with it; else 0."""
    return next((status for status in GATEWAY_STATUSES if head[len("HTTP/1.1 ") :].startswith(b"%d" % status)), 0)


def is_http2_answer(head: bytes) -> bool:
    """Whether the first bytes of an answer to the greeting are those of HTTP/2."""
    return len(head) >= SETTINGS_FRAME and head[3] == SETTINGS_FRAME


class TlsFault(NamedTuple):
    """What can be wrong, and what to do; `{section}`, `{plaintext}`, `{tls}`, `{other}` are the settings' own words."""

    words: tuple[str, ...]
    """Parts of what a library says."""
    wrong: str
    cure: str


NOT_TLS = TlsFault(
    ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"),
    "what the server sends is not TLS",
    "dial the port on which it speaks TLS",
)
PLAINTEXT_SEEN = TlsFault(
    (),
    "the server answers in plaintext on this port",
    "{plaintext} if it is meant to, or dial the port on which it speaks TLS",
)
"""Found by asking in plaintext only: a library's words do not tell it from anything else that is not TLS."""
TLS_SEEN = TlsFault((), "the server speaks TLS on this port", "{tls}")
"""Found by a handshake only."""
OLD_TLS = TlsFault(
    ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "INAPPROPRIATE_FALLBACK"),
    "the server speaks no version of TLS from 1.2 on",
    "let the server, or the proxy in between, speak TLS 1.2 or 1.3",
)
UNKNOWN_NAME = TlsFault(
    ("UNRECOGNIZED_NAME",),
    "the server, or the proxy in between, does not know the name that it is dialled by",
    "set {section}.server_name to a name that it serves",
)
CA_REMADE = TlsFault(
    ("BLOCK_TYPE_IS_NOT_01", "certificate signature failure", "BAD_SIGNATURE"),
    "another CA of the same name issued the server's certificate: the CA was made anew",
    "put the server's present CA into {section}.ca_file (KubeArmor's is ca.crt of its client secret)",
)
UNKNOWN_CA = TlsFault(
    ("unable to get", "self signed", "self-signed", "CERTIFICATE_VERIFY_FAILED"),
    "no CA in {section}.ca_file issued the server's certificate",
    "set {section}.ca_file to the CA that did",
)
WRONG_NAME = TlsFault(
    ("Hostname Verification Check failed", "ostname mismatch", "IP address mismatch"),
    "the server's certificate is for another name",
    "dial one of the certificate's names, or set {section}.server_name to one of them",
)
EXPIRED = TlsFault(
    ("certificate has expired",),
    "the server's certificate has expired",
    "renew the server's certificate, or correct this machine's clock",
)
NOT_YET_VALID = TlsFault(
    ("certificate is not yet valid",),
    "the server's certificate is not valid yet",
    "correct this machine's clock, or the server's certificate",
)
WANTS_A_CERTIFICATE = TlsFault(
    ("CERTIFICATE_REQUIRED",),
    "the server asks for a client certificate",
    "set {section}.cert_file and {section}.key_file to a pair of the server's CA",
)
REFUSES_OUR_CERTIFICATE = TlsFault(
    ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "ALERT_CERTIFICATE_EXPIRED", "DECRYPT_ERROR"),
    "the server refuses the client certificate in {section}.cert_file",
    "replace it and its key with a pair that the server's own CA issued, and that is in date",
)
NO_HTTP2 = TlsFault(
    ("missing selected ALPN property", "NO_APPLICATION_PROTOCOL"),
    "the server does not offer HTTP/2 over TLS",
    "dial a port that speaks gRPC over TLS{other}; a proxy in between must offer h2 by ALPN",
)
HTTP1 = TlsFault(
    ("Trying to connect an http1.x server",),
    "the server speaks HTTP/1, not gRPC",
    "dial the port that speaks gRPC{other}",
)
BAD_FILES = TlsFault(
    ("Failed to create security handshaker",),
    "the certificate files of {section} cannot be used",
    "compare {section}.ca_file, cert_file and key_file with what the server's operator handed out",
)
HANDSHAKE_FAILED = TlsFault(
    ("TSI_PROTOCOL_FAILURE", "ALERT", "SSL"),
    "the TLS handshake failed",
    "compare {section}.ca_file, cert_file, key_file and server_name with what the server expects",
)
TLS_FAULTS: tuple[TlsFault, ...] = (
    NOT_TLS,
    OLD_TLS,
    UNKNOWN_NAME,
    CA_REMADE,
    EXPIRED,
    NOT_YET_VALID,
    WRONG_NAME,
    UNKNOWN_CA,
    WANTS_A_CERTIFICATE,
    REFUSES_OUR_CERTIFICATE,
    NO_HTTP2,
    HTTP1,
    BAD_FILES,
    HANDSHAKE_FAILED,
)
"""In this order: the particular before the general."""


def fault_in(words: str) -> TlsFault | None:
    """What a library's words mean; None where they are not about TLS."""
    return next((fault for fault in TLS_FAULTS if any(part in words for part in fault.words)), None)


def in_words(fault: TlsFault, section: str) -> tuple[str, str]:
    """What is wrong and the cure, in the words of a section of the settings."""
    names = {"section": section, "plaintext": PLAINTEXT[section], "tls": TLS[section], "other": OTHER_PROTOCOL[section]}
    return fault.wrong.format(**names), fault.cure.format(**names)


def speaks_tls(connect: Callable[[], socket.socket]) -> bool:
    """Whether a handshake succeeds, whatever the certificate is worth; nothing is sent over it."""
    import ssl  # noqa: PLC0415 - with OpenSSL: once a connection is in doubt

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with connect() as plain, context.wrap_socket(plain):
            return True
    except OSError as error:
        # A server that refuses for want of a certificate, or of a name, has spoken TLS all the same.
        return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
