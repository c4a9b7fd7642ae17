"""The worker threads of the sender: each takes a lease from the queue, exports and settles it, and repeats."""

from __future__ import annotations

import math
import random as random_module
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from otelbridge.event import STREAMS
from otelbridge.net.backoff import Random
from otelbridge.queue.dequeue import LingerLimits
from otelbridge.queue.queue import LeasingQueue
from otelbridge.send.circuit_breaker import BreakerState, CircuitBreaker, SendCounts
from otelbridge.send.export import Export
from otelbridge.send.request_limits import BacklogLimiter
from otelbridge.send.sender import Sender
from otelbridge.send.settings import SendSettings
from otelbridge.send.unaccepted import ExportContext
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

BEAT_SECONDS = 1.0
"""The longest wait of a worker before it shows its pulse and looks at what was asked of it."""
REST_SECONDS = 5.0
"""Where there is no work: whatever comes, or is due, wakes it."""
WAKE_SECONDS = 0.05
"""Between two calls that wake workers waiting for work, while they shall end."""


class SendStatus(NamedTuple):
    """The state of the workers at one moment."""

    endpoint: str
    breaker: BreakerState
    counts: SendCounts


def linger_limits(settings: SendSettings) -> LingerLimits:
    """What the queue is told about how long, and for how much, a request waits."""
    logs, alerts = settings.linger_seconds, min(settings.linger_seconds, settings.alert_linger_seconds)
    return LingerLimits(
        seconds={stream: alerts if facts.prompt else logs for stream, facts in STREAMS.items()},
        enough_bytes=settings.max_request_bytes,
        enough_records=settings.max_request_records,
    )


class Workers:
    """`concurrency` threads on one queue and one sender, which `close` closes; started, drained and closed once each.

    After a reload they go on with the counts of the workers before.
    """

    def __init__(
        self,
        queue: LeasingQueue,
        sender: Sender,
        settings: SendSettings,
        tell: Tell,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_nano: Callable[[], int] = time.time_ns,
        random: Random = random_module.random,
        counts: SendCounts | None = None,
        name: str = "send",
    ) -> None:
        self._queue, self._sender = queue, sender
        self._breaker = CircuitBreaker(settings, clock=clock, random=random, wall_clock_nano=wall_clock_nano)
        self._backlog = BacklogLimiter(
            settings.replay_rate_factor,
            held=lambda: sum(queue.held().values()),
            clock=clock,
            wall_clock_nano=wall_clock_nano,
        )
        self._counts = counts or SendCounts()
        self._export = Export(
            ExportContext(
                queue=queue,
                sender=sender,
                settings=settings,
                tell=tell,
                breaker=self._breaker,
                backlog=self._backlog,
                counts=self._counts,
                random=random,
                clock=clock,
                wall_clock_nano=wall_clock_nano,
            )
        )
        self._draining = threading.Event()
        self._stopping = threading.Event()
        pulses = [Pulse(f"{name}-{number}") for number in range(1, settings.concurrency + 1)]
        self._threads = [
            SupervisedThread(
                pulse.name,
                partial(self._turn, pulse.beat),
                tell=tell,
                give_back=self._export.give_back_lost,
                pulse=pulse,
                daemon=False,
            )
            for pulse in pulses
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def drain(self, deadline_seconds: float) -> bool:
        """Sends until the queue is empty or the deadline has passed; no worker waits for a try beyond it.

        Nothing may be put into the queue meanwhile. Returns whether all was delivered.
        """
        until = time.monotonic() + deadline_seconds
        self._draining.set()
        self._queue.lift_linger()
        self._backlog.lift()
        self._breaker.hurry(within_seconds=deadline_seconds)
        self._export.hurry()
        self._join(until)
        return not any(self._queue.held().values())

    def retire(self) -> SendCounts:
        """Ends the threads once the requests under way are answered, and closes the sender; returns the counts."""
        self._stopping.set()
        self._breaker.stop()
        self._join(math.inf)
        self._sender.close()
        self._export.give_back_all()
        return self._counts

    def close(self) -> None:
        """Ends the threads at once: requests under way are broken, their leases given back."""
        self._stopping.set()
        self._breaker.stop()
        self._sender.close()
        self._join(math.inf)
        self._export.give_back_all()

    def _join(self, until: float) -> None:
        """Joins the threads until a moment; wakes waiting workers repeatedly, as they may begin to wait later."""
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < until:
                self._queue.wake()
                thread.join(min(WAKE_SECONDS, until - time.monotonic()))

    def pulses(self) -> list[Pulse]:
        """One per thread."""
        return [thread.pulse for thread in self._threads]

    def status(self) -> SendStatus:
        """The present state."""
        return SendStatus(self._sender.endpoint, self._breaker.snapshot(), replace(self._counts))

    def _turn(self, beat: Callable[..., None]) -> bool:
        if self._stopping.is_set():
            return False
        self._backlog.observe()
        draining = self._draining.is_set()  # read before the queue is: nothing is put into it after that
        if not self._export.has_work():
            idle = self._export.idle()
            if idle:
                self._backlog.end()
            if (idle and draining) or self._breaker.over:
                return False  # a lease that comes back now is for the worker that had it
            beat(REST_SECONDS)
            self._export.wait_for_work(REST_SECONDS)
            return True
        pause = self._backlog.wait_seconds()
        if pause:
            self._stopping.wait(min(pause, BEAT_SECONDS))
            return True
        permit = self._breaker.ask(within_seconds=BEAT_SECONDS, unsuspected=self._queue.has_work())
        if permit is not None:
            pause = self._export.deliver(permit, beat)
            if pause:
                self._stopping.wait(pause)
        elif self._breaker.held and self._sender.renewed():
            self._breaker.cured()
        return permit is not None or not self._breaker.over
