"""What no single setting can be blamed for: checks across settings, each a function from the tree to its complaints."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from otelbridge.send.target import AddressError, parse_target
from otelbridge.settings.addresses import kubearmor_address
from otelbridge.settings.complaint import Complaint
from otelbridge.settings.hiding import is_secret
from otelbridge.settings.tree import Settings, leaves, value_at

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
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
    """Everything that the checks find."""
    for check in CHECKS:
        yield from check(settings)


def _addresses(settings: Settings) -> Iterator[Complaint]:
    full = []
    for i, address in enumerate(settings.feed.endpoints):
        try:
            full.append(kubearmor_address(address))
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
    targets = [("send", settings.send.protocol, settings.send.endpoint)]
    targets += [
        (f"telemetry.{name}", signal.protocol, signal.endpoint)
        for name, signal in (("traces", settings.telemetry.traces), ("metrics", settings.telemetry.metrics))
    ]
    for section, protocol, endpoint in targets:
        if protocol == "console" or not endpoint:
            continue
        try:
            parse_target(endpoint, protocol, insecure=None)
        except AddressError as error:
            paths = (f"{section}.endpoint", f"{section}.protocol")
            yield Complaint(paths=paths, value=endpoint, wrong=error.wrong, cure=error.cure)


def _ladders(settings: Settings) -> Iterator[Complaint]:
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
    try:
        target = parse_target(send.endpoint, send.protocol, insecure=send.insecure)
    except AddressError:
        return  # reported by another check
    if target.loopback or target.tls:
        return
    sources = [f"header {name}" for name in send.headers if is_secret(name)]
    if send.token_file:
        sources.append("send.token_file")
    if sources:
        yield Complaint(
            paths=("send.endpoint", "send.insecure", "send.headers", "send.token_file"),
            value=send.endpoint,
            wrong=f"is not encrypted, and credentials would travel there ({', '.join(sources)})",
            cure="Use https://, or set send.allow_plaintext_credentials to true if the way there is safe.",
        )


def _headers(settings: Settings) -> Iterator[Complaint]:
    for path in _HEADER_PATHS:
        for name, value in value_at(settings, path).items():
            if not _HEADER_NAME.fullmatch(name):
                yield Complaint(
                    paths=(path,),
                    wrong=f"{name!r} is not a header's name",
                    cure="Use letters, digits, '-', '_' and '.' only.",
                )
            elif not _HEADER_VALUE.fullmatch(value):
                yield Complaint(
                    paths=(path,),
                    wrong=f"the value of {name} holds a line break or a character outside ASCII",
                    cure="Correct it; a trailing line break often comes with a secret read from a file.",
                )


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
    for i, redaction in enumerate(settings.gate.redact):
        try:
            re.compile(redaction.pattern)
        except re.error as error:
            yield Complaint(
                paths=("gate.redact",),
                at=f"[{i}].pattern",
                value=redaction.pattern,
                wrong=f"is not a regular expression: {error}",
                cure="Correct it; Python's syntax is meant.",
            )


def _finite(settings: Settings) -> Iterator[Complaint]:
    for leaf in leaves():
        value: Any = value_at(settings, leaf.path)
        if isinstance(value, float) and not math.isfinite(value):
            yield Complaint(
                paths=(leaf.path,), value=value, wrong="is not a finite number", cure="Write a plain number."
            )


CHECKS: tuple[Callable[[Settings], Iterator[Complaint]], ...] = (
    _finite,
    _addresses,
    _endpoints,
    _ladders,
    _credentials_in_plaintext,
    _headers,
    _rules,
)
