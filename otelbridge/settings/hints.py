"""Settings that are valid and yet seldom meant: each becomes one sentence for the operator."""

from __future__ import annotations

from collections.abc import Iterator

from otelbridge.send.target import OTLP_GRPC_PORT, OTLP_HTTP_PORT, parse_target
from otelbridge.settings.tree import Settings


def hints(settings: Settings) -> Iterator[str]:
    """What an operator may want to look at again; called with checked settings only."""
    send = settings.send
    if send.protocol == "console":
        return
    endpoint = parse_target(send.endpoint, send.protocol, insecure=send.insecure)
    if send.protocol == "grpc" and endpoint.port == OTLP_HTTP_PORT:
        yield (
            f"send.endpoint has the port {OTLP_HTTP_PORT}, where OTLP over HTTP is usual, but send.protocol is grpc. "
            "Is http/protobuf meant?"
        )
    if send.protocol == "http/protobuf" and endpoint.port == OTLP_GRPC_PORT:
        yield (
            f"send.endpoint has the port {OTLP_GRPC_PORT}, where OTLP over gRPC is usual, but send.protocol is "
            "http/protobuf. Is grpc meant?"
        )
    if send.protocol == "http/protobuf" and endpoint.path == "/":
        yield "send.endpoint has no path, and is used as it is: collectors take logs at /v1/logs."
    if not endpoint.tls and (send.ca_file or send.cert_file):
        yield "send.ca_file, send.cert_file and send.key_file have no effect: send.endpoint is plaintext."
    if "://" in send.endpoint and send.insecure is not None and send.insecure == endpoint.tls:
        scheme = send.endpoint.partition("://")[0]
        yield f"send.insecure has no effect: send.endpoint says {scheme}, and the scheme wins."
