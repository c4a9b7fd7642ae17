"""`otelbridge demo`: simulator, bridge and OTLP endpoint on one machine, shown live; ends with the ledger."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from otelbridge.bridge import Bridge
from otelbridge.cli.application import OutputOption
from otelbridge.cli.ledger import of_queue, print_ledger
from otelbridge.cli.output import Exit, Output, fail, print_json, say
from otelbridge.cli.process import stop_on_signals
from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, Stream
from otelbridge.queue.checkpoint import Account
from otelbridge.settings.environment import colours_wanted, environment
from otelbridge.settings.load import Loaded, load
from otelbridge.simulator.endpoint import OtlpEndpoint, attributes
from otelbridge.simulator.events import stamp_time
from otelbridge.simulator.serve import GENERATED, EventSource, PublishPace, SourcedEvent, publish_at_pace
from otelbridge.simulator.upstream import Relay
from otelbridge.status.document import LedgerDocument
from otelbridge.telemetry.events import (
    ConnectionAttempted,
    DeliveryDelayed,
    Event,
    GapEnded,
    StreamLost,
)

GAP_EVENT = "otelbridge.gap"
UID = "log.record.uid"
LONGEST_WAIT_SECONDS = 20.0
"""Longest wait for something that takes a moment on an idle machine."""
POLL_SECONDS = 0.02

# Waits of a minute are right in production, and too long for somebody who watches.
SHORT_WAITS = ("feed.retry.max_seconds=2", "send.retry_initial_seconds=0.5", "send.retry_max_seconds=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one instant."""

    published: int
    """Events that KubeArmor was given."""
    received: int
    held: int
    delivered: int
    arrived: int
    """Records that the endpoint took, those about gaps included."""
    gaps: int
    """Gaps recorded so far."""
    state: str
    """Of the subscription."""
    endpoint_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of the demo."""

    ledger: LedgerDocument
    published: int
    arrived_events: int
    """Distinct events at the endpoint."""
    arrived_gaps: int
    duplicates: int
    spans: int
    metrics: int

    @property
    def passed(self) -> bool:
        """The ledger balances, every event arrived, and the gaps are on record."""
        return self.ledger["balanced"] and self.arrived_events == self.published and self.arrived_gaps > 0


class Stage:
    """Simulator, bridge and endpoint, running between entering and leaving."""

    def __init__(self, directory: Path, *, observer: Callable[[Event], None], per_second: float) -> None:
        self._directory = directory
        self.relay = Relay()
        self.endpoint = OtlpEndpoint()
        self.endpoint_up = True
        self._events = iter(EventSource(GENERATED, streams=UPSTREAM_STREAMS))
        self._per_second = per_second
        self._stop = threading.Event()
        self.relay.start()
        self.bridge = Bridge(_settings(directory, self.relay.endpoint, self.endpoint.grpc_endpoint), observer=observer)
        self._bridge_thread = threading.Thread(target=self.bridge.run, args=(self._stop,), name="demo-bridge")

    def __enter__(self) -> Self:
        self._bridge_thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.drain()
        self.relay.stop()
        self.endpoint.stop()

    def publish(self, seconds: float, until: threading.Event) -> None:
        """Publishes events for so many seconds."""

        def publish(event: SourcedEvent) -> None:
            stamp_time(event.message, time.time_ns())
            self.relay.publish(event.stream, event.message)

        pace = PublishPace(per_second=self._per_second, duration_seconds=seconds)
        publish_at_pace(self._events, publish, pace, until=until)

    def drain(self) -> None:
        """The bridge stops reading, delivers what it holds, and ends."""
        self._stop.set()
        self._bridge_thread.join()

    def figures(self) -> Figures:
        """The figures now."""
        ledger, held = self.bridge.components.queue.balance()
        received = sum(ledger.total(stream, Account.RECEIVED) for stream in UPSTREAM_STREAMS)
        delivered = sum(ledger.total(stream, Account.DELIVERED) for stream in UPSTREAM_STREAMS)
        gaps = ledger.total(Stream.GAPS, Account.RECEIVED)
        subscriptions = self.bridge.components.feed.subscriptions()
        return Figures(
            published=self.relay.published,
            received=received,
            held=sum(held.values()),
            delivered=delivered,
            arrived=self.endpoint.counts().records,
            gaps=gaps,
            state=subscriptions[0].state.value if subscriptions else "stopped",
            endpoint_up=self.endpoint_up,
        )

    def wait(self, what: str, condition: Callable[[], bool], until: threading.Event) -> None:
        """Waits for something that has to happen soon.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + LONGEST_WAIT_SECONDS
        while not condition() and not until.wait(POLL_SECONDS):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {LONGEST_WAIT_SECONDS:.0f} s: {what}")

    def outcome(self) -> Outcome:
        """The result, from the endpoint's records and the queue's file; after `drain`."""
        records = [received.record for received in self.endpoint.log_records()]
        gaps = [record for record in records if record.event_name == GAP_EVENT]
        uids = [attributes(record.attributes)[UID] for record in records if record.event_name != GAP_EVENT]
        counts = self.endpoint.counts()
        return Outcome(
            ledger=of_queue(self._directory),
            published=self.relay.published,
            arrived_events=len(set(uids)),
            arrived_gaps=len(gaps),
            duplicates=len(uids) - len(set(uids)),
            spans=counts.spans,
            metrics=counts.metrics,
        )


def _settings(directory: Path, relay: str, endpoint: str) -> Loaded:
    sets = (
        *SHORT_WAITS,
        f"feed.endpoints={relay}",
        f"send.endpoint={endpoint}",
        f"queue.directory={directory}",
        "status.port=0",
        "telemetry.log_level=error",
        "telemetry.metrics_interval_seconds=5",
    )
    return load(environment={}, flags={"--set": sets})


Announce = Callable[[str], None]


def play(stage: Stage, announce: Announce, until: threading.Event, *, act_seconds: float) -> None:
    """Plays all acts; returns early when `until` is set.

    Raises:
        TimeoutError: something that had to happen did not.
    """
    stage.wait("the bridge subscribes", lambda: stage.figures().state == "watching", until)
    stage.relay.wait_for_subscribers()
    for act in (_flow, _endpoint_away, _relay_killed, _last_events):
        if until.is_set():
            return
        act(stage, announce, until, act_seconds)


def _flow(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    announce("Act 1: events flow from KubeArmor through the bridge to the OTLP endpoint.")
    stage.publish(seconds, until)


def _endpoint_away(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    announce("Act 2: the endpoint goes away. Events go on; the bridge keeps them on disk.")
    stage.endpoint_up = False
    stage.endpoint.stop()
    stage.publish(seconds, until)
    stage.endpoint.start()
    stage.endpoint_up = True
    announce("The endpoint is back, and gets what it has missed.")
    stage.publish(seconds / 2, until)
    stage.wait("the backlog is delivered", lambda: stage.figures().held == 0, until)


def _relay_killed(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    # What is on its way when KubeArmor dies is gone with it; for a count that comes out even nothing is.
    stage.wait("the bridge has read everything", lambda: _all_received(stage), until)
    announce("Act 3: KubeArmor is killed. Nobody can see what happens meanwhile; the bridge keeps trying.")
    gaps = stage.figures().gaps
    stage.relay.kill()
    until.wait(seconds / 2)
    stage.relay.start()
    announce("KubeArmor is back.")
    stage.wait("the bridge subscribes again", lambda: stage.figures().state == "watching", until)
    stage.wait("the gap is on record", lambda: stage.figures().gaps > gaps, until)


def _last_events(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    stage.relay.wait_for_subscribers()
    announce("Act 4: events flow again.")
    stage.publish(seconds, until)
    stage.wait("the bridge has read everything", lambda: _all_received(stage), until)
    announce("The bridge is told to stop: it stops reading, delivers what it holds, and ends.")
    stage.drain()


def _all_received(stage: Stage) -> bool:
    figures = stage.figures()
    return figures.received == figures.published


def sentence(event: Event) -> str:
    """One sentence about an event; empty for most of them."""
    words = ""
    match event:
        case ConnectionAttempted(error="", upstream=upstream):
            words = f"Subscribed to {upstream}."
        case ConnectionAttempted(attempt=attempt, status_code=code):
            words = f"Attempt {attempt} to subscribe failed ({code})."
        case StreamLost(stream=stream, status_code=code):
            words = f"The stream of {stream} was lost ({code})."
        case GapEnded(gap=gap):
            seconds = (gap.ended_unix_nano - gap.started_unix_nano) / NANOSECONDS
            words = f"Gap recorded: no {gap.stream or 'events'} could be seen for {seconds:.1f} s ({gap.cause})."
        case DeliveryDelayed(code=code):
            words = f"The endpoint does not answer ({code}); the bridge tries again and again."
        case _:
            pass
    return words


if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LINES_KEPT = 12
DRAWS_PER_SECOND = 8
LINE_SECONDS = 1.0
"""Between two lines of figures, where nothing can be drawn."""


class PlainScreen:
    """Lines on stderr. `announce` may be called from any thread, also of the other screen."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def announce(self, text: str) -> None:
        """One line."""
        say(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def follow(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        """A line every second."""
        while not over.wait(LINE_SECONDS):
            now = figures()
            self.announce(
                f"       published {now.published}  received {now.received}  on disk {now.held}  "
                f"delivered {now.delivered}  [{now.state}]"
            )


class DrawnScreen:
    """A picture that rich redraws in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def announce(self, text: str) -> None:
        """One line below the picture."""
        self._lines.append(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def follow(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        """Redraws several times a second."""
        from rich.live import Live  # noqa: PLC0415  # only who draws pays for rich

        with Live(console=self._console, auto_refresh=False) as live:
            while not over.wait(1 / DRAWS_PER_SECOND):
                live.update(self._picture(figures()), refresh=True)
            live.update(self._picture(figures()), refresh=True)

    def _picture(self, now: Figures) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        road = Table(expand=True)
        state = "green" if now.state == "watching" else "yellow"
        endpoint = "green" if now.endpoint_up else "red"
        for name, style in (
            ("KubeArmor", state),
            ("bridge: received", ""),
            ("on disk", ""),
            ("OTLP endpoint", endpoint),
        ):
            road.add_column(Text(name, style=style), justify="center")
        road.add_row(
            Text(f"{now.published} events\n{now.state}", style=state),
            f"{now.received}\n{now.gaps} gap records",
            Text(f"{now.held}", style="yellow" if now.held else ""),
            Text(f"{now.arrived} records\n{'up' if now.endpoint_up else 'away'}", style=endpoint),
        )
        return Group(road, *(Text(line, style="bold" if "Act " in line else "dim") for line in self._lines))


DemoScreen = PlainScreen | DrawnScreen


def screen(*, colours: bool) -> DemoScreen:
    """A screen that is redrawn if stderr is a terminal, lines otherwise."""
    from rich.console import Console  # noqa: PLC0415  # only who draws pays for rich

    console = Console(stderr=True, no_color=not colours)
    return DrawnScreen(console) if console.is_terminal else PlainScreen()


EXAMPLES = ("otelbridge demo", "otelbridge demo --rate 1000 --output json")
DEFAULT_ACT_SECONDS = 5.0
"""The whole play takes about five times as long."""


def demo(
    *,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Events a second.")] = 100,
    act_seconds: Annotated[float, typer.Option(min=0.1, help="How long an act takes.")] = DEFAULT_ACT_SECONDS,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run simulator, bridge and endpoint, with faults.

    KubeArmor and the endpoint go away and come back; nothing is lost. Exits with 0 only if the ledger balances and
    every event arrived. Needs no cluster, no network and no settings.
    """
    say("Starting a simulated KubeArmor, the bridge, and an OTLP endpoint ...")

    until = threading.Event()
    stop_on_signals(until, "Stopped.")
    shown = screen(colours=colours_wanted(environment()))

    told: deque[str] = deque([""], maxlen=1)

    def observe(event: Event) -> None:
        words = sentence(event)
        if words and words != told[0]:  # the third identical try is no news
            told.append(words)
            shown.announce(words)

    with tempfile.TemporaryDirectory(prefix="otelbridge-demo-") as folder:
        with Stage(Path(folder), observer=observe, per_second=rate) as stage:
            trouble = _played(stage, shown, until, act_seconds)
        outcome = stage.outcome()
    if output is Output.JSON:
        print_json(asdict(outcome) | {"passed": outcome.passed})
    else:
        _tell(outcome)
    if trouble:
        fail(f"The demo did not get to its end: {trouble}.")
    if not outcome.passed:
        raise typer.Exit(Exit.FAILED)


def _played(stage: Stage, shown: DemoScreen, until: threading.Event, act_seconds: float) -> str:
    """Plays on a thread of its own while this one shows it; returns what went wrong, if anything."""
    over = threading.Event()
    trouble: list[str] = []

    def acts() -> None:
        try:
            play(stage, shown.announce, until, act_seconds=act_seconds)
        except Exception as error:  # noqa: BLE001  # the end of a thread: reported by the one that shows it
            trouble.append(f"{type(error).__name__}: {error}")
        finally:
            over.set()

    thread = threading.Thread(target=acts, name="demo-play")
    thread.start()
    shown.follow(stage.figures, over)
    thread.join()
    return trouble[0] if trouble else "it was interrupted" if until.is_set() else ""


def _tell(outcome: Outcome) -> None:
    print()
    print_ledger(outcome.ledger)
    arrived = f"{outcome.arrived_events} of {outcome.published} events arrived"
    print(f"{arrived}, {outcome.duplicates} of them more than once; {outcome.arrived_gaps} gap records.")
    print(f"The bridge's own telemetry arrived too: {outcome.spans} spans, {outcome.metrics} metrics.")
