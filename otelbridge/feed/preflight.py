"""Tries an upstream without gRPC: step by step with the cure of what fails, or just whether its port answers again.

gRPC calls every failed step UNAVAILABLE, most of them with no more than "Socket closed". So after a few of them, and in
`otelbridge doctor`, the steps are tried on a connection of their own: resolve, connect, TLS, HTTP/2.

`PortWatch` looks at a lost upstream's port during the backoff, and ends the wait when it answers. A look is a TCP
connection that is closed again; in plaintext it waits for the first bytes of HTTP/2, which a frozen server does not
send. It ends a wait only if an earlier look of this outage found nobody: that a port answers is no news otherwise.
Looks begin at one a second and grow rare with the outage, so that of many bridges that lost one relay for minutes no
more come back in a second than by the backoff alone.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from otelbridge.feed.settings import FeedTlsSettings
from otelbridge.net.address import Address, Resolve, resolve_by_system
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
from otelbridge.net.tls_files import read_usable
from otelbridge.telemetry.events import ConnectStep

LOOK_SECONDS = 1.0
"""Between two looks of a bridge, at whatever upstream, at least."""
RARE_AFTER_SECONDS = 16.0
"""Up to here an outage is looked at every second; after that the pause grows with its square: 4 s after 32, 56 s after
two minutes."""
JITTER = 0.5
"""A pause is longer by up to so much."""
ANSWER_SECONDS = 0.5
"""A port that takes longer to connect to, or to speak, does not answer."""

Answers = Callable[[], bool]


class LookLimit:
    """Shared by all subscriptions of a bridge: one look a second. Times are monotonic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = float("-inf")

    def take(self, now: float) -> bool:
        """Whether somebody may look now; if so, nobody else may for a second."""
        with self._lock:
            if now < self._next:
                return False
            self._next = now + LOOK_SECONDS
            return True


class PortWatch:
    """One outage of one upstream. Times are monotonic.

    Args:
        now: when the outage began.
        limit: of the bridge.
        random: for the jitter.
        answers: looks.
        shut: the outage began with the end of the server's process, as far as can be told, so that the port was shut.
    """

    def __init__(self, now: float, *, limit: LookLimit, random: Random, answers: Answers, shut: bool = False) -> None:
        self._began = now
        self._limit = limit
        self._random = random
        self._answers = answers
        self._was_shut = shut
        self.next_at = now
        self._plan(now)

    def is_back(self, now: float) -> bool:
        """Looks, if it is time to; whether the port answers after it did not."""
        if now < self.next_at:
            return False
        self._plan(now)
        if not self._limit.take(now):
            return False
        answers = self._answers()
        back, self._was_shut = answers and self._was_shut, not answers
        return back

    def _plan(self, now: float) -> None:
        pause = max(1.0, ((now - self._began) / RARE_AFTER_SECONDS) ** 2) * LOOK_SECONDS
        self.next_at = now + pause * self._random.uniform(1, 1 + JITTER)


def port_answers(ip: str, port: int, *, speaks_first: bool) -> bool:
    """One look. Blocks for a second at most.

    Args:
        ip: where.
        port: which.
        speaks_first: wait for HTTP/2's first bytes, too; not where TLS has to be spoken before.
    """
    try:
        with socket.create_connection((ip, port), ANSWER_SECONDS) as connection:
            if not speaks_first:
                return True
            connection.sendall(HTTP2_GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False


TLS_ALERT = 0x15
"""First byte of what a TLS server answers to plaintext with."""

_NAME = (
    "check the name in feed.endpoints: within the cluster the relay is kubearmor.<namespace>:32767 "
    "(kubectl get service --all-namespaces | grep kubearmor)"
)
_PORT = (
    "check host and port in feed.endpoints (KubeArmor's is 32767), that KubeArmor runs, and that no NetworkPolicy "
    "is in the way"
)
_ITS_LOG = "look at its log (kubectl logs deployment/kubearmor-relay, or the kubearmor pod of the node)"
_BEHIND_IT = "see that KubeArmor runs behind it, and is reached by it in HTTP/2"
_IS_IT_KUBEARMOR = "is it really KubeArmor that listens there? Its port is 32767"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightResult:
    """How far one got."""

    steps: tuple[ConnectStep, ...]
    """Those that were taken; the last one carries the error, if any."""
    addresses: tuple[str, ...] = ()
    """What the name resolved to; the address itself where none had to be looked up."""
    connected_to: str = ""
    """The one of them that took the connection."""
    certificate: bytes = b""
    """The server's, in DER form, where a handshake succeeded."""
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


def preflight(
    address: Address,
    tls: FeedTlsSettings,
    *,
    timeout_seconds: float,
    resolve: Resolve = resolve_by_system,
    proxy: Proxy | None = None,
) -> PreflightResult:
    """Walks the way to an upstream: resolves the name, connects, shakes hands, exchanges HTTP/2 settings.

    Blocks for up to `timeout_seconds` per step, and for DNS as long as that takes. Never raises for what it finds.
    """
    walk = _Walk(address, tls, timeout_seconds, resolve, proxy)
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
                return walk.findings(steps, cure=error.cure, configuration=error.configuration)
            steps.append(replace(step, ended_unix_nano=time.time_ns()))
    finally:
        walk.close()
    return walk.findings(steps)


class _Walk:
    """The socket on its way."""

    def __init__(
        self,
        address: Address,
        tls: FeedTlsSettings,
        timeout_seconds: float,
        resolve: Resolve,
        proxy: Proxy | None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._timeout = timeout_seconds
        self._proxy = proxy
        self._resolve = resolve
        self._found: tuple[str, ...] = (address.host,)
        self._connected_to = ""
        self._socket: socket.socket | None = None
        self.certificate = b""

    def findings(self, steps: Sequence[ConnectStep], *, cure: str = "", configuration: bool = False) -> PreflightResult:
        resolved = len(steps) > 1 or not steps[0].error
        return PreflightResult(
            steps=tuple(steps),
            addresses=self._found if resolved else (),
            connected_to=self._connected_to,
            certificate=self.certificate,
            cure=cure,
            configuration=configuration,
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def resolve_name(self) -> None:
        if self._address.is_ip or self._proxy is not None:  # the proxy looks the name up
            return
        try:
            self._found = self._resolve(self._address.host, self._address.port)
        except OSError as error:
            text = f"the name {self._address.host} does not resolve: {error.strerror or error}"
            raise _StepError(text, _NAME, configuration=False) from error

    def connect(self) -> None:
        if self._proxy is not None:
            self._connect_through(self._proxy)
            return
        failures = []
        for ip in self._found:
            try:
                self._socket = socket.create_connection((ip, self._address.port), self._timeout)
            except OSError as error:
                failures.append(f"{ip} port {self._address.port}: {error.strerror or error}")
            else:
                self._connected_to = ip
                return
        raise _StepError("; ".join(failures), _PORT, configuration=False)

    def _connect_through(self, proxy: Proxy) -> None:
        host, port = self._address.host, self._address.port
        try:
            self._socket = connect_through(proxy, host, port, lambda *at: socket.create_connection(at, self._timeout))
        except OSError as error:
            text = f"no connection through the proxy {proxy}: {error.strerror or error}"
            cure = f"correct feed.proxy (HTTP_PROXY, HTTPS_PROXY), or name {host} in NO_PROXY"
            raise _StepError(text, cure, configuration=False) from None
        self._connected_to = str(proxy)

    def shake_hands(self) -> None:
        from otelbridge.net.handshake import HandshakeError, shake_hands  # noqa: PLC0415 - with cryptography: for TLS only

        try:
            files = read_usable(self._tls, "feed.tls")
        except TlsFileError as error:
            raise _StepError(f"{error.place}: {error.wrong}", error.cure, configuration=True) from None
        name = self._tls.server_name or self._address.host
        try:
            shaken = shake_hands(self._take_socket, files, name=name, section="feed.tls", alpn="h2")
        except HandshakeError as error:
            raise _StepError(str(error), error.cure, configuration=True) from None
        except TimeoutError:
            text = f"the server is connected but does not shake hands within {self._timeout:g} s"
            raise _StepError(text, f"it looks frozen: {_ITS_LOG}", configuration=False) from None
        except OSError as error:
            text = f"the handshake was broken off: {error.strerror or error}"
            raise _StepError(text, _ITS_LOG, configuration=False) from None
        self._socket = shaken
        self.certificate = shaken.getpeercert(binary_form=True) or b""
        if shaken.selected_alpn_protocol() != "h2":
            raise _StepError(*in_words(NO_HTTP2, "feed.tls"), configuration=True)

    def _take_socket(self) -> socket.socket:
        """The connection; a new one where the first was used up."""
        if self._socket is None:
            self.connect()
        taken, self._socket = self._socket, None
        assert taken is not None, "connect raises or connects"
        return taken

    def _dial_again(self) -> socket.socket:
        self.close()
        self._socket = None
        return self._take_socket()

    def _broken(self, error: OSError, closed: str) -> str:
        """What broke a connection; `closed` where it was reset, or TLS was ended without a word."""
        if isinstance(error, ConnectionError):
            return closed
        if not self._tls.enabled:
            return error.strerror or str(error)
        import ssl  # noqa: PLC0415 - with OpenSSL: for TLS only

        if isinstance(error, ssl.SSLEOFError):
            return closed
        if not isinstance(error, ssl.SSLError):
            return error.strerror or str(error)
        # TLS 1.3: a client certificate is refused after the handshake, and shows at the first read.
        reason = error.reason or str(error)
        wrong, cure = in_words(fault_in(reason) or HANDSHAKE_FAILED, "feed.tls")
        raise _StepError(f"{wrong} ({reason})", cure, configuration=True) from None

    def speak_http2(self) -> None:
        assert self._socket is not None, "connect comes before"
        head, broken = b"", "the server closed the connection"
        try:
            self._socket.sendall(HTTP2_GREETING)
            head = self._socket.recv(HTTP1_STATUS_BYTES)
        except TimeoutError:
            text = f"the server is connected but sends no HTTP/2 settings within {self._timeout:g} s"
            raise _StepError(text, f"it looks frozen: {_ITS_LOG}", configuration=False) from None
        except OSError as error:
            broken = self._broken(error, broken)
        if is_http2_answer(head):
            return
        if head.startswith(b"HTTP/1") and (status := gateway_status(head)):
            raise _StepError(f"a proxy answers with HTTP status {status}", _BEHIND_IT, configuration=False)
        if head.startswith(b"HTTP/1"):
            raise _StepError(*in_words(HTTP1, "feed.tls"), configuration=True)
        if not self._tls.enabled and (head[:1] == bytes([TLS_ALERT]) or speaks_tls(self._dial_again)):
            raise _StepError(*in_words(TLS_SEEN, "feed.tls"), configuration=True)
        if head:
            raise _StepError("what the server sends is not HTTP/2", _IS_IT_KUBEARMOR, configuration=False)
        if self._tls.enabled:
            fault = WANTS_A_CERTIFICATE if self._tls.cert_file is None else REFUSES_OUR_CERTIFICATE
            wrong, cure = in_words(fault, "feed.tls")
            raise _StepError(f"{broken} after the handshake: perhaps {wrong}", cure, configuration=True)
        raise _StepError(broken, _IS_IT_KUBEARMOR, configuration=False)
