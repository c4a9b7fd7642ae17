"""Fuzzes the classification of the endpoint's answers: every answer has an outcome, with a delay and a text in bounds.

The first byte of an input chooses gRPC, its response, or HTTP; then statuses, headers and a body.
"""

from __future__ import annotations

import math
from pathlib import Path

import grpc

from otelbridge.queue.model import Accepted, Hold, Outcome, Refused, RetryLater, TooLarge
from otelbridge.send.classify import MAX_DELAY_SECONDS, MAX_WHY_CHARS, of_grpc, of_http, of_response

MODULES = ("send.classify", "clamp")
CODES = tuple(grpc.StatusCode)
HEADERS = ("retry-after", "date", "content-type", "location")
TYPES = ("application/x-protobuf", "application/json", "text/html", "")
NOW = 1_790_000_000.0


class Target:
    """Classifies whatever it is given."""

    def __init__(self, folder: Path) -> None:
        """Needs no folder."""

    def try_one(self, data: bytes) -> None:
        """Carries one input through; an exception, or an outcome out of bounds, is a fault."""
        kind, number, *rest = data[:4].ljust(4, b"\0")
        content = data[4:]
        if kind % 3 == 0:
            details, _, status_details = content.partition(b"\xff\xfe")
            outcome = of_grpc(CODES[number % len(CODES)], details.decode("utf-8", "surrogateescape"), status_details)
        elif kind % 3 == 1:
            outcome = of_response(content)
        else:
            *values, body = content.split(b"\n", len(HEADERS) - 1)
            headers = dict(zip(HEADERS, (value.decode("latin-1") for value in values), strict=False))
            headers["content-type"] = TYPES[rest[0] % len(TYPES)] or headers.get("content-type", "")
            status = 100 + (number << 8 | rest[1]) % 900
            outcome = of_http(status, headers, body if rest[0] < 0x80 else None, now=NOW)
        _check(outcome)


def _check(outcome: Outcome) -> None:
    match outcome:
        case Accepted(rejected=rejected):
            assert rejected >= 0
        case RetryLater(after_seconds=after, why=why):
            assert after is None or (math.isfinite(after) and 0 <= after <= MAX_DELAY_SECONDS)
            _check_text(why)
        case Hold(why=why) | Refused(why=why) | TooLarge(why=why):
            _check_text(why)


def _check_text(why: str) -> None:
    assert len(why) <= 2 * MAX_WHY_CHARS
    assert why.isprintable()
    why.encode(errors="strict")
