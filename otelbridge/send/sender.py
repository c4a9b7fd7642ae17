"""Defines `Sender`: sends one encoded request and says what the endpoint made of it."""

from __future__ import annotations

from typing import Protocol

from otelbridge.event import Signal
from otelbridge.queue.model import Outcome
from otelbridge.send.settings import SendSettings, for_traces


class Sender(Protocol):
    """Sends to an endpoint. Thread-safe: several workers send at once."""

    @property
    def endpoint(self) -> str:
        """Where it goes, for people: no secrets in it."""
        ...

    @property
    def certificate_expires_unix_seconds(self) -> int | None:
        """When the first of the certificate files in use expires; None where there are none."""
        ...

    def send(self, request: bytes, *, records: int) -> Outcome:
        """Sends an encoded request, packed or not, and waits for the answer, at most until its deadline.

        Never raises for what can happen to a connection or an endpoint: that is an outcome.

        Raises:
            DamagedRequest: it is not what was packed.
        """
        ...

    def renewed(self) -> bool:
        """Whether token, headers or certificates in files are others than the last request went with."""
        ...

    def close(self) -> None:
        """Breaks what is under way (its outcome is RetryLater) and frees the connections."""
        ...


def open_traces_sender(settings: SendSettings, *, version: str) -> Sender:
    """A sender for spans.

    Raises:
        SendSettingsError: as `open_sender`, or the settings do not tell where spans go.
    """
    return open_sender(for_traces(settings), version=version, signal=Signal.TRACES)


STDOUT = 1


def open_sender(settings: SendSettings, *, version: str, signal: Signal = Signal.LOGS) -> Sender:
    """A sender for the protocol of the settings; it connects when it first sends.

    Raises:
        SendSettingsError: a URL, file or header that cannot work. Names the setting, its value and the cure.
    """
    # Each is imported where it is used: urllib3, or protobuf's JSON, is memory that only those should pay who use it.
    match settings.protocol:
        case "grpc":
            from otelbridge.send.grpc_sender import GrpcSender  # noqa: PLC0415

            return GrpcSender(settings, version=version, signal=signal)
        case "http/protobuf":
            from otelbridge.send.http_sender import HttpSender  # noqa: PLC0415

            return HttpSender(settings, version=version, signal=signal)
        case "console":
            from otelbridge.send.console_sender import ConsoleSender  # noqa: PLC0415

            return ConsoleSender(STDOUT, timeout_seconds=settings.timeout_seconds, signal=signal)
