"""Telemetry takes events by `tell` and makes log lines, metrics, spans and a history of them.

`tell` only puts the event into a mailbox: it takes no lock and waits for nothing, so a reader of events and a
signal handler may call it. One thread turns events into everything else, in the order in which they were told.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TextIO, TypeVar

from otelbridge.event import Gap
from otelbridge.net.proxy import ProxySettings
from otelbridge.telemetry.events import BatchAccepted, Event, EventsEncoded, GapEnded
from otelbridge.telemetry.exporters import NO_PROXIES, Exporters, Headers, Providers, open_exporters
from otelbridge.telemetry.exposition import PullReader
from otelbridge.telemetry.log import FORMATS, Level, Libraries, Limit, Line, LineWriter, level_of, line_of, timestamp
from otelbridge.telemetry.metrics import OWN, Instrument, Instruments, Reading, of_process
from otelbridge.telemetry.names import SCOPE
from otelbridge.telemetry.settings import TelemetrySettings
from otelbridge.telemetry.spans import Spans
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue of events: any thread puts, one takes."""

    def __init__(self, max_items: int) -> None:
        self.max_items = max_items
        self._items: deque[T] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put may be interrupted by another put
        self._resting = False
        """Whether any item ends the wait."""

    def put(self, item: T, *, urgent: bool) -> bool:
        """Adds an item; False when the box is full."""
        if len(self._items) >= self.max_items:
            return False
        self.put_always(item, urgent=urgent)
        return True

    def put_always(self, item: T, *, urgent: bool = True) -> None:
        """Adds an item even to a full box."""
        self._items.append(item)
        if urgent or self._resting:
            self._wake.put(None)

    def take(self, timeout_seconds: float, *, resting: bool = False) -> Iterator[T]:
        """What is there, in the order in which it came, as soon as an item is urgent or time is up.

        While `resting`, any item ends the wait.
        """
        self._resting = resting  # before the items are looked at: who puts one looks at this afterwards
        try:
            self._wake.get(timeout=0.0 if resting and self._items else timeout_seconds)
            while True:
                self._wake.get_nowait()  # the items behind all of these are taken below
        except queue.Empty:
            pass
        self._resting = False
        for _ in range(len(self._items)):  # not until it is empty: who takes has something to do in between
            yield self._items.popleft()


HISTORY_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line as it was shown."""

    unix_nano: int
    line: Line
    more: int = 0
    """How many of the same reason it stands for, beside itself."""


class History:
    """The latest log lines and gaps. Filled by the telemetry thread, read by the status server's."""

    def __init__(self, length: int = HISTORY_LENGTH) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=length)
        self._gaps: deque[Gap] = deque(maxlen=length)

    def add(self, entry: Entry) -> None:
        """Remembers a line."""
        with self._lock:
            self._entries.append(entry)

    def note(self, event: Event) -> None:
        """Remembers a gap, if that is what happened."""
        if isinstance(event, GapEnded):
            with self._lock:
                self._gaps.append(event.gap)

    def entries(self) -> list[Entry]:
        """The latest lines, oldest first."""
        with self._lock:
            return list(self._entries)

    def gaps(self) -> list[Gap]:
        """The latest gaps, oldest first."""
        with self._lock:
            return list(self._gaps)


MAX_WAITING_EVENTS = 20_000
"""Events that wait to be handled; beyond it they are dropped, and counted."""
TICK_SECONDS = 1.0
REST_SECONDS = 5.0
"""How often frequent events, and the lines that were held back, are looked at."""
FREQUENT = frozenset({BatchAccepted, EventsEncoded})
"""Happen many times a second, and change nothing: waking the thread for each cost more than a tenth of the bridge."""
LATEST = "latest"
"""The field of a line that was held back: when the last of those that it stands for happened."""
LEVELS = {"debug": Level.DEBUG, "info": Level.INFO, "warning": Level.WARNING, "error": Level.ERROR}
DISABLED = b"# Metrics are off: telemetry.disabled or OTEL_SDK_DISABLED is set.\n"

_Item = tuple[int, Event] | threading.Event | None
"""What waits: an event with its time, a flush that waits for its turn, or the end."""


class Telemetry:
    """What the bridge says about itself; its thread runs from construction to `close`.

    Headers of the events' endpoint are lent to `traces` and `metrics` where those go there too.

    Raises:
        ValueError: a certificate or key cannot be read; names the setting and the file.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        version: str,
        instance_id: str,
        stderr: TextIO,
        lent: Mapping[str, Headers] | None = None,
        proxies: ProxySettings = NO_PROXIES,
    ) -> None:
        self._pull = PullReader()
        self._stderr = stderr
        self._exporters = self.open_exporters(settings, lent or {}, proxies)
        self._providers = Providers(
            self._exporters,
            identity={"service.version": version, "service.instance.id": instance_id},
            pull=self._pull,
            tell=self.tell,
        )
        self.history = History()
        self._instruments = Instruments(self._providers.meters.get_meter(SCOPE, version))
        self._spans = Spans(self._providers.tracers.get_tracer(SCOPE, version))
        self._apply(settings)
        self._limit: Limit[tuple[int, Line]] = Limit()
        self._writer = LineWriter(stderr, self.tell)
        self._waiting: Mailbox[_Item] = Mailbox(MAX_WAITING_EVENTS)
        self._dropped = 0
        self._closed = self._ending = False
        self._next_tick = 0.0
        self._resting = False
        """Nothing happens, and nothing is held back."""
        own = {**of_process(), "otelbridge.telemetry.dropped": lambda: [(self._dropped + self._writer.dropped, {})]}
        for instrument in OWN:
            self.observe(instrument, own[instrument.name])
        self._libraries = Libraries(self.tell, secrets=self._secrets)
        self._thread = SupervisedThread("otelbridge-telemetry", self._turn, tell=self.tell)
        self._thread.start()

    def _apply(self, settings: TelemetrySettings) -> None:
        self._disabled = settings.disabled
        self._level = LEVELS[settings.log_level]
        self._format = FORMATS[settings.log_format]
        self._frequent = FREQUENT if self._level > Level.DEBUG else frozenset()  # who reads along wants them at once

    def _secrets(self) -> list[str]:
        return self._exporters.secrets()

    def open_exporters(
        self, settings: TelemetrySettings, lent: Mapping[str, Headers], proxies: ProxySettings
    ) -> Exporters:
        """The exporters for `change`; nothing uses them yet.

        Raises:
            ValueError: a certificate or key cannot be read; names the setting and the file.
        """
        return open_exporters(settings, console=self._stderr, lent=lent, proxies=proxies)

    def change(self, settings: TelemetrySettings, exporters: Exporters | None) -> None:
        """Goes by other settings from now on; the resource stays as it is, and without `exporters` the present ones."""
        self._apply(settings)
        if exporters is not None:
            self._exporters = exporters
            self._providers.use(exporters)

    def tell(self, event: Event) -> None:
        """Takes an event. Never raises, never blocks, any thread, also from a signal handler."""
        urgent = type(event) not in self._frequent
        if not self._waiting.put((time.time_ns(), event), urgent=urgent):
            self._dropped += 1

    def observe(self, instrument: Instrument, reading: Reading) -> None:
        """Binds an observable instrument to a reading: value and attributes of each series, asked from any thread.

        Raises:
            ValueError: the instrument is not observable, or bound already.
        """
        self._instruments.observe(instrument, reading)

    def prometheus(self) -> bytes:
        """The text of /metrics, Prometheus' format 0.0.4."""
        return DISABLED if self._disabled else self._pull.text()

    def settle(self, timeout_seconds: float) -> bool:
        """Waits until everything told so far is in the metrics, spans, history and lines."""
        handled = threading.Event()
        self._waiting.put_always(handled)
        return handled.wait(timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        """Exports what was told so far; False when that was not done in time."""
        deadline = time.monotonic() + timeout_seconds
        return self.settle(timeout_seconds) and self._providers.flush(max(0.0, deadline - time.monotonic()))

    def close(self, timeout_seconds: float) -> None:
        """Writes the lines held back, exports what waits, ends the threads; returns at the latest after so long."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout_seconds
        self._waiting.put_always(None)
        self._thread.join(timeout_seconds)
        if self._providers.close(max(0.0, deadline - time.monotonic())):
            self._libraries.close()  # else a thread of the SDK was left behind, and nobody wants to hear it complain
        self._writer.close(max(0.0, deadline - time.monotonic()))

    def pulses(self) -> list[Pulse]:
        """The signs of life of its threads."""
        return [self._thread.pulse, self._writer.pulse, self._providers.pulse]

    def _turn(self) -> bool:
        wait = REST_SECONDS if self._resting else min(max(0.0, self._next_tick - time.monotonic()), TICK_SECONDS)
        self._thread.pulse.beat(wait)
        handled = 0
        for handled, item in enumerate(self._waiting.take(wait, resting=self._resting), 1):  # noqa: B007
            match item:
                case None:
                    self._ending = True
                case threading.Event():
                    self._instruments.flush()
                    item.set()
                case unix_nano, event:
                    self._guarded(self._handle, unix_nano, event)
        self._instruments.flush()
        if self._ending or time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_SECONDS
            self._write_held_back(everything=self._ending)
        self._resting = not handled and not self._limit.has_windows
        return not self._ending

    def _guarded(self, handle: Callable[[int, Event], None], unix_nano: int, event: Event) -> None:
        """The boundary of the thread: an event that cannot be handled is said, and the next one has its turn."""
        try:
            handle(unix_nano, event)
        except BaseException as error:  # noqa: BLE001 - see above
            self._dropped += 1
            self._writer.write(f"{type(event).__name__} could not be told: {error!r}")

    def _handle(self, unix_nano: int, event: Event) -> None:
        self._instruments.count(event)
        self._spans.apply(event, unix_nano)
        self.history.note(event)
        if level_of(event) < self._level:
            return
        line = line_of(event)
        if self._limit.admit(line.reason, (unix_nano, line), now_seconds=time.monotonic(), per_window=line.per_window):
            if line.changes_state:
                self._write_held_back(everything=True, shown_unix_nano=unix_nano)
            self._write(unix_nano, line, 0)

    def _write_held_back(self, *, everything: bool = False, shown_unix_nano: int | None = None) -> None:
        """Says the latest of each reason, in the order in which they happened, under the time at which it is said.

        With its own time a line would stand behind younger ones, and a log store would show it among them.
        """
        now = time.time_ns() if shown_unix_nano is None else shown_unix_nano
        due = self._limit.due(now_seconds=time.monotonic(), all_windows=everything)
        for (unix_nano, line), held in sorted(due, key=lambda one: one[0][0]):
            fields = {**line.fields, LATEST: timestamp(unix_nano)}
            self._write(now, replace(line, fields=fields), held - 1)

    def _write(self, unix_nano: int, line: Line, more: int) -> None:
        self.history.add(Entry(unix_nano=unix_nano, line=line, more=more))
        self._writer.write(self._format(line, unix_nano, more))
