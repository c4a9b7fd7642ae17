"""Sends encoded requests by OTLP/gRPC, without making message objects.

A packed request goes out as it was packed, where grpc lets it (precompressed.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc

from otelbridge.event import Signal
from otelbridge.net.proxy import grpc_options
from otelbridge.net.tls_files import TlsFiles
from otelbridge.queue.model import Outcome, RetryLater
from otelbridge.queue.packing import gzip_member, unpacked
from otelbridge.send import classify
from otelbridge.send.access import Access
from otelbridge.send.settings import MIB, SendSettings

TESTED: tuple[str, ...] = ("1.83.",)
"""Releases of grpcio, as far as the minor version. Another one may read the flag otherwise, and the endpoint would be
the first to see it, as messages that it cannot read."""
WRITE_INTERNAL_COMPRESS = -0x80000000  # GRPC_WRITE_INTERNAL_COMPRESS (transport.h), as the signed integer taken here
SEND_MESSAGE = 1  # its place among the operations of a unary call

Export = Callable[..., bytes | None]


def precompressed(export: grpc.UnaryUnaryMultiCallable, *, version: str = grpc.__version__) -> Export | None:
    """The method, for messages that are gzip members; to be called with `compression=grpc.Compression.Gzip`.

    Args:
        export: a method of a channel, without serializers. Not to be used otherwise afterwards.
        version: grpcio's.

    Returns:
        None where this grpcio does not let us.
    """
    if not version.startswith(TESTED):
        return None
    try:
        prepare: Callable[..., Any] = export._prepare  # noqa: SLF001  # what this file is about
        marked = _marking(prepare)
        marked(b"", None, None, None, grpc.Compression.Gzip)  # starts nothing
        export._prepare = marked  # noqa: SLF001
    except (AttributeError, TypeError, ValueError):
        return None
    return export  # type: ignore[no-any-return]  # grpcio has no types


def _marking(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the operations of a call as before, with the message marked as compressed."""

    def prepared(request: bytes, *rest: Any) -> Any:
        state, operations, deadline, failure = prepare(request, *rest)
        if operations is None:
            return state, operations, deadline, failure
        if not isinstance(operations[SEND_MESSAGE], cygrpc.SendMessageOperation):
            raise TypeError(f"the operations of a call are not what they were: {operations}")
        message = cygrpc.SendMessageOperation(request, WRITE_INTERNAL_COMPRESS)
        return state, (*operations[:SEND_MESSAGE], message, *operations[SEND_MESSAGE + 1 :]), deadline, failure

    return prepared


EXPORT = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
MAX_ANSWER_BYTES = 4 * MIB
"""What the OTLP specification lets a client demand of answers."""
KEEPALIVE_MS = 30_000
"""Only while a call is under way. Its real use: it makes C-core set TCP_USER_TIMEOUT, so that a cut network is noticed
within the timeout below instead of after the kernel's quarter of an hour."""
KEEPALIVE_TIMEOUT_MS = 10_000
RECONNECT_BACKOFF_MS = 1_000
"""C-core's own backoff (to 120 s) would otherwise stack on top of ours, and answer for the endpoint meanwhile."""
DEADLINES_UNTIL_NEW_CHANNEL = 2
"""So many deadlines missed in a row, and the connection itself is under suspicion (a frozen peer, a lost route)."""


class _Channel:
    """A channel and the number of calls on it, so that it is closed after the last one when it is replaced."""

    __slots__ = ("calls", "channel", "encoded", "export", "retired", "tls")

    def __init__(self, channel: grpc.Channel, tls: TlsFiles | None, method: str, *, gzip: bool) -> None:
        self.channel, self.tls = channel, tls
        marked = precompressed(channel.unary_unary(method)) if gzip else None
        self.export = marked or channel.unary_unary(method)  # no serializers: bytes in, bytes out
        self.encoded = gzip_member if marked else unpacked
        """The form in which it takes a request."""
        self.calls = 0
        self.retired = False


class GrpcSender:
    """Keeps one channel to the endpoint, for all workers; replaces it when certificates change or it looks dead.

    Raises:
        SendSettingsError: a setting cannot work.
    """

    def __init__(
        self,
        settings: SendSettings,
        *,
        version: str,
        signal: Signal = Signal.LOGS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._method = EXPORT[signal]
        self._access = Access(settings, clock, signal)
        self.endpoint = self._access.target.url
        """`http(s)://host:port`."""
        self.renewed = self._access.renewed
        self._options = [*_options(settings, version), *grpc_options(self._access.proxy).items()]
        self._compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        self._timeout_seconds = settings.timeout_seconds
        self._lock = threading.Lock()
        self._channel: _Channel | None = None
        self._deadlines_missed = 0
        self._closed = False

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """Of the files in use; None where there are none."""
        return self._access.certificate_expires_unix_seconds

    def send(self, request: bytes, *, records: int) -> Outcome:  # noqa: ARG002  # part of the contract; others show it
        """One Export call; a second one at once when the credentials turn out to have been renewed."""
        return self._access.outcome(partial(self._attempt, request))

    def close(self) -> None:
        """Closes the channel; calls under way end with CANCELLED."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.channel.close()

    def _attempt(self, request: bytes, headers: Mapping[str, str]) -> Outcome:
        with self._calling() as channel:
            if channel is None:
                return RetryLater(code="CANCELLED", why="the bridge is closing")
            message = channel.encoded(request)
            try:
                response = channel.export(
                    message,
                    timeout=self._timeout_seconds,
                    metadata=tuple(headers.items()),
                    compression=self._compression,
                )
            except grpc.RpcError as error:
                self._suspect(error.code(), channel)
                return classify.of_grpc(error.code(), error.details() or "", _status_details(error))
            except ValueError:
                # grpc's word for a channel that was closed between our taking it and its starting the call.
                return RetryLater(code="CANCELLED", why="the channel was closed")
        self._deadlines_missed = 0
        return classify.of_response(response)

    @contextmanager
    def _calling(self) -> Iterator[_Channel | None]:
        """The channel in force, counted as in use; None once closed."""
        certificates = self._access.certificates
        tls = certificates.current() if certificates else None
        with self._lock:
            if self._channel is not None and self._channel.tls != tls:
                self._retire(self._channel)
            if self._channel is None and not self._closed:
                self._channel = _Channel(
                    self._opened(tls), tls, self._method, gzip=self._compression is grpc.Compression.Gzip
                )
            channel = self._channel
            if channel is not None:
                channel.calls += 1
        try:
            yield channel
        finally:
            if channel is not None:
                with self._lock:
                    channel.calls -= 1
                    if channel.retired and not channel.calls:
                        channel.channel.close()

    def _retire(self, channel: _Channel) -> None:
        """With the lock held: no new calls on it, and it is closed after the last."""
        channel.retired = True
        if self._channel is channel:
            self._channel = None
        if not channel.calls:
            channel.channel.close()

    def _suspect(self, code: grpc.StatusCode, channel: _Channel) -> None:
        with self._lock:
            late = code is grpc.StatusCode.DEADLINE_EXCEEDED
            self._deadlines_missed = self._deadlines_missed + 1 if late else 0
            if self._deadlines_missed >= DEADLINES_UNTIL_NEW_CHANNEL and not channel.retired:
                self._deadlines_missed = 0
                self._retire(channel)

    def _opened(self, tls: TlsFiles | None) -> grpc.Channel:
        address = self._access.target.authority
        if tls is None:
            return grpc.insecure_channel(address, options=self._options)
        credentials = grpc.ssl_channel_credentials(tls.ca, private_key=tls.key, certificate_chain=tls.cert)
        return grpc.secure_channel(address, credentials, options=self._options)


def _options(settings: SendSettings, version: str) -> list[tuple[str, str | int]]:
    options: dict[str, str | int] = {  # a dictionary, as of two equal names grpc takes the first without a word
        "grpc.primary_user_agent": f"otelbridge/{version}",
        "grpc.max_receive_message_length": MAX_ANSWER_BYTES,
        "grpc.max_send_message_length": -1,
        "grpc.keepalive_time_ms": KEEPALIVE_MS,
        "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
        "grpc.http2.ping_timeout_ms": KEEPALIVE_TIMEOUT_MS,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.initial_reconnect_backoff_ms": RECONNECT_BACKOFF_MS,
        "grpc.max_reconnect_backoff_ms": RECONNECT_BACKOFF_MS,
        "grpc.min_reconnect_backoff_ms": round(settings.timeout_seconds * 1000),  # how long one connect may take
        "grpc.enable_retries": 0,  # retrying is the workers' business, who know what is worth it
        "grpc.use_local_subchannel_pool": 1,  # a replaced channel must not inherit the old connection
    }
    if settings.server_name:
        options["grpc.ssl_target_name_override"] = settings.server_name
        options["grpc.default_authority"] = settings.server_name
    return list(options.items())


def _status_details(error: grpc.RpcError) -> bytes:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return bytes(value)
    return b""
