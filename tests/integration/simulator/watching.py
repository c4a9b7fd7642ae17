"""A plain client of a LogService: what a test sees of a relay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import grpc

from otelbridge.event import LOG_SERVICE, STREAMS, Stream
from otelbridge.pb import kubearmor_pb2

NO_PROXY = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


@contextmanager
def channel_to(endpoint: str, *options: tuple[str, int]) -> Iterator[grpc.Channel]:
    """A channel that shares nothing with others."""
    with grpc.insecure_channel(endpoint, options=(*NO_PROXY, *options)) as channel:
        yield channel


class Watch:
    """One subscription, read by a thread of its own, from entering to leaving."""

    def __init__(self, channel: grpc.Channel, stream: Stream = Stream.ALERTS, wanted: str = "all") -> None:
        call = channel.unary_stream(
            f"/{LOG_SERVICE}/{STREAMS[stream].method}",
            request_serializer=kubearmor_pb2.RequestMessage.SerializeToString,
        )
        self.bodies: list[bytes] = []
        self.ended = threading.Event()
        self._call = call(kubearmor_pb2.RequestMessage(Filter=wanted))
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()
        self._thread.join()

    def ending(self, within_seconds: float = 10) -> tuple[grpc.StatusCode, str]:
        """Status and details; fails if the stream goes on."""
        assert self.ended.wait(within_seconds), "the stream has not ended"
        return self._call.code(), self._call.details()

    def _read(self) -> None:
        try:
            self.bodies.extend(self._each())
        except grpc.RpcError:
            pass
        finally:
            self.ended.set()

    def _each(self) -> Iterator[bytes]:
        yield from self._call


def health_check(channel: grpc.Channel, nonce: int, timeout_seconds: float = 5) -> int:
    """The number that came back."""
    call = channel.unary_unary(
        f"/{LOG_SERVICE}/HealthCheck",
        request_serializer=kubearmor_pb2.NonceMessage.SerializeToString,
        response_deserializer=kubearmor_pb2.ReplyMessage.FromString,
    )
    return int(call(kubearmor_pb2.NonceMessage(nonce=nonce), timeout=timeout_seconds).Retval)
