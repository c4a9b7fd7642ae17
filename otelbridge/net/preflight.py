"""Tries a server step by step - resolve, connect, TLS, HTTP/2 - and names the cure of the step that fails.

gRPC calls every failed step UNAVAILABLE, most of them with no more than "Socket closed". So `otelbridge doctor`, the
subscription after a few of them, and the sender before its first success take the steps on a connection of their own.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from otelbridge.event import ConnectStep
from otelbridge.net.address import Resolve, is_ip, resolve_by_system
from otelbridge.net.files import TlsFileError
from otelbridge.net.proxy import Proxy, connect_through
from otelbridge.net.tls_faults import (
    HANDSHAKE_FAILED,
    HTTP1,
    HTTP1_STATUS_BYTES,
    HTTP2_GREETING,
    NO_HTTP2,
    REFUSES_OUR_CERTIFICATE,
    TLS_SEEN,
    WANTS_A_CERTIFICATE,
    fault_in,
    gateway_status,
    in_words,
    is_http2_answer,
    speaks_tls,
)
from otelbridge.net.tls_files import TlsFileSettings, read_usable

TLS_ALERT = 0x15
"""First byte of what a TLS server answers to plaintext with."""

PROXY_LOGIN = "HTTP/1.1 407"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a preflight goes, by which settings, and the cures of steps that know no better."""

    host: str
    port: int
    tls: TlsFileSettings | None
    """None: plaintext."""
    name: str
    """What the server's certificate has to be for."""
    section: str
    """The settings' own, for the words of an error: `feed.tls`."""
    proxy: Proxy | None = None
    tunnel: bool = True
    """Whether a proxy is asked to connect; one of HTTP takes plaintext requests themselves."""
    alpn: str = "h2"
    steps: tuple[str, ...]
    """Those to take, of `resolve`, `connect`, `tls`, `http2` and `plaintext` (whether TLS is spoken)."""
    name_cure: str
    port_cure: str
    log_cure: str
    gateway_cure: str = ""
    """Of `http2`: a proxy answers for the server."""
    stranger_cure: str = ""
    """Of `http2`: what listens there speaks something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightResult:
    """What a preflight found."""

    steps: tuple[ConnectStep, ...]
    """Those that were taken; the last one carries the error, if any."""
    addresses: tuple[str, ...] = ()
    """What the name resolved to; the address itself where none had to be looked up."""
    connected_to: str = ""
    """The one of them that took the connection."""
    cure: str = ""
    """What to do about the error."""
    configuration: bool = False
    """Somebody has to change something: waiting does not help."""

    @property
    def failed_step(self) -> str:
        """The step that failed; empty when all went well."""
        return self.steps[-1].name if self.steps and self.steps[-1].error else ""

    @property
    def error(self) -> str:
        """What was wrong."""
        return self.steps[-1].error if self.steps else ""

    @property
    def advice(self) -> str:
        """What was wrong, and the cure."""
        return f"{self.error}: {self.cure}" if self.cure else self.error


class _StepError(Exception):
    def __init__(self, error: str, cure: str, *, configuration: bool) -> None:
        super().__init__(error)
        self.cure = cure
        self.configuration = configuration


OUR_CURES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n; LimitNOFILE of the unit)",
    errno.ENFILE: "the whole machine has no file left to open (sysctl fs.file-max): see who holds them",
    errno.EPERM: "a firewall, a seccomp filter or a policy of this machine forbids to connect: allow it",
}
"""Where this machine is at fault, whatever host and port are."""


def preflight(route: Route, *, timeout_seconds: float, resolve: Resolve = resolve_by_system) -> PreflightResult:
    """Takes the steps of a route, up to the first that fails.

    Blocks for up to `timeout_seconds` per step, and for DNS as long as that takes. Never raises for what it finds.
    """
    walk = _Walk(route, timeout_seconds, resolve)
    steps: list[ConnectStep] = []
    try:
        for name in route.steps:
            step = ConnectStep(name=name, started_unix_nano=time.time_ns(), ended_unix_nano=0)
            try:
                walk.steps[name]()
            except _StepError as error:
                steps.append(replace(step, ended_unix_nano=time.time_ns(), error=str(error)))
                return walk.result(steps, cure=error.cure, configuration=error.configuration)
            steps.append(replace(step, ended_unix_nano=time.time_ns()))
    finally:
        walk.close()
    return walk.result(steps)


def dial(route: Route, ip: str, timeout_seconds: float) -> socket.socket:
    """A connection to one address of a route, or to its proxy; raises OSError."""
    proxy = route.proxy
    if proxy is None:
        return socket.create_connection((ip, route.port), timeout_seconds)
    if not route.tunnel:
        return socket.create_connection((proxy.host, proxy.port), timeout_seconds)
    return connect_through(proxy, route.host, route.port, lambda *at: socket.create_connection(at, timeout_seconds))


def _without_a_socket() -> OSError | None:
    """Why this process can open none, where it cannot: the resolver calls that an unknown name."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None


class _Walk:
    """The steps, on one socket."""

    def __init__(self, route: Route, timeout_seconds: float, resolve: Resolve) -> None:
        self._route = route
        self._timeout = timeout_seconds
        self._resolve = resolve
        self._found: tuple[str, ...] = (route.host,)
        self._connected_to = ""
        self._socket: socket.socket | None = None
        self.steps: Mapping[str, Callable[[], None]] = {
            "resolve": self._resolve_name,
            "connect": self._connect,
            "tls": self._shake_hands,
            "plaintext": self._expect_plaintext,
            "http2": self._speak_http2,
        }

    def result(self, steps: Sequence[ConnectStep], *, cure: str = "", configuration: bool = False) -> PreflightResult:
        resolved = len(steps) > 1 or not steps[0].error
        return PreflightResult(
            steps=tuple(steps),
            addresses=self._found if resolved else (),
            connected_to=self._connected_to,
            cure=cure,
            configuration=configuration,
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _resolve_name(self) -> None:
        route = self._route
        if is_ip(route.host) or route.proxy is not None:  # the proxy looks the name up
            return
        try:
            self._found = self._resolve(route.host, route.port)
        except OSError as found:
            error = _without_a_socket() or found
            text = f"the name {route.host} does not resolve: {error.strerror or error}"
            raise _StepError(text, OUR_CURES.get(error.errno or 0, route.name_cure), configuration=False) from error

    def _connect(self) -> None:
        route, failures, cures = self._route, [], []
        for ip in self._found:
            try:
                self._socket = dial(route, ip, self._timeout)
            except OSError as error:
                failures.append(f"{ip} port {route.port}: {error.strerror or error}")
                cures.append(OUR_CURES.get(error.errno or 0, ""))
            else:
                self._connected_to = ip if route.proxy is None else str(route.proxy)
                return
        if route.proxy is None or any(cures):
            raise _StepError("; ".join(failures), next(filter(None, cures), route.port_cure), configuration=False)
        said = failures[0].partition(": ")[2]
        mend = "put user and password into the URL of" if PROXY_LOGIN in said else "correct"
        setting = f"{route.section.partition('.')[0]}.proxy"
        cure = f"{mend} {setting} (HTTP_PROXY, HTTPS_PROXY), or name {route.host} in NO_PROXY"
        raise _StepError(f"no connection through the proxy {route.proxy}: {said}", cure, configuration=False)

    def _shake_hands(self) -> None:
        from otelbridge.net import handshake  # noqa: PLC0415 - with cryptography: for TLS only

        route = self._route
        assert route.tls is not None, "a step of routes with TLS"
        try:
            files = read_usable(route.tls, route.section)
            shaken = handshake.shake_hands(
                self._take_socket, files, name=route.name, section=route.section, alpn=route.alpn
            )
            self._socket = shaken
            if "http2" not in route.steps:  # which hears it otherwise
                handshake.hear_refusal(shaken, route.section)
        except TlsFileError as error:
            raise _StepError(f"{error.place}: {error.wrong}", error.cure, configuration=True) from None
        except handshake.HandshakeError as error:
            raise _StepError(str(error), error.cure, configuration=True) from None
        except TimeoutError:
            text = f"the server is connected but does not shake hands within {self._timeout:g} s"
            raise _StepError(text, f"it looks frozen, or is slow: {route.log_cure}", configuration=False) from None
        except OSError as error:
            text = f"the handshake was broken off: {error.strerror or error}"
            raise _StepError(text, route.log_cure, configuration=False) from None
        if route.alpn and shaken.selected_alpn_protocol() != route.alpn:
            raise _StepError(*in_words(NO_HTTP2, route.section), configuration=True)

    def _expect_plaintext(self) -> None:
        if speaks_tls(self._dial_again):
            wrong, cure = in_words(TLS_SEEN, self._route.section)
            raise _StepError(f"{wrong}, and the settings ask for plaintext", cure, configuration=True)

    def _take_socket(self) -> socket.socket:
        """The connection; a new one where the first was used up."""
        if self._socket is None:
            self._connect()
        taken, self._socket = self._socket, None
        assert taken is not None, "it raises or connects"
        return taken

    def _dial_again(self) -> socket.socket:
        self.close()
        self._socket = None
        return self._take_socket()

    def _broken(self, error: OSError, closed: str) -> str:
        """What broke a connection; `closed` where it was reset, or TLS was ended without a word."""
        if isinstance(error, ConnectionError):
            return closed
        if self._route.tls is None:
            return error.strerror or str(error)
        import ssl  # noqa: PLC0415 - with OpenSSL: for TLS only

        if isinstance(error, ssl.SSLEOFError):
            return closed
        if not isinstance(error, ssl.SSLError):
            return error.strerror or str(error)
        # TLS 1.3: a client certificate is refused after the handshake, and shows at the first read.
        reason = error.reason or str(error)
        wrong, cure = in_words(fault_in(reason) or HANDSHAKE_FAILED, self._route.section)
        raise _StepError(f"{wrong} ({reason})", cure, configuration=True) from None

    def _speak_http2(self) -> None:
        assert self._socket is not None, "connect comes before"
        route, head, broken = self._route, b"", "the server closed the connection"
        try:
            self._socket.sendall(HTTP2_GREETING)
            head = self._socket.recv(HTTP1_STATUS_BYTES)
        except TimeoutError:
            text = f"the server is connected but sends no HTTP/2 settings within {self._timeout:g} s"
            raise _StepError(text, f"it looks frozen, or is slow: {route.log_cure}", configuration=False) from None
        except OSError as error:
            broken = self._broken(error, broken)
        if is_http2_answer(head):
            return
        if head.startswith(b"HTTP/1"):
            if status := gateway_status(head):
                raise _StepError(f"a proxy answers with HTTP status {status}", route.gateway_cure, configuration=False)
            raise _StepError(*in_words(HTTP1, route.section), configuration=True)
        if route.tls is None and (head[:1] == bytes([TLS_ALERT]) or speaks_tls(self._dial_again)):
            raise _StepError(*in_words(TLS_SEEN, route.section), configuration=True)
        if route.tls is not None and not head:
            fault = WANTS_A_CERTIFICATE if route.tls.cert_file is None else REFUSES_OUR_CERTIFICATE
            wrong, cure = in_words(fault, route.section)
            raise _StepError(f"{broken} after the handshake: perhaps {wrong}", cure, configuration=True)
        text = "what the server sends is not HTTP/2" if head else broken
        raise _StepError(text, route.stranger_cure, configuration=False)
