"""Attempts a connection to one upstream: resolve, certificates, health, subscribe."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import grpc

from otelbridge.event import Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.channel import open_channel, proxy_of
from otelbridge.feed.connection import Connection
from otelbridge.feed.heartbeat import Heartbeat
from otelbridge.feed.model import ConnectionLostError, IllegalMoveError, Record, failed_step, misconfigured
from otelbridge.feed.monitor import Monitor
from otelbridge.feed.port_watch import port_answers
from otelbridge.feed.preflight import Findings, preflight
from otelbridge.feed.renewal import Renewal
from otelbridge.feed.settings import FeedSettings
from otelbridge.feed.status_codes import TOO_MANY_PINGS, ErrorClass
from otelbridge.feed.stream import StreamWatch
from otelbridge.net.address import Address, Resolve
from otelbridge.net.deadline import DeadlineExceededError, run_with_deadline
from otelbridge.net.files import TlsFileError
from otelbridge.net.tls_faults import CA_REMADE, fault_in
from otelbridge.net.tls_files import TlsFiles
from otelbridge.telemetry.events import ConnectionAttempted, ConnectStep, KeepaliveStretched, Tell
from otelbridge.telemetry.supervisor import Pulse

RESOLVE_SECONDS = 5.0

PREFLIGHT_AFTER = 3
"""So many UNAVAILABLE in a row, and the way is walked by hand: gRPC says the same of a closed port and a bad CA."""
PREFLIGHT_STEP_SECONDS = 2.0
PREFLIGHT_SECONDS = 10.0
RECHECK_SECONDS = 30.0
"""While an operator is awaited, the way is tried this often: a handshake costs them less than a subscriber does."""

KEEPALIVE_LONGEST_SECONDS = 330.0
"""grpc-go's own limit for pings is five minutes; beyond that nobody polices."""


class Connector:
    """Makes connections to one upstream, and remembers between them what the next one has to know."""

    def __init__(
        self,
        address: Address,
        settings: FeedSettings,
        *,
        watches: Mapping[Stream, StreamWatch],
        buffer: Buffer,
        tell: Tell,
        record: Record,
        version: str,
        random: Random,
        resolve: Resolve,
        stopping: threading.Event,
        pulse: Pulse,
    ) -> None:
        self.total = 0
        self.in_a_row = 0
        self.heartbeat = Heartbeat(
            interval_seconds=settings.heartbeat.interval_seconds,
            timeout_seconds=settings.heartbeat.timeout_seconds,
            random=random,
        )
        self.keepalive_seconds = settings.keepalive.time_seconds
        self.certificate_expires_unix_seconds: int | None = None
        self.renewal = Renewal(settings.tls)
        self._address = address
        self._settings = settings
        self._proxy = proxy_of(address, settings)
        self._watches = watches
        self._buffer = buffer
        self._tell = tell
        self._record = record
        self._version = version
        self._resolve = resolve
        self._stopping = stopping
        self._pulse = pulse
        self._found: tuple[str, ...] = (address.host,) if address.is_ip else ()
        """What the name resolved to, at the last attempt."""
        self._unavailable_in_a_row = 0
        self._recheck_at: float | None = None

    def attempt(self) -> Monitor:
        """Connects and subscribes.

        Returns:
            The monitor over a connection that is watched; when asked to stop in between, over one that may not be.

        Raises:
            ConnectionLostError: the attempt failed; everything that it opened is closed.
        """
        self.total += 1
        self.in_a_row += 1
        for watch in self._watches.values():
            watch.gaps.attempt()
        return self._make(self.renewal.read)

    def replace(self) -> Monitor:
        """Makes a connection with changed certificates, beside the present one.

        Raises:
            TlsFileError: they cannot be used.
            ConnectionLostError: nothing can be watched with them.
        """
        certificates = self.renewal.renew(time.monotonic())
        return self._make(lambda: certificates)

    def port_answers(self) -> bool:
        """Whether somebody listens where the upstream was last; asks no DNS. Blocks for a second at most."""
        return bool(self._found) and port_answers(
            self._found[0], self._address.port, speaks_first=not self._settings.tls.enabled
        )

    def cured(self, now: float) -> bool:
        """Whether what only an operator could cure seems to be cured, so that the hold can be cut short."""
        if self.renewal.changed(now, awaited=True):
            return True
        if self._recheck_at is None or now < self._recheck_at:
            return False
        self._recheck_at = now + RECHECK_SECONDS
        findings = self._walk()
        return findings is not None and not findings.failed_step

    # --- one attempt ---

    def _make(self, read: Callable[[], TlsFiles | None]) -> Monitor:
        steps: list[ConnectStep] = []
        started, connection_id = time.time_ns(), uuid.uuid4().hex
        try:
            monitor = self._take_steps(steps, connection_id, read)
        except ConnectionLostError as lost:
            loss = self._consult(lost, steps)
            if self._proxy is not None and str(self._proxy) not in loss.details:
                loss = replace(loss, details=f"{loss.details} (through the proxy {self._proxy})")
        except IllegalMoveError:
            raise
        # No thread to be had, no file descriptor, no memory left: an attempt that failed, and is told as one.
        except (OSError, RuntimeError, MemoryError) as error:
            loss = failed_step("attempt", grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
        else:
            self._unavailable_in_a_row, self._recheck_at = 0, None
            self.renewal.worked()
            self._report(steps, started, connection_id, None)
            return monitor
        self._report(steps, started, connection_id, loss)
        raise loss

    def _take_steps(self, steps: list[ConnectStep], connection_id: str, read: Callable[[], TlsFiles | None]) -> Monitor:
        address, settings = self._address, self._settings
        if not address.is_ip and self._proxy is None:
            with _step(steps, "resolve"):
                self._resolve_name()
        certificates = None
        if settings.tls.enabled:
            with _step(steps, "tls"):
                certificates = self._certificates(read)
        channel = open_channel(
            address,
            settings,
            version=self._version,
            keepalive_seconds=self.keepalive_seconds,
            certificates=certificates,
        )
        connection = Connection(
            channel,
            str(address),
            self._watches,
            self._buffer,
            self.heartbeat,
            connection_id=connection_id,
            read_pause_seconds=settings.read_pause_seconds,
            tell=self._tell,
        )
        monitor = Monitor(
            connection,
            settings=settings,
            upstream=str(address),
            stopping=self._stopping,
            pulse=self._pulse,
            tell=self._tell,
            record=self._record,
        )
        try:
            # Asked before subscribing too: an upstream that is not well is spared subscribers that come and go.
            with _step(steps, "health"):
                monitor.await_health("health")
            with _step(steps, "subscribe"):
                monitor.open_streams()
                monitor.await_health("subscribe")
        except BaseException:
            connection.close()
            raise
        return monitor

    def _resolve_name(self) -> None:
        # gRPC looks the name up again when it dials; this look-up is for a clear word when there is no such name.
        host, port = self._address.host, self._address.port
        try:
            self._found = run_with_deadline(
                lambda: self._resolve(host, port),
                name=f"resolve {host}",
                timeout_seconds=RESOLVE_SECONDS,
                stopping=self._stopping,
            )
        except OSError as error:
            why = f"the name {host} does not resolve: {error.strerror or error}"
            raise failed_step("resolve", grpc.StatusCode.UNAVAILABLE, why) from error

    def _certificates(self, read: Callable[[], TlsFiles | None]) -> TlsFiles | None:
        try:
            certificates = read()
        except TlsFileError as error:
            raise misconfigured("tls", str(error)) from error
        self.certificate_expires_unix_seconds = certificates.expires_unix_seconds if certificates else None
        return certificates

    def _report(
        self, steps: list[ConnectStep], started: int, connection_id: str, loss: ConnectionLostError | None
    ) -> None:
        self._tell(
            ConnectionAttempted(
                upstream=str(self._address),
                connection_id=connection_id,
                attempt=self.in_a_row,
                started_unix_nano=started,
                ended_unix_nano=time.time_ns(),
                steps=tuple(steps),
                status_code=loss.code.name if loss else "OK",
                error=str(loss) if loss else "",
                error_class=loss.error_class if loss else "",
            )
        )

    # --- what follows from a failure ---

    def heed(self, details: str) -> None:
        """Takes a connection's end to heart: a server that polices pings is pinged half as often from now on."""
        if TOO_MANY_PINGS in details and self.keepalive_seconds < KEEPALIVE_LONGEST_SECONDS:
            self.keepalive_seconds = min(2 * self.keepalive_seconds, KEEPALIVE_LONGEST_SECONDS)
            self._tell(KeepaliveStretched(upstream=str(self._address), seconds=self.keepalive_seconds))

    def _consult(self, loss: ConnectionLostError, steps: list[ConnectStep]) -> ConnectionLostError:
        """The loss, or a better one: after a few UNAVAILABLE the way is walked by hand to name the step that fails."""
        if fault_in(loss.details) is CA_REMADE and self.renewal.try_next_ca():
            return replace(loss, error_class=ErrorClass.TRANSIENT)  # the bundle has another CA of that name
        self._recheck_at = time.monotonic() + RECHECK_SECONDS if loss.error_class is ErrorClass.CONFIGURATION else None
        if loss.code is not grpc.StatusCode.UNAVAILABLE or loss.step == "resolve":
            self._unavailable_in_a_row = 0
            return loss
        self._unavailable_in_a_row += 1
        if self._unavailable_in_a_row < PREFLIGHT_AFTER or loss.error_class is ErrorClass.CONFIGURATION:
            return loss
        findings = self._walk()
        if findings is None or not findings.failed_step:
            return loss
        steps += findings.steps
        if not findings.configuration:
            return replace(loss, step=findings.failed_step, details=f"{findings.advice} ({loss.details})")
        self._recheck_at = time.monotonic() + RECHECK_SECONDS
        return replace(loss, step=findings.failed_step, details=findings.advice, error_class=ErrorClass.CONFIGURATION)

    def _walk(self) -> Findings | None:
        try:
            return run_with_deadline(
                lambda: preflight(
                    self._address,
                    self._settings.tls,
                    timeout_seconds=PREFLIGHT_STEP_SECONDS,
                    resolve=self._resolve,
                    proxy=self._proxy,
                ),
                name=f"preflight {self._address}",
                timeout_seconds=PREFLIGHT_SECONDS,
                stopping=self._stopping,
            )
        except DeadlineExceededError:
            return None


@contextmanager
def _step(steps: list[ConnectStep], name: str) -> Iterator[None]:
    started, error = time.time_ns(), ""
    try:
        yield
    except ConnectionLostError as loss:
        error = loss.details
        raise
    finally:
        steps.append(ConnectStep(name=name, started_unix_nano=started, ended_unix_nano=time.time_ns(), error=error))
