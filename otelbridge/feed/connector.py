"""Attempts a connection to one upstream (resolve, certificates, health, subscribe), also to renew certificates."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import grpc

from otelbridge.event import ConnectStep, Stream
from otelbridge.feed.buffer import Buffer
from otelbridge.feed.channel import open_channel, proxy_of, route_to
from otelbridge.feed.connection import Connection, Heartbeat
from otelbridge.feed.model import ConnectionLostError, Record, failed_step, misconfigured
from otelbridge.feed.monitor import Monitor
from otelbridge.feed.port_watch import port_answers
from otelbridge.feed.settings import FeedSettings, FeedTlsSettings
from otelbridge.feed.status_codes import TOO_MANY_PINGS, ErrorClass
from otelbridge.feed.stream import StreamWatch
from otelbridge.net.address import Address, Resolve
from otelbridge.net.deadline import DeadlineExceededError, run_with_deadline
from otelbridge.net.files import TlsFileError
from otelbridge.net.preflight import PreflightResult, preflight
from otelbridge.net.tls_faults import CA_REMADE, NOT_TLS, fault_in
from otelbridge.net.tls_files import TlsFiles, read_digest, read_usable
from otelbridge.telemetry.events import ConnectionAttempted, KeepaliveStretched, Tell
from otelbridge.telemetry.supervisor import Pulse

CHECK_SECONDS = 5.0
"""The content is compared this often: three small files."""

AWAITED_CHECK_SECONDS = 1.0
"""So often while nothing is watched until an operator has changed something, most often one of these files."""

SETTLE_SECONDS = 1.0
"""Changed files must stay as they are for so long: the three are not replaced in one instant."""

RENEW_PAUSE_SECONDS = 60.0
"""Renewals are at least so far apart: relays have crashed when subscribers came and went under load."""


class Renewal:
    """Watches the files. Does nothing while TLS is off, or no file is configured. Times are monotonic."""

    def __init__(self, settings: FeedTlsSettings) -> None:
        self._settings = settings
        self._watched = settings.enabled and any((settings.ca_file, settings.cert_file, settings.key_file))
        self._bundle: bytes | None = None
        self._orders: list[bytes] = []
        self._order = self._orders_left = 0
        self._used = ""
        """Digest of what the present connection was made with, or of what was last refused."""
        self._seen = ""
        self._seen_at = 0.0
        self._checked_at = 0.0
        self._check_at = 0.0
        self._renew_at = 0.0

    def read(self) -> TlsFiles | None:
        """The certificates for a new connection, read again; None while TLS is off.

        Raises:
            TlsFileError: they cannot be used as they are.
        """
        if not self._settings.enabled:
            return None
        self._used = read_digest(self._settings)
        files = read_usable(self._settings, "feed.tls")
        self._used = files.digest
        orders = self._orders_of(files)
        return replace(files, ca=orders[self._order % len(orders)]) if orders else files

    def try_next_ca(self) -> bool:
        """Puts another CA of the server's CA's name first, where the bundle has several; False once all were tried."""
        self._order += 1
        self._orders_left -= 1
        return self._orders_left > 0

    def worked(self) -> None:
        """The order of the CAs that was used last is the one to begin with next time."""
        self._orders_left = len(self._orders)

    def _orders_of(self, files: TlsFiles) -> list[bytes]:
        """The bundle's orders, worked out when it changes."""
        if files.ca != self._bundle:
            from otelbridge.net.pem import ca_orders  # noqa: PLC0415 - with cryptography: only who uses TLS pays for it

            self._bundle, self._order = files.ca, 0
            self._orders = list(ca_orders(files.ca)) if files.ca else []
            self._orders_left = len(self._orders)
        return self._orders

    def allowed(self, now: float) -> bool:
        """Whether the last renewal was long enough ago."""
        return now >= self._renew_at

    def due(self, now: float) -> bool:
        """Whether a connection that is watched should be renewed."""
        return self.allowed(now) and self.changed(now)

    def changed(self, now: float, *, awaited: bool = False) -> bool:
        """Whether the files have settled and differ from those last used or refused; looks more often if `awaited`."""
        check_at = self._checked_at + AWAITED_CHECK_SECONDS if awaited else self._check_at
        if not self._watched or now < check_at:
            return False
        self._checked_at, self._check_at = now, now + CHECK_SECONDS
        digest = read_digest(self._settings)
        if not digest or digest == self._used:
            return False
        if digest != self._seen:
            self._seen, self._seen_at, self._check_at = digest, now, now + SETTLE_SECONDS
            return False
        return now - self._seen_at >= SETTLE_SECONDS

    def renew(self, now: float) -> TlsFiles | None:
        """The changed certificates, for a connection beside the present one.

        Raises:
            TlsFileError: they cannot be used; raised once per content, the present connection goes on.
        """
        self._renew_at = now + RENEW_PAUSE_SECONDS
        try:
            return self.read()
        except TlsFileError:
            # A half-written pair is completed within moments: that must not wait for the pause.
            self._renew_at = now
            raise


LONGEST_PATIENCE_SECONDS = 60.0
LONGEST_RESOLVE_SECONDS = 30.0
"""A resolver has given up by then, by default, and begins anew when it is asked again."""
PATIENCE_GROWTH = 3.0


class Patience:
    """How long an attempt waits for each answer: longer after each silence, and for twice what the last one took."""

    def __init__(self, least_seconds: float) -> None:
        self._least = self.seconds = least_seconds

    def ran_out(self) -> None:
        """Somebody was there, and silent."""
        self.seconds = min(self.seconds * PATIENCE_GROWTH, max(self._least, LONGEST_PATIENCE_SECONDS))

    def was_enough(self, needed_seconds: float) -> None:
        """The first answer took so long."""
        self.seconds = min(max(self._least, 2 * needed_seconds), max(self._least, LONGEST_PATIENCE_SECONDS))


PREFLIGHT_AFTER = 3
"""So many UNAVAILABLE in a row, and the way is walked by hand: gRPC says the same of a closed port and a bad CA."""
PREFLIGHT_STEP_SECONDS = 2.0
PREFLIGHT_SECONDS = 10.0
RECHECK_SECONDS = 30.0
"""While an operator is awaited, the way is tried this often: a handshake costs them less than a subscriber does."""

LOOKED_AT = 2
"""Addresses of a name at which a look is made: `localhost` and dual-stack names have one of each family."""

KEEPALIVE_LONGEST_SECONDS = 330.0
"""grpc-go's own limit for pings is five minutes; beyond that nobody polices."""


class Connector:
    """Makes connections to one upstream; keepalive rate, health check method and CA order last from one to the next."""

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
        self._patience = Patience(settings.heartbeat.timeout_seconds)
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
        """Whether somebody listens where the upstream was last; asks no DNS. Blocks for two seconds at most."""
        speaks_first = not self._settings.tls.enabled
        return any(port_answers(ip, self._address.port, speaks_first=speaks_first) for ip in self._found[:LOOKED_AT])

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
        patience_seconds = self._patience.seconds
        channel = open_channel(
            address,
            settings,
            version=self._version,
            keepalive_seconds=self._keepalive_beside(patience_seconds),
            connect_seconds=patience_seconds,
            certificates=certificates,
            window_bytes=self._buffer.budget.window_bytes,
        )
        connection = Connection(
            channel,
            str(address),
            self._watches,
            self._buffer,
            self.heartbeat,
            connection_id=connection_id,
            peer=address if self._proxy is None else Address(host=self._proxy.host, port=self._proxy.port),
            read_pause_seconds=settings.read_pause_seconds,
            tls=settings.tls.enabled,
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
                monitor.await_health("health", patience_seconds)
            self._patience.was_enough(time.monotonic() - connection.started)
            with _step(steps, "subscribe"):
                monitor.open_streams()
                monitor.await_health("subscribe", patience_seconds)
        except BaseException as error:
            silent = isinstance(error, ConnectionLostError) and error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            if silent and connection.is_connected:
                self._patience.ran_out()
            connection.close()
            raise
        return monitor

    def _keepalive_beside(self, patience_seconds: float) -> float:
        """Seconds of silence until a ping; on a connection that is waited for longer it must not end the wait."""
        ended_after = self.keepalive_seconds + self._settings.keepalive.timeout_seconds
        return self.keepalive_seconds if patience_seconds < ended_after else patience_seconds

    def _resolve_name(self) -> None:
        # gRPC looks the name up again when it dials; this look-up is for a clear word when there is no such name.
        host, port = self._address.host, self._address.port
        try:
            self._found = run_with_deadline(
                lambda: self._resolve(host, port),
                name=f"resolve {host}",
                timeout_seconds=min(self._patience.seconds, LONGEST_RESOLVE_SECONDS),
                stopping=self._stopping,
            )
        except DeadlineExceededError as error:
            self._patience.ran_out()
            raise failed_step("resolve", grpc.StatusCode.UNAVAILABLE, str(error)) from error
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
        """Halves the rate of keepalive pings if the connection was ended for too many of them."""
        if TOO_MANY_PINGS in details and self.keepalive_seconds < KEEPALIVE_LONGEST_SECONDS:
            self.keepalive_seconds = min(2 * self.keepalive_seconds, KEEPALIVE_LONGEST_SECONDS)
            self._tell(KeepaliveStretched(upstream=str(self._address), seconds=self.keepalive_seconds))

    def _consult(self, loss: ConnectionLostError, steps: list[ConnectStep]) -> ConnectionLostError:
        """The loss, explained: after a few UNAVAILABLE a preflight finds the step that fails, and its cure."""
        if fault_in(loss.details) is CA_REMADE and self.renewal.try_next_ca():
            return replace(loss, error_class=ErrorClass.TRANSIENT)  # the bundle has another CA of that name
        self._recheck_at = time.monotonic() + RECHECK_SECONDS if loss.error_class is ErrorClass.CONFIGURATION else None
        if loss.code is not grpc.StatusCode.UNAVAILABLE or loss.step == "resolve":
            self._unavailable_in_a_row = 0
            return loss
        self._unavailable_in_a_row += 1
        known = loss.error_class is ErrorClass.CONFIGURATION and fault_in(loss.details) is not NOT_TLS
        if known or (self._unavailable_in_a_row < PREFLIGHT_AFTER and loss.error_class is not ErrorClass.CONFIGURATION):
            return loss
        findings = self._walk()
        if findings is None or not findings.failed_step:
            return loss
        steps += findings.steps
        if not findings.configuration:
            return replace(loss, step=findings.failed_step, details=f"{findings.advice} ({loss.details})")
        self._recheck_at = time.monotonic() + RECHECK_SECONDS
        return replace(loss, step=findings.failed_step, details=findings.advice, error_class=ErrorClass.CONFIGURATION)

    def _walk(self) -> PreflightResult | None:
        try:
            return run_with_deadline(
                lambda: preflight(
                    route_to(self._address, self._settings),
                    timeout_seconds=PREFLIGHT_STEP_SECONDS,
                    resolve=self._resolve,
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
