"""What follows from the settings given: full addresses, default endpoints, where the bridge's own telemetry goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otelbridge.send.settings import SendSettings
from otelbridge.send.target import DEFAULT_ENDPOINTS, LOGS_PATH, AddressError
from otelbridge.settings.addresses import kubearmor_address
from otelbridge.settings.given import Given
from otelbridge.settings.tree import Settings, value_at

SIGNALS = {"traces": "/v1/traces", "metrics": "/v1/metrics"}


def derived(settings: Settings, given: Mapping[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """Further values that follow from those given, and notes about those that could not."""
    found: dict[str, Given] = {}
    notes: list[str] = []
    _full_addresses(settings, given, found)
    _send_endpoint(settings, given, found)
    endpoint = found["send.endpoint"].value if "send.endpoint" in found else settings.send.endpoint
    for signal in SIGNALS:
        _telemetry_signal(settings, given, found, notes, signal=signal, events_endpoint=endpoint)
    return found, notes


def _full_addresses(settings: Settings, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    try:
        full = tuple(map(kubearmor_address, settings.feed.endpoints))
    except AddressError:
        return  # the checks say so
    if full != settings.feed.endpoints:
        found["feed.endpoints"] = Given(path="feed.endpoints", value=full, origin=given["feed.endpoints"].origin)


def _send_endpoint(settings: Settings, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    protocol = settings.send.protocol
    if protocol == "console":
        return
    if not settings.send.endpoint:
        default = _default_endpoint(protocol, LOGS_PATH)
        found["send.endpoint"] = Given(path="send.endpoint", value=default, origin="default")
        return
    _append_path("send.endpoint", protocol, settings.send.endpoint, given, found)


def _append_path(path: str, protocol: str, value: str, given: Mapping[str, Given], found: dict[str, Given]) -> None:
    """A base endpoint gets its signal's path appended, for HTTP only."""
    base = given.get(path)
    if base is not None and base.base_of and protocol == "http/protobuf":
        found[path] = Given(path=path, value=value.rstrip("/") + base.base_of, origin=base.origin)


def _telemetry_signal(
    settings: Settings,
    given: Mapping[str, Given],
    found: dict[str, Given],
    notes: list[str],
    *,
    signal: str,
    events_endpoint: str,
) -> None:
    section = f"telemetry.{signal}"
    send, chosen = settings.send, value_at(settings, section)
    if chosen.exporter != "otlp" or settings.telemetry.disabled:
        return

    def derive(key: str, value: Any, why: str) -> None:
        path = f"{section}.{key}"
        if path not in given and value != getattr(chosen, key):
            found[path] = Given(path=path, value=value, origin=f"derived from {why}")

    own_protocol = f"{section}.protocol" in given or send.protocol == "console"
    protocol = chosen.protocol if own_protocol else send.protocol
    derive("protocol", protocol, "send.protocol")
    if chosen.endpoint:
        _append_path(f"{section}.endpoint", protocol, chosen.endpoint, given, found)
    elif send.protocol == "console" and f"{section}.exporter" not in given:
        derive("exporter", "none", "send.protocol")
    elif protocol != send.protocol:
        derive("endpoint", _default_endpoint(protocol, SIGNALS[signal]), f"{section}.protocol")
    elif not (endpoint := _sibling(events_endpoint, protocol, SIGNALS[signal])):
        derive("exporter", "none", "send.endpoint")
        notes.append(
            f"The bridge's own {signal} go nowhere by OTLP: send.endpoint does not end with {LOGS_PATH}, so their "
            f"address cannot be derived from it. Set {section}.endpoint, or {section}.exporter to none."
        )
    else:
        derive("endpoint", endpoint, "send.endpoint")
        for key, value, source in _shared_with_send(send):
            derive(key, value, f"send.{source}")


def _shared_with_send(send: SendSettings) -> Iterator[tuple[str, Any, str]]:
    """What the events' endpoint and the telemetry's have in common when they are the same server, and its source."""
    for key in ("headers", "insecure", "compression", "timeout_seconds"):
        yield key, getattr(send, key), key
    for key in ("ca_file", "cert_file", "key_file"):
        yield key, str(getattr(send, key) or ""), key
    yield "lend_credentials", bool(send.token_file or send.headers_file), "token_file, send.headers_file"


def _default_endpoint(protocol: str, path: str) -> str:
    return DEFAULT_ENDPOINTS[protocol] + (path if protocol == "http/protobuf" else "")


def _sibling(endpoint: str, protocol: str, path: str) -> str:
    """Where another signal goes on the same server; empty where that cannot be told."""
    if protocol == "grpc":
        return endpoint
    return endpoint.removesuffix(LOGS_PATH) + path if endpoint.endswith(LOGS_PATH) else ""
