"""A queue on disk, an endpoint on real sockets, and workers between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otelbridge.event import Stream
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.dequeue import LingerLimits
from otelbridge.queue.model import Batch
from otelbridge.queue.queue import NO_LINGER, DurableQueue
from otelbridge.queue.settings import QueueSettings
from otelbridge.send.sender import open_sender
from otelbridge.send.settings import SendSettings
from otelbridge.send.workers import Workers
from otelbridge.setting import section_from
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.telemetry.events import Event
from tests.integration.send.endpoint_process import EndpointProcess
from tests.integration.send.http2_server import Http2Server
from tests.records import gaps_told_by


class Road:
    """Queue, workers, endpoint; and what was told."""

    def __init__(self, directory: Path, *, linger: LingerLimits = NO_LINGER) -> None:
        self.told: list[Event] = []
        self.wall_clock_nano: Callable[[], int] = time.time_ns
        """By which workers know how old a record is."""
        self.closing = ExitStack()
        self.queue = DurableQueue.open(
            QueueSettings(directory=directory),
            tell=self.told.append,
            record_gap=gaps_told_by(self.told.append),
            linger=linger,
        )
        self.closing.callback(self.queue.close)

    def start(
        self, endpoint: OtlpEndpoint | EndpointProcess | Http2Server, *, protocol: str = "grpc", **settings: object
    ) -> Workers:
        chosen: dict[str, object] = {
            "protocol": protocol,
            "endpoint": endpoint.grpc_endpoint if protocol == "grpc" else f"{endpoint.http_endpoint}/v1/logs",
            "retry_initial_seconds": 0.02,
            "retry_max_seconds": 0.05,
            "hold_initial_seconds": 0.1,
            "hold_max_seconds": 0.1,
            "timeout_seconds": 5,
        } | settings
        checked = section_from(SendSettings, chosen)
        sender = open_sender(checked, version="test")
        workers = Workers(self.queue, sender, checked, self.told.append, wall_clock_nano=self.wall_clock_nano)
        self.closing.callback(workers.close)
        workers.start()
        return workers

    def put(self, *batches: Batch) -> None:
        self.queue.put(batches, [Posting(batch.stream, Account.RECEIVED, "", batch.records) for batch in batches])

    def held(self) -> int:
        return sum(self.queue.held().values())

    def total(self, account: Account, stream: Stream = Stream.ALERTS) -> int:
        return self.queue.ledger().total(stream, account)

    def kinds(self) -> list[str]:
        return [type(happening).__name__ for happening in self.told]

    def balanced(self) -> bool:
        ledger, held = self.queue.balance()
        return not any(ledger.residue(held).values())


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    """Closed at the end, workers first; the ledger must balance then."""
    made = Road(tmp_path / "queue")
    with made.closing:
        yield made
        assert made.balanced()


@pytest.fixture
def endpoint() -> Iterator[OtlpEndpoint]:
    with OtlpEndpoint() as made:
        yield made


@pytest.fixture
def secret_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(content: str) -> Path:
        path = tmp_path / "secret"
        path.write_text(content)
        return path

    return write
