"""One address, in; which step on the way to it fails, and the cure, out: resolve, connect, tls, http2.

gRPC calls every one of these UNAVAILABLE, most of them with no more than "Socket closed". So after a few of them, and
in `otelbridge doctor`, the way is walked once by hand, on a connection of its own.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from otelbridge.feed.settings import FeedTlsSettings
from otelbridge.net.address import Address, Resolve, resolve_by_system
from otelbridge.telemetry.events import ConnectStep

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP2_EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_FRAME = 4
FRAME_HEADER_BYTES = 9
TLS_ALERT = 0x15
"""First byte of what a TLS server answers to plaintext with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """How far one got."""

    steps: tuple[ConnectStep, ...]
    """Those that were taken; the last one carries the error, if any."""
    addresses: tuple[str, ...] = ()
    """What the name resolved to; the address itself where none had to be looked up."""
    connected_to: str = ""
    """The one of them that took the connection."""
    configuration: bool = False
    """Somebody has to change something: waiting does not help."""

    @property
    def failed_step(self) -> str:
        """The step that failed; empty when all went well."""
        return self.steps[-1].name if self.steps and self.steps[-1].error else ""

    @property
    def error(self) -> str:
        """What was wrong, with its cure where there is one."""
        return self.steps[-1].error if self.steps else ""


class _StepError(Exception):
    def __init__(self, error: str, *, configuration: bool) -> None:
        super().__init__(error)
        self.configuration = configuration


def preflight(
    address: Address, tls: FeedTlsSettings, *, timeout_seconds: float, resolve: Resolve = resolve_by_system
) -> Findings:
    """Walks the way to an upstream: resolves the name, connects, shakes hands, exchanges HTTP/2 settings.

    Blocks for up to `timeout_seconds` per step, and for DNS as long as that takes. Never raises for what it finds.
    """
    walk = _Walk(address, tls, timeout_seconds, resolve)
    steps: list[ConnectStep] = []
    ways: list[tuple[str, Callable[[], None]]] = [("resolve", walk.resolve_name), ("connect", walk.connect)]
    if tls.enabled:
        ways.append(("tls", walk.shake_hands))
    ways.append(("http2", walk.speak_http2))
    try:
        for name, take in ways:
            step = ConnectStep(name=name, started_unix_nano=time.time_ns(), ended_unix_nano=0)
            try:
                take()
            except _StepError as error:
                steps.append(replace(step, ended_unix_nano=time.time_ns(), error=str(error)))
                return walk.findings(steps, configuration=error.configuration)
            steps.append(replace(step, ended_unix_nano=time.time_ns()))
    finally:
        walk.close()
    return walk.findings(steps)


class _Walk:
    """The socket on its way."""

    def __init__(self, address: Address, tls: FeedTlsSettings, timeout_seconds: float, resolve: Resolve) -> None:
        self._address = address
        self._tls = tls
        self._timeout = timeout_seconds
        self._resolve = resolve
        self._found: tuple[str, ...] = (address.host,)
        self._connected_to = ""
        self._socket: socket.socket | None = None

    def findings(self, steps: Sequence[ConnectStep], *, configuration: bool = False) -> Findings:
        resolved = len(steps) > 1 or not steps[0].error
        return Findings(
            steps=tuple(steps),
            addresses=self._found if resolved else (),
            connected_to=self._connected_to,
            configuration=configuration,
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def resolve_name(self) -> None:
        if self._address.is_ip:
            return
        try:
            self._found = self._resolve(self._address.host, self._address.port)
        except OSError as error:
            text = f"the name {self._address.host} does not resolve: {error.strerror or error}"
            raise _StepError(text, configuration=False) from error

    def connect(self) -> None:
        failures = []
        for ip in self._found:
            try:
                self._socket = socket.create_connection((ip, self._address.port), self._timeout)
            except OSError as error:
                failures.append(f"{ip} port {self._address.port}: {error.strerror or error}")
            else:
                self._connected_to = ip
                return
        raise _StepError("; ".join(failures), configuration=False)

    def shake_hands(self) -> None:
        assert self._socket is not None, "connect comes before"
        name = self._tls.server_name or self._address.host
        try:
            context = ssl.create_default_context(cafile=self._tls.ca_file)
            if self._tls.cert_file is not None:
                context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
            context.set_alpn_protocols(["h2"])
        except (OSError, ssl.SSLError) as error:
            raise _StepError(f"the certificate files cannot be used: {error}", configuration=True) from error
        try:
            self._socket = shaken = context.wrap_socket(self._socket, server_hostname=name)
        except ssl.SSLCertVerificationError as error:
            text = f"the server's certificate is refused: {error.verify_message}"
            raise _StepError(text, configuration=True) from error
        except ssl.SSLError as error:
            raise _StepError(_tls_fault(error), configuration=True) from error
        except OSError as error:
            text = f"the handshake was broken off: {error.strerror or error}"
            raise _StepError(text, configuration=False) from error
        if shaken.selected_alpn_protocol() != "h2":
            raise _StepError("the server does not offer HTTP/2 over TLS", configuration=True)

    def speak_http2(self) -> None:
        assert self._socket is not None, "connect comes before"
        try:
            self._socket.sendall(HTTP2_PREFACE + HTTP2_EMPTY_SETTINGS)
            head = self._socket.recv(FRAME_HEADER_BYTES)
        except ssl.SSLError as error:
            # TLS 1.3: a client certificate is refused after the handshake, and shows at the first read.
            raise _StepError(_tls_fault(error), configuration=True) from error
        except TimeoutError as error:
            text = f"the server is connected but sends no HTTP/2 settings within {self._timeout:g} s"
            raise _StepError(text, configuration=False) from error
        except OSError as error:
            head, broken = b"", error.strerror or str(error)
        else:
            broken = "the server closed the connection"
        if len(head) > SETTINGS_FRAME - 1 and head[3] == SETTINGS_FRAME:
            return
        if head.startswith(b"HTTP/1"):
            raise _StepError("the server speaks HTTP/1, not gRPC: is this the right port?", configuration=True)
        if not self._tls.enabled and (head[:1] == bytes([TLS_ALERT]) or self._speaks_tls()):
            raise _StepError("the server speaks TLS: set feed.tls.enabled to true", configuration=True)
        if self._tls.enabled and self._tls.cert_file is None and not head:
            text = f"{broken} after the handshake: does it want a client certificate (feed.tls.cert_file)?"
            raise _StepError(text, configuration=True)
        raise _StepError(f"{broken if not head else 'what the server sends is not HTTP/2'}", configuration=False)

    def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Nothing is sent over it: this only asks whether TLS is spoken at all.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection((self._found[0], self._address.port), self._timeout) as plain,
                context.wrap_socket(plain),
            ):
                return True
        except OSError:
            return False


def _tls_fault(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if "CERTIFICATE_REQUIRED" in reason:
        return "the server asks for a client certificate: set feed.tls.cert_file and feed.tls.key_file"
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason:
        return "the server does not speak TLS on this port: set feed.tls.enabled to false"
    if "ALERT" in reason:
        return f"the server refuses us ({reason}): is the client certificate of its CA, and in date?"
    return f"the handshake failed: {reason}"
