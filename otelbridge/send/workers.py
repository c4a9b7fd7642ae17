"""The threads that carry batches out of the queue to the endpoint: take a lease, send, settle; until none is left."""

from __future__ import annotations

import math
import random as random_module
import threading
import time
from collections.abc import Callable

from otelbridge.event import Stream
from otelbridge.net.backoff import Random
from otelbridge.queue.linger import LingerLimits
from otelbridge.send.circuit_breaker import CircuitBreaker, DeliveryState, Permit, SendCounts
from otelbridge.send.export import Export, ExportContext, LeasingQueue, give_back_after_fault
from otelbridge.send.request_limits import BacklogLimiter, RequestSize
from otelbridge.send.sender import Sender
from otelbridge.send.settings import SendSettings
from otelbridge.telemetry.events import Tell
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

BEAT_SECONDS = 1.0
"""The longest wait of a courier before it shows its pulse and looks at what was asked of it."""
WAKE_SECONDS = 0.05
"""Between two calls that wake couriers waiting for work, while they shall end."""


def linger_limits(settings: SendSettings) -> LingerLimits:
    """What the queue is told about how long, and for how much, a request waits."""
    logs, alerts = settings.linger_seconds, min(settings.linger_seconds, settings.alert_linger_seconds)
    return LingerLimits(
        seconds={Stream.LOGS: logs, Stream.MESSAGES: logs, Stream.ALERTS: alerts, Stream.GAPS: alerts},
        enough_bytes=settings.max_request_bytes,
        enough_records=settings.max_request_records,
    )


class Workers:
    """`concurrency` threads on one queue and one sender; started, drained and closed once each.

    Args:
        queue: where leases come from.
        sender: what carries them; closed by `close`, to break what is under way.
        settings: limits, ladders, number of couriers.
        tell: hears what happens.
        clock: monotonic seconds.
        wall_clock_nano: the time of day in nanoseconds, to know a record's age.
        random: uniform from 0 to 1, for the ladders.
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
    ) -> None:
        self._queue, self._sender = queue, sender
        self._wall_clock_nano = wall_clock_nano
        self._patience = CircuitBreaker(settings, clock=clock, random=random)
        self._width = RequestSize(settings)
        self._replay = BacklogLimiter(settings.replay_rate_factor, held=lambda: sum(queue.held().values()), clock=clock)
        self._tally = SendCounts()
        self._delivery = Export(
            ExportContext(
                queue=queue,
                sender=sender,
                tell=tell,
                patience=self._patience,
                width=self._width,
                replay=self._replay,
                tally=self._tally,
                clock=clock,
            )
        )
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            SupervisedThread(f"courier-{number}", self._turn, tell=tell, daemon=False)
            for number in range(1, settings.concurrency + 1)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def drain(self, deadline_seconds: float) -> bool:
        """Goes on until the queue is empty or the deadline passed; nobody waits for a try that lies beyond it.

        Nothing may be put into the queue meanwhile. Returns whether all was delivered.
        """
        until = time.monotonic() + deadline_seconds
        self._draining.set()
        self._queue.lift_linger()
        self._replay.lift()
        self._patience.hurry(within_seconds=deadline_seconds)
        self._join(until)
        return not any(self._queue.held().values())

    def close(self) -> None:
        """Ends the threads at once: requests under way are broken, their leases given back."""
        self._stopping.set()
        self._patience.stop()
        self._sender.close()
        self._join(math.inf)

    def _join(self, until: float) -> None:
        """Waits for the threads until a moment; waking is repeated, as one call wakes who waits at that instant."""
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < until:
                self._queue.wake()
                thread.join(min(WAKE_SECONDS, until - time.monotonic()))

    def pulses(self) -> list[Pulse]:
        """One per thread."""
        return [thread.pulse for thread in self._threads]

    def state(self) -> DeliveryState:
        """Where the room stands now."""
        weather = self._patience.weather()
        with self._tally.counting() as tally:
            return DeliveryState(
                endpoint=self._sender.endpoint,
                state=weather.state,
                why=weather.why,
                since_seconds=weather.since_seconds,
                next_try_seconds=weather.next_try_seconds,
                replay_records_per_second=self._replay.records_per_second(),
                in_flight=tally.in_flight,
                requests=tally.requests,
                request_bytes=tally.request_bytes,
                accepted_requests=tally.accepted_requests,
                delivered_records=tally.delivered_records,
                rejected_records=tally.rejected_records,
                retries=tally.retries,
                splits=tally.splits,
                dead_letter_records=tally.dead_letter_records,
                duration_counts=tuple(tally.duration_counts),
                duration_sum_seconds=tally.duration_sum_seconds,
            )

    def _turn(self) -> bool:
        if self._stopping.is_set():
            return False
        self._replay.observe()
        draining = self._draining.is_set()  # read before the queue is: nothing is put into it after that
        if not self._queue.has_work():
            self._replay.end()
            if draining:
                return False  # a lease that comes back now is for the courier that had it
            self._queue.wait_for_work(BEAT_SECONDS)
            return True
        pause = self._replay.wait_seconds()
        if pause:
            self._stopping.wait(min(pause, BEAT_SECONDS))
            return True
        permit = self._patience.ask(within_seconds=BEAT_SECONDS)
        if permit is not None:
            self._carry_one(permit)
        elif self._patience.over:
            return False
        elif self._patience.held and self._sender.renewed():
            self._patience.cured()
        return True

    def _carry_one(self, permit: Permit) -> None:
        """One lease, from the queue to its settlement; nothing when another courier was quicker."""
        lease = None
        try:
            limits = self._width.limits()
            records = self._replay.max_records(limits.max_records)
            lease = self._queue.take(max_bytes=limits.max_bytes, max_records=records)
            if lease is None:
                self._patience.unused(permit)
                return
            age_seconds = (self._wall_clock_nano() - lease.oldest_received_unix_nano) / 1e9
            self._replay.charge(lease.records, age_seconds=age_seconds)
            self._delivery.deliver(lease, permit)
        except Exception as fault:
            self._patience.unused(permit)
            if lease is not None:
                give_back_after_fault(self._queue, lease, fault)
            raise
