"""The gRPC channel to one upstream and the calls made on it. The only file that knows how to dial KubeArmor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

import grpc
from grpc.experimental import ChannelOptions
from grpc_health.v1 import health_pb2

from otelbridge.event import LOG_SERVICE, STREAMS, Stream
from otelbridge.feed.buffer import LOOKAHEAD_BYTES
from otelbridge.feed.settings import FeedSettings
from otelbridge.net.address import Address
from otelbridge.net.preflight import Route
from otelbridge.net.proxy import Proxy, grpc_options, proxy_for
from otelbridge.net.tls_files import TlsFiles
from otelbridge.pb.kubearmor_pb2 import NonceMessage, ReplyMessage, RequestMessage

MILLISECONDS = 1000
LEAST_CONNECT_SECONDS = 20.0
"""gRPC's own default."""


class WatchCall(Protocol):
    """A running Watch call: iterated by one thread for encoded events. Cancelling it, or closing its channel, ends it.

    Closing the channel is the better end for a process that lives on, see `Connection.close`.
    """

    def __iter__(self) -> Iterator[bytes]:
        """Blocks for the next event; raises grpc.RpcError when the stream ends with anything but OK."""

    def cancel(self) -> bool:
        """Ends the call, and a read that is blocked on it, at once."""

    def initial_metadata(self) -> object:
        """Blocks for the headers, or for the end."""


def channel_options(
    settings: FeedSettings, *, version: str, keepalive_seconds: float, window_bytes: int = LOOKAHEAD_BYTES
) -> dict[str, object]:
    """The channel's arguments. A dict, because of a duplicated argument gRPC silently takes the first."""
    timeout_ms = int(settings.keepalive.timeout_seconds * MILLISECONDS)
    options: dict[str, object] = {
        "grpc.keepalive_time_ms": int(keepalive_seconds * MILLISECONDS),
        "grpc.keepalive_timeout_ms": timeout_ms,
        # Without this one the timeout above does nothing below 60 s: a frozen peer was noticed after 75 s (measured).
        "grpc.http2.ping_timeout_ms": timeout_ms,
        "grpc.keepalive_permit_without_calls": 1,
        # With the default of 2, pings on a quiet stream are throttled to one a minute after the second.
        "grpc.http2.max_pings_without_data": 0,
        # Two channels to one address must not share a connection: a fresh channel means a fresh connection.
        "grpc.use_local_subchannel_pool": 1,
        # What the server allows no stream for fails at once. Without this it waits for one, and looks like a silence.
        "grpc.http.max_concurrent_streams_reject_on_client": 1,
        # Retries are the subscription's, where they are seen.
        "grpc.enable_retries": 0,
        "grpc.max_receive_message_length": settings.max_message_bytes,
        "grpc.http2.lookahead_bytes": window_bytes,
        # Otherwise the window begins at 64 KiB and is measured anew: too late for the burst that it is measured by.
        "grpc.http2.bdp_probe": 0,
        "grpc.primary_user_agent": f"otelbridge/{version}",
    }
    if settings.tls.enabled and settings.tls.server_name:
        options["grpc.ssl_target_name_override"] = settings.tls.server_name
    if settings.single_threaded_streams:
        # 9 us per event instead of 50 (measured); experimental in grpcio, hence the setting.
        options[ChannelOptions.SingleThreadedUnaryStream] = 1
    return options


def proxy_of(address: Address, settings: FeedSettings) -> Proxy | None:
    """The proxy between us and an upstream; None where there is none."""
    return proxy_for(address.host, address.port, settings.proxy, tls=settings.tls.enabled)


def route_to(address: Address, settings: FeedSettings) -> Route:
    """The way to an upstream, for a preflight."""
    tls = settings.tls
    return Route(
        host=address.host,
        port=address.port,
        tls=tls if tls.enabled else None,
        name=tls.server_name or address.host,
        section="feed.tls",
        proxy=proxy_of(address, settings),
        steps=("resolve", "connect", "tls", "http2") if tls.enabled else ("resolve", "connect", "http2"),
        name_cure="check the name in feed.endpoints: within the cluster the relay is kubearmor.<namespace>:32767 "
        "(kubectl get service --all-namespaces | grep kubearmor)",
        port_cure="check host and port in feed.endpoints (KubeArmor's is 32767), that KubeArmor runs, and that no "
        "NetworkPolicy is in the way",
        log_cure="look at its log (kubectl logs deployment/kubearmor-relay, or the kubearmor pod of the node)",
        gateway_cure="see that KubeArmor runs behind it, and is reached by it in HTTP/2",
        stranger_cure="is it really KubeArmor that listens there? Its port is 32767",
    )


def open_channel(
    address: Address,
    settings: FeedSettings,
    *,
    version: str,
    keepalive_seconds: float,
    certificates: TlsFiles | None,
    connect_seconds: float = 0,
    window_bytes: int = LOOKAHEAD_BYTES,
) -> grpc.Channel:
    """A new channel; it dials when the first call is made on it.

    Args:
        address: where to.
        settings: bounds and switches.
        version: of the bridge, for the user agent.
        keepalive_seconds: silence after which the peer is pinged; longer than in the settings where a peer polices.
        certificates: what TLS is spoken with; None means plaintext.
        connect_seconds: what may pass until HTTP/2's settings have come; `LEAST_CONNECT_SECONDS` at least.
        window_bytes: of each stream: what may be read ahead of its reader.
    """
    options = [
        *channel_options(
            settings, version=version, keepalive_seconds=keepalive_seconds, window_bytes=window_bytes
        ).items(),
        *grpc_options(proxy_of(address, settings)).items(),
        ("grpc.min_reconnect_backoff_ms", int(max(connect_seconds + 1, LEAST_CONNECT_SECONDS) * MILLISECONDS)),
    ]
    if certificates is None:
        return grpc.insecure_channel(address.target, options)
    credentials = grpc.ssl_channel_credentials(certificates.ca, certificates.key, certificates.cert)
    return grpc.secure_channel(address.target, credentials, options)


def start_watch(channel: grpc.Channel, stream: Stream) -> WatchCall:
    """Starts a Watch call whose events are handed on as bytes.

    There is no deserializer on purpose: an event that does not parse would end the stream inside grpcio, and the ones
    behind it would be lost.
    """
    facts = STREAMS[stream]
    start = channel.unary_stream(
        f"/{LOG_SERVICE}/{facts.method}",
        request_serializer=RequestMessage.SerializeToString,
        response_deserializer=None,
        _registered_method=True,
    )
    call: WatchCall = start(RequestMessage(Filter=facts.filter))
    return call


def is_idle(channel: grpc.Channel) -> bool:
    """Whether the next call on a channel would make a connection. Does not make one.

    Of a channel with open calls it means that the server has said GOAWAY: they live on where they are, but whatever is
    called from now on goes another way. grpcio's public API tells this only to who has a thread of its polling.
    """
    state = channel._channel.check_connectivity_state(try_to_connect=False)  # noqa: SLF001
    return bool(state == grpc.ChannelConnectivity.IDLE.value[0])


def release(call: WatchCall) -> None:
    """Takes what gRPC still holds ready for a call that has ended; by the thread that read it.

    In the single-threaded mode the headers stay in the call's completion queue when nobody asks for them: 20 KiB per
    call that were never freed (measured; 64 MiB after 1,000 connections).
    """
    call.initial_metadata()


def start_nonce_check(channel: grpc.Channel, nonce: int, timeout_seconds: float) -> grpc.Future:
    """Asks LogService.HealthCheck to send the nonce back; the future's result is a ReplyMessage."""
    start = channel.unary_unary(
        f"/{LOG_SERVICE}/HealthCheck",
        request_serializer=NonceMessage.SerializeToString,
        response_deserializer=ReplyMessage.FromString,
        _registered_method=True,
    )
    make_sure_of_a_thread()
    return start.future(NonceMessage(nonce=nonce), timeout=timeout_seconds)


def start_health_check(channel: grpc.Channel, timeout_seconds: float) -> grpc.Future:
    """Asks grpc.health.v1 about the server as a whole; the future's result is a HealthCheckResponse."""
    start = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
        _registered_method=True,
    )
    make_sure_of_a_thread()
    return start.future(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)


def make_sure_of_a_thread() -> None:
    """Checks that a thread can be started, for calls whose end gRPC handles on a thread that it starts after the call.

    If that start fails, nobody handles the end, and closing the channel waits for it for ever.

    Raises:
        RuntimeError: no thread is to be had.
    """
    first = threading.Thread(target=int, name="one more")
    first.start()
    first.join()
