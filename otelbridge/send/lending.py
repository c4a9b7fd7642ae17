"""The credentials of the events' endpoint, lent to the bridge's own spans and metrics where those go there too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from otelbridge.queue.outcome import Hold
from otelbridge.send.credentials import Credentials
from otelbridge.send.settings import SendSettings
from otelbridge.send.target import parse_target
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings


def lent_headers(send: SendSettings, telemetry: TelemetrySettings) -> dict[str, Callable[[], Mapping[str, str]]]:
    """Per signal that borrows: the headers to send now, read again when their files change.

    Raises:
        SendSettingsError: a file cannot be read, or credentials would go over plaintext.
    """
    signals = {"traces": telemetry.traces, "metrics": telemetry.metrics}
    return {
        name: _borrowed(send, signal)
        for name, signal in signals.items()
        if signal.lend_credentials and signal.exporter == "otlp" and not telemetry.disabled
    }


def _borrowed(send: SendSettings, signal: SignalSettings) -> Callable[[], Mapping[str, str]]:
    only_files = send.model_copy(update={"headers": {}})  # those of the settings are the signal's own business
    target = parse_target(signal.endpoint, signal.protocol, insecure=signal.insecure)
    credentials = Credentials(only_files, target)
    last: list[Mapping[str, str]] = [{}]

    def headers() -> Mapping[str, str]:
        found = credentials.headers()
        if not isinstance(found, Hold):
            last[0] = found
        return last[0]

    return headers
