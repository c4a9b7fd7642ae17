"""Checks of settings beyond their types, each a function from the tree to its complaints."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from otelbridge.net.address import AddressError, parse_address
from otelbridge.net.files import TlsFileError, read_bounded
from otelbridge.net.proxy import parse_proxy
from otelbridge.net.secrets import carries_credentials, hidden, without_credentials
from otelbridge.net.tls_files import read_tls_files
from otelbridge.send.credentials import Credentials, header_fault
from otelbridge.send.settings import (
    OTLP_GRPC_PORT,
    OTLP_HTTP_PORT,
    SendSettings,
    SendSettingsError,
    for_traces,
    parse_target,
    send_target,
)
from otelbridge.settings.tree import SIGNAL_PATHS, Given, Problem, Settings, leaves, value_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A fault between settings, or between a setting and the machine."""

    paths: tuple[str, ...]
    """The setting to name first, then the others that play a part."""
    wrong: str
    cure: str
    value: Any = None
    at: str = ""
    """The place within the first setting, such as `[0].pattern`."""

    def as_problem(self, given: dict[str, Given]) -> Problem:
        """In the form that all problems are reported in, with the origin of the first setting that was given."""
        origin = next((given[path].origin for path in self.paths if path in given), "default")
        value = "" if self.value is None else str(hidden(self.paths[0], self.value))
        wrong = without_credentials(self.wrong)  # it may quote a piece of the value
        return Problem(path=self.paths[0] + self.at, value=value, wrong=wrong, cure=self.cure, origin=origin)


LEAST_ROADS, MOST_ROADS = 2, 8
"""Each event is compared with all of them, in a byte for each."""
_TLS_SECTIONS = ("feed.tls", "send", "telemetry.traces", "telemetry.metrics")
_OTHER_FILES = ("send.headers_file", "send.token_file")


def _tls(settings: Settings) -> Iterator[Complaint]:
    for section in _TLS_SECTIONS:
        tls = value_at(settings, section)
        for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(tls, one) and not getattr(tls, other):
                yield Complaint(
                    paths=(f"{section}.{one}", f"{section}.{other}"),
                    value=getattr(tls, one),
                    wrong=f"is given without {other}",
                    cure=f"Set {section}.{other} too; mutual TLS needs both.",
                )
    tls = settings.feed.tls
    for name in ("ca_file", "cert_file", "key_file", "server_name"):
        if getattr(tls, name) and not tls.enabled:
            yield Complaint(
                paths=(f"feed.tls.{name}", "feed.tls.enabled"),
                value=getattr(tls, name),
                wrong="is given, but feed.tls.enabled is false: the connection would be plaintext",
                cure="Set feed.tls.enabled to true, or leave this out.",
            )


def _floods(settings: Settings) -> Iterator[Complaint]:
    for path, usual in (("queue.retain_seconds", "86400 for a day"), ("queue.retain_max_bytes", "67108864")):
        if settings.gate.flood.rate_per_second and not value_at(settings, path):
            yield Complaint(
                paths=("gate.flood.rate_per_second", path),
                value=settings.gate.flood.rate_per_second,
                wrong=f"is given, but {path} is 0: nothing would keep the events that are only counted",
                cure=f"Set {path} too, to {usual}, or leave this out.",
            )


def _messages(settings: Settings) -> Iterator[Complaint]:
    most, bound = settings.feed.max_message_bytes, settings.bridge.under_way_max_bytes
    if most > bound:
        yield Complaint(
            paths=("feed.max_message_bytes", "bridge.under_way_max_bytes"),
            value=most,
            wrong=f"is above bridge.under_way_max_bytes ({bound}): beside such an event all others are dropped",
            cure="Lower it, or raise bridge.under_way_max_bytes, and with it what memory the bridge may have.",
        )


def _roads(settings: Settings) -> Iterator[Complaint]:
    feed = settings.feed
    if not feed.roads:
        return
    if feed.resolve == "all":
        yield Complaint(
            paths=("feed.roads", "feed.resolve"),
            value=True,
            wrong="is given, but feed.resolve is all: the addresses behind one name are different nodes",
            cure="Name each road in feed.endpoints and leave feed.resolve out, or leave feed.roads out.",
        )
    roads = len(set(feed.endpoints))
    if not LEAST_ROADS <= roads <= MOST_ROADS:
        yield Complaint(
            paths=("feed.roads", "feed.endpoints"),
            value=True,
            wrong=f"is given, but feed.endpoints names {roads} address{'es' if roads > 1 else ''}",
            cure=f"Name {LEAST_ROADS} to {MOST_ROADS} roads to the same events there, or leave feed.roads out.",
        )


def file_complaints(settings: Settings) -> Iterator[Complaint]:
    """Faults of the files themselves."""
    for section in _TLS_SECTIONS:
        yield from _tls_files(section, value_at(settings, section))
    for path in _OTHER_FILES:
        if file := value_at(settings, path):
            yield from _readable(path, file) or _sendable(path, file, settings.send)
    directory = settings.queue.directory
    try:
        wrong = "" if stat.S_ISDIR(directory.stat().st_mode) else "is not a folder"
    except FileNotFoundError:
        wrong = ""  # it will be made
    except (OSError, ValueError) as error:
        wrong = f"cannot be used: {getattr(error, 'strerror', None) or 'no folder can have this name'}"
    if wrong:
        yield Complaint(
            paths=("queue.directory",),
            value=directory,
            wrong=wrong,
            cure="Name a folder for the queue file.",
        )


def _tls_files(section: str, tls: Any) -> Iterator[Complaint]:
    try:
        read_tls_files(tls, section)
    except TlsFileError as error:
        yield Complaint(
            paths=(error.place.setting,),
            value=error.place.path,
            wrong=error.wrong,
            cure=f"{error.cure[:1].upper()}{error.cure[1:]}.",
        )


def date_notes(settings: Settings) -> Iterator[str]:
    """Notes on certificates that are out of date. The bridge starts all the same: it reads renewed files by itself."""
    seen = set[Path | None]()
    for section in _TLS_SECTIONS:
        try:
            validities = read_tls_files(value_at(settings, section), section).validities
        except TlsFileError:
            continue  # said by another check
        for place, validity in validities:
            fault = validity.fault(datetime.now(UTC))
            if fault and place.path not in seen:  # telemetry's are the events' own, unless somebody set others
                seen.add(place.path)
                yield f"{place}: {fault}. Renew the file; the bridge reads it again by itself."


def _readable(path: str, file: Path) -> list[Complaint]:
    """At most one complaint: the file cannot be opened, or is empty."""
    try:
        empty = not read_bounded(file)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
        cure = "Correct the path, or mount the file and make it readable for this user."
        return [Complaint(paths=(path,), value=file, wrong=wrong, cure=cure)]
    return [Complaint(paths=(path,), value=file, wrong="is empty", cure="Fill it, or name another.")] if empty else []


def _sendable(path: str, file: Path, send: SendSettings) -> list[Complaint]:
    """At most one complaint: the sender would refuse what the file holds."""
    if send.protocol == "console":
        return []
    try:
        target = send_target(send)
    except SendSettingsError:
        return []  # said by another check
    one: dict[str, Any] = {"headers": {}, "headers_file": None, "token_file": None, path.removeprefix("send."): file}
    # A token in plaintext is said by another check, which need not read it.
    plaintext = send.allow_plaintext_credentials or path == "send.token_file"
    try:
        Credentials(replace(send, **one, allow_plaintext_credentials=plaintext), target)
    except SendSettingsError as error:
        wrong, _, cure = str(error).removeprefix(f"{path} ({file}) ").partition("; ")
        return [Complaint(paths=(path,), value=file, wrong=wrong, cure=f"{cure[:1].upper()}{cure[1:]}.")]
    return []


def _costs(settings: Settings) -> Iterator[str]:
    """Settings with which no event takes the compiled fast path."""
    gate, mapping = settings.gate, settings.mapping
    asked = {
        "gate.redact": bool(gate.redact),
        "gate.redact_common_secrets": gate.redact_common_secrets,
        "mapping.body": mapping.body != "text",
        "mapping.keep_original": mapping.keep_original,
        "mapping.keep_raw": not mapping.keep_raw,
        "mapping.native": not mapping.native,
    }
    if slow := [name for name, is_so in asked.items() if is_so]:
        yield (
            f"With {', '.join(slow)} as set, no event takes the compiled fast path: each costs about three times the "
            "processor's instructions."
        )


def hints(settings: Settings) -> Iterator[str]:
    """What an operator may want to look at again; called with checked settings only."""
    yield from _costs(settings)
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


_HEADER_PATHS = ("send.headers", "telemetry.traces.headers", "telemetry.metrics.headers")
_LADDERS = (
    ("feed.retry.initial_seconds", "feed.retry.max_seconds"),
    ("feed.retry.operator_initial_seconds", "feed.retry.operator_max_seconds"),
    ("send.retry_initial_seconds", "send.retry_max_seconds"),
    ("send.hold_initial_seconds", "send.hold_max_seconds"),
    ("feed.heartbeat.timeout_seconds", "feed.heartbeat.interval_seconds"),
)
"""The first of each pair must not exceed the second."""


def complaints(settings: Settings) -> Iterator[Complaint]:
    """What is wrong with settings, or with several together; no file is touched."""
    for check in CHECKS:
        yield from check(settings)


def _addresses(settings: Settings) -> Iterator[Complaint]:
    full = []
    for i, address in enumerate(settings.feed.endpoints):
        try:
            full.append(str(parse_address(address)))
        except AddressError as error:
            yield Complaint(paths=("feed.endpoints",), at=f"[{i}]", value=address, wrong=error.wrong, cure=error.cure)
    for address, times in Counter(full).items():
        if times > 1:
            yield Complaint(
                paths=("feed.endpoints",),
                value=address,
                wrong="is there twice, so each of its events would arrive twice",
                cure="Leave it in once.",
            )


def _endpoints(settings: Settings) -> Iterator[Complaint]:
    """Addresses that are none, or another signal's: a lenient server takes records for spans, and forgets them."""
    send, telemetry = settings.send, settings.telemetry
    targets = (
        ("send.endpoint", send.protocol, send.endpoint, "send"),
        ("send.traces_endpoint", send.protocol, send.traces_endpoint, "telemetry.traces"),
        ("telemetry.traces.endpoint", telemetry.traces.protocol, telemetry.traces.endpoint, "telemetry.traces"),
        ("telemetry.metrics.endpoint", telemetry.metrics.protocol, telemetry.metrics.endpoint, "telemetry.metrics"),
    )
    for setting, protocol, endpoint, signal in targets:
        if protocol == "console" or not endpoint:
            continue
        paths = (setting, f"{setting.rpartition('.')[0]}.protocol")
        try:
            path = parse_target(endpoint, protocol, insecure=None).path.partition("?")[0].rstrip("/")
        except AddressError as error:
            yield Complaint(paths=paths, value=endpoint, wrong=error.wrong, cure=error.cure)
            continue
        other = next(
            (other for other in SIGNAL_PATHS.values() if path.endswith(other) and other != SIGNAL_PATHS[signal]), ""
        )
        if other:
            wrong = f"ends with {other}, where something else is taken than is sent"
            yield Complaint(
                paths=paths, value=endpoint, wrong=wrong, cure=f"Write {SIGNAL_PATHS[signal]} in its place."
            )


def _spans(settings: Settings) -> Iterator[Complaint]:
    if settings.mapping.process_traces:
        try:
            for_traces(settings.send)
        except SendSettingsError as error:
            wrong, _, cure = str(error).partition(". ")
            yield Complaint(paths=("send.traces_endpoint", "send.endpoint"), wrong=f"is needed: {wrong}", cure=cure)


def _backoffs(settings: Settings) -> Iterator[Complaint]:
    for low, high in _LADDERS:
        if value_at(settings, low) > value_at(settings, high):
            yield Complaint(
                paths=(low, high),
                value=value_at(settings, low),
                wrong=f"is above {high} ({value_at(settings, high):g})",
                cure=f"Lower it, or raise {high}.",
            )


def _credentials_in_plaintext(settings: Settings) -> Iterator[Complaint]:
    send = settings.send
    if send.protocol == "console" or send.allow_plaintext_credentials:
        return
    sources = [f"header {name}" for name in send.headers if carries_credentials(name)]
    if send.token_file:
        sources.append("send.token_file")
    spans = {"send.traces_endpoint": send.traces_endpoint} if settings.mapping.process_traces else {}
    for path, endpoint in {"send.endpoint": send.endpoint, **spans}.items():
        try:
            target = parse_target(endpoint, send.protocol, insecure=send.insecure)
        except AddressError:
            continue  # empty, or reported by another check
        if sources and not target.loopback and not target.tls:
            yield Complaint(
                paths=(path, "send.insecure", "send.headers", "send.token_file"),
                value=endpoint,
                wrong=f"is not encrypted, and credentials would travel there ({', '.join(sources)})",
                cure="Use https://, or set send.allow_plaintext_credentials to true if the way there is safe.",
            )


def _headers(settings: Settings) -> Iterator[Complaint]:
    for path in _HEADER_PATHS:
        for name, value in value_at(settings, path).items():
            if fault := header_fault(name, value):
                yield Complaint(paths=(path,), wrong=fault.wrong, cure=fault.cure)


def _rules(settings: Settings) -> Iterator[Complaint]:
    for path in ("gate.rules", "gate.redact"):
        for name, times in Counter(rule.name for rule in value_at(settings, path)).items():
            if times > 1:
                yield Complaint(
                    paths=(path,),
                    value=name,
                    wrong="names two entries, whose counts could not be told apart",
                    cure="Rename one.",
                )
    for i, rule in enumerate(settings.gate.rules):
        if rule.min_severity is not None and rule.max_severity is not None and rule.min_severity > rule.max_severity:
            yield Complaint(
                paths=("gate.rules",),
                at=f"[{i}].min_severity",
                value=rule.min_severity,
                wrong=f"is above max_severity ({rule.max_severity}), so the rule never holds",
                cure="Exchange the two.",
            )


def _texts(settings: Settings) -> Iterator[Complaint]:
    """What no file, server or protocol can be given: NUL, half a character, and an empty or relative queue folder."""
    for leaf in leaves():
        value = value_at(settings, leaf.path)
        texts = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        if any(isinstance(text, str | Path) and not _can_be_written(text) for text in texts):
            yield Complaint(
                paths=(leaf.path,),
                value=value,
                wrong="holds a character that is none",
                cure="Write it anew, without it.",
            )
    directory = settings.queue.directory
    if directory == Path():
        yield Complaint(
            paths=("queue.directory",),
            value=str(directory),
            wrong="is the folder that the bridge happens to be started in",
            cure="Name a folder of its own, such as /var/lib/otelbridge.",
        )


def _proxies(settings: Settings) -> Iterator[Complaint]:
    for path in ("feed.proxy.http", "feed.proxy.https", "send.proxy.http", "send.proxy.https"):
        try:
            if text := value_at(settings, path):
                parse_proxy(text)
        except ValueError as error:
            yield Complaint(paths=(path,), value=text, wrong=str(error), cure="Write it like http://proxy:3128.")


def _can_be_written(text: str | Path) -> bool:
    try:
        return b"\0" not in (os.fsencode(text) if isinstance(text, Path) else text.encode())
    except UnicodeEncodeError:
        return False


CHECKS: tuple[Callable[[Settings], Iterator[Complaint]], ...] = (
    _texts,
    _proxies,
    _addresses,
    _endpoints,
    _backoffs,
    _credentials_in_plaintext,
    _headers,
    _rules,
    _tls,
    _roads,
    _floods,
    _messages,
    _spans,
)
