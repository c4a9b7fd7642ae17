"""An endpoint with every mood, by a seed: what must hold is that nothing is lost, miscounted or sent in vain."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelbridge.queue.checkpoint import Account
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.endpoint_answers import (
    OK,
    Answer,
    Http,
    LoseAnswer,
    Partial,
    RefuseTooLarge,
    Request,
    Reset,
    Status,
)
from tests.integration.send.conftest import Road
from tests.records import batch_of, bodies_of, count_records
from tests.waiting import eventually

UNAVAILABLE_SHARE = 0.7
LOCKED_OUT_REQUESTS = 10
"""How many requests one stretch of 401 meets."""
TIMER_SLACK_SECONDS = 0.15
"""What a busy machine adds to a wait."""


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@dataclass
class Moods:
    """Answers by chance, and remembers what it asked for."""

    chance: random.Random
    rejected: int = 0
    may_be_twice: int = 0
    """Records whose answer was lost."""
    asked: Counter[str] = field(default_factory=Counter)
    early_seconds: float = 0.0
    """How much too early a request came after a delay was asked for, at worst."""
    late_share: float = 0.0
    """How much too late, as a share of the delay, at worst."""
    _locked_out: int = 0
    _asked_at: float = 0.0
    _delay: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            self._judge_delay(time.monotonic())
            answer, delay = self._chosen(request)
            self.asked[type(answer).__name__ if not isinstance(answer, Status) else answer.code.name] += 1
            self._asked_at, self._delay = time.monotonic(), delay
            return answer

    def _judge_delay(self, now: float) -> None:
        if self._delay:
            waited = now - self._asked_at
            self.early_seconds = max(self.early_seconds, self._delay - waited)
            self.late_share = max(self.late_share, (waited - TIMER_SLACK_SECONDS) / self._delay - 1)

    def _chosen(self, request: Request) -> tuple[Answer, float]:
        if self._locked_out:
            self._locked_out -= 1
            return Status(code=grpc.StatusCode.UNAUTHENTICATED), 0
        if self.chance.random() < UNAVAILABLE_SHARE:
            return Status(code=grpc.StatusCode.UNAVAILABLE), 0
        moods: list[Callable[[Request], tuple[Answer, float]]] = [
            lambda _: (OK, 0),
            lambda _: (OK, 0),
            self._patience_please,
            lambda _: (Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="quota"), 0),
            lambda request: (RefuseTooLarge(limit_bytes=len(request.body) * 2 // 3), 0),
            lambda _: (Reset(), 0),
            self._lose,
            self._reject_some,
            self._lock_out,
        ]
        return self.chance.choice(moods)(request)

    def _patience_please(self, request: Request) -> tuple[Answer, float]:
        if request.protocol == "grpc":
            code = self.chance.choice([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
            return Status(code=code, retry_delay_seconds=0.3), 0.3
        if self.chance.random() < 0.5:
            return Http(status=429, headers={"Retry-After": "1"}), 1
        # Whole seconds on both ends: what is left of them may be less than one.
        return Http(status=503, headers={"Retry-After": date_in(1), "Date": date_in(0)}), 1

    def _lose(self, request: Request) -> tuple[Answer, float]:
        self.may_be_twice += count_records(request.body)
        return LoseAnswer(), 0

    def _reject_some(self, request: Request) -> tuple[Answer, float]:
        rejected = self.chance.randint(1, count_records(request.body))
        self.rejected += rejected
        return Partial(rejected=rejected, message="some"), 0

    def _lock_out(self, _: Request) -> tuple[Answer, float]:
        self._locked_out = LOCKED_OUT_REQUESTS
        return Status(code=grpc.StatusCode.UNAUTHENTICATED), 0


def campaign(road: Road, endpoint: OtlpEndpoint, *, protocol: str, seed: int, batches: int) -> dict[str, object]:
    """Delivers so many batches through all moods, and returns the figures; raises where a promise is broken."""
    moods = Moods(random.Random(seed))
    endpoint.answers = moods
    names = [[f"{seed}-{batch}-{n}" for n in range(5)] for batch in range(batches)]
    owed = [name for batch in names for name in batch]
    road.start(
        endpoint,
        protocol=protocol,
        concurrency=1,  # a delay can only be judged where no other request is under way
        max_request_records=20,
        hold_initial_seconds=0.01,
        hold_max_seconds=0.02,
    )
    for batch in names:
        road.put(batch_of(*batch))
    eventually(lambda: road.held() == 0, within_seconds=60 + batches)
    arrived = Counter(bodies_of(endpoint.log_records()))
    dead = {
        record.body.string_value
        for letter in road.queue.dead_letters()
        for per_resource in ExportLogsServiceRequest.FromString(letter.request).resource_logs
        for per_scope in per_resource.scope_logs
        for record in per_scope.log_records
    }
    figures: dict[str, object] = {
        "seed": seed,
        "owed": len(owed),
        "lost": len(set(owed) - set(arrived) - dead),
        "set_aside": len(dead),
        "duplicates": sum(arrived.values()) - len(arrived),
        "duplicates_allowed": moods.may_be_twice,
        "delay_early_seconds": round(moods.early_seconds, 4),
        "delay_late_share": round(moods.late_share, 3),
        "answers": dict(moods.asked),
    }
    assert figures["lost"] == 0, figures
    assert road.total(Account.REJECTED) == moods.rejected + len(dead), figures
    assert road.total(Account.DELIVERED) + road.total(Account.REJECTED) == len(owed), figures
    assert sum(arrived.values()) - len(arrived) <= moods.may_be_twice, figures
    assert moods.early_seconds <= 0, figures
    assert moods.late_share <= 0.1, figures
    return figures
