"""Opens the components, starts them from the endpoint backwards, and drains them in the order of an event's walk."""

from __future__ import annotations

import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from otelbridge import __version__
from otelbridge.event import Signal, Stream
from otelbridge.feed.buffer import Buffer, ByteBudget
from otelbridge.feed.feed import Feed
from otelbridge.feed.read_pause import pause_beside
from otelbridge.feed.settings import FeedSettings
from otelbridge.gate.rules import Gate
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.model import MappingCounts
from otelbridge.mapping.process_spans import ProcessSpans
from otelbridge.mapping.recent_events import RecentEvents
from otelbridge.net.address import parse_address
from otelbridge.pipeline import GapSink, Pipeline
from otelbridge.queue.disk import stable_instance_id
from otelbridge.queue.queue import DurableQueue, QueueOfSignal
from otelbridge.send.credentials import lent_headers
from otelbridge.send.sender import Sender, open_sender, open_traces_sender
from otelbridge.send.settings import SendSettings, SendSettingsError, for_traces
from otelbridge.send.workers import Workers, linger_limits
from otelbridge.settings.load import Loaded, changes, merged
from otelbridge.settings.show import shown
from otelbridge.settings.tree import Settings
from otelbridge.status.answers import ProbeResult, QueueGrowth, livez, readyz, startupz
from otelbridge.status.components import Components, bind_metrics, heard_of
from otelbridge.status.document import Life, events_after, sections
from otelbridge.status.server import StatusServer
from otelbridge.telemetry.coverage import NOTE as COVERAGE_NOTE
from otelbridge.telemetry.coverage import Coverage
from otelbridge.telemetry.escape import Json
from otelbridge.telemetry.events import (
    BridgeStarted,
    BridgeStopped,
    DrainStarted,
    Event,
    LedgerUnbalanced,
    SettingsRefused,
    SettingsReloaded,
    Tell,
)
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread
from otelbridge.telemetry.telemetry import Telemetry

if TYPE_CHECKING:
    from otelbridge.feed.roads import Roads

COVERAGE_NOTE_SECONDS = 60.0
"""How often what coverage has learnt is written down: a kill forgets so much of it."""
ROUND_SECONDS = 1.0
"""How often the queue is told what is being watched: the gap of a restart is exact to this."""
LONGEST_ROUND_SECONDS = 60.0
"""After a longer one the process was stopped meanwhile: it has watched nothing."""


class Housekeeper:
    """A thread that, once a second, notes what is watched, looks for silent nodes, and checks the ledger."""

    def __init__(self, components: Components, tell: Tell) -> None:
        self._components = components
        self._tell = tell
        self._stop = threading.Event()
        self._coverage_noted = self._coverage_observed = time.monotonic()
        self._thread = SupervisedThread("housekeeper", self._turn, tell=tell)
        self.pulse = self._thread.pulse

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after a last note of what is being watched; harmless when it has ended, or never started."""
        if self._stop.is_set() or not self._thread.started:
            return
        self._stop.set()
        self._thread.join()
        self._note_what_is_watched()
        if self._components.coverage is not None:
            self._note_coverage(self._components.coverage)

    def _turn(self) -> bool:
        if self._stop.wait(ROUND_SECONDS):
            return False
        self._note_what_is_watched()
        self._look_at_nodes()
        if self._components.coverage is not None:
            self._observe_coverage(self._components.coverage)
        self._check_the_balance()
        self._components.queue_growth.note(self._components.queue.held_bytes, time.monotonic())
        return True

    def _note_what_is_watched(self) -> None:
        if watched := self._components.feed.watched_until():
            self._components.queue.checkpoint_watching(watched)

    def _look_at_nodes(self) -> None:
        for upstream, nodes in self._components.pipeline.take_heard():
            self._components.feed.heard(upstream, nodes)
        self._components.feed.look_at_nodes()

    def _observe_coverage(self, coverage: Coverage) -> None:
        subscriptions = self._components.feed.subscriptions()
        blind = any(one.blind_since_unix_nano is not None and not one.covered_by for one in subscriptions)
        before, self._coverage_observed = self._coverage_observed, time.monotonic()
        passed = self._coverage_observed - before
        blind = blind or passed > LONGEST_ROUND_SECONDS
        coverage.observe(time.time(), heard_of(self._components), blind=blind, passed=passed)
        if time.monotonic() - self._coverage_noted >= COVERAGE_NOTE_SECONDS:
            self._note_coverage(coverage)

    def _note_coverage(self, coverage: Coverage) -> None:
        self._coverage_noted = time.monotonic()
        self._components.queue.put([], notes={COVERAGE_NOTE: coverage.note()})

    def _check_the_balance(self) -> None:
        ledger, held = self._components.queue.balance()
        residue = {stream.value: records for stream, records in ledger.residue(held).items() if records}
        if residue:
            self._tell(LedgerUnbalanced(residue=residue))


def open_components(settings: Settings, *, telemetry: Telemetry, tell: Tell) -> Components:
    """Opens every component from the endpoint backwards; nothing runs yet, nobody is dialled.

    Raises:
        ValueError: settings that only opening a component can check (a certificate, a URL).
        QueueInUse: another bridge has the queue.
        QueueUnusable: the queue's folder cannot be written.
    """
    sender = open_sender(settings.send, version=__version__)
    by_policy = settings.telemetry.alert_policies or settings.telemetry.coverage
    tally = MappingCounts(alerts_by_policy=by_policy, keeps_last=settings.feed.roads)
    mapper = _mapper(settings, tally)
    spans_sender = open_traces_sender(settings.send, version=__version__) if settings.mapping.process_traces else None
    budget = ByteBudget(settings.bridge.under_way_max_bytes, lambda: queue.bytes_in_memory)
    buffer = Buffer(settings.feed.buffer_max_events, budget)
    recent_events = RecentEvents(settings.status.show_events) if settings.status.show_events else None
    gaps = GapSink(tell, buffer.wake)
    pause = pause_beside(settings.send.linger_seconds, settings.feed.read_pause_seconds)
    feed = Feed(
        replace(settings.feed, read_pause_seconds=pause),
        buffer=buffer,
        tell=tell,
        record_gap=gaps.record,
        version=__version__,
        max_nodes=settings.telemetry.max_nodes,
    )
    roads = _roads(settings.feed, feed) if settings.feed.roads else None
    # The last that can fail: nothing has to be undone after it.
    queue = DurableQueue.open(settings.queue, tell=tell, record_gap=gaps.record, linger=linger_limits(settings.send))
    if spans_sender is None and queue.held()[Stream.SPANS]:  # of an earlier life; without an endpoint they expire
        with suppress(SendSettingsError):
            spans_sender = open_traces_sender(settings.send, version=__version__)
    return Components(
        feed=feed,
        buffer=buffer,
        mapper=mapper,
        pipeline=Pipeline(
            buffer=buffer,
            gate=Gate(settings.gate),
            mapper=mapper,
            queue=queue,
            gaps=gaps,
            tell=tell,
            latest=recent_events,
            roads=roads,
        ),
        roads=roads,
        recent_events=recent_events,
        queue=queue,
        queue_max_bytes=settings.queue.max_bytes,
        queue_growth=QueueGrowth(),
        workers=Workers(QueueOfSignal(queue, Signal.LOGS), sender, settings.send, tell),
        trace_workers=trace_workers(queue, spans_sender, settings.send, tell) if spans_sender else None,
        sender=sender,
        telemetry=telemetry,
        alert_policies=settings.telemetry.alert_policies,
        coverage=_coverage(queue) if settings.telemetry.coverage else None,
    )


def _roads(settings: FeedSettings, feed: Feed) -> Roads:
    from otelbridge.feed.roads import Roads  # noqa: PLC0415 - most bridges have one road

    upstreams = dict.fromkeys(str(parse_address(endpoint)) for endpoint in settings.endpoints)
    return Roads(tuple(upstreams), settings.roads_window_seconds, blind=feed.blind, now=time.monotonic())


def _coverage(queue: DurableQueue) -> Coverage:
    return Coverage(queue.notes(COVERAGE_NOTE).get(COVERAGE_NOTE, ""), now=time.time())


def _mapper(settings: Settings, tally: MappingCounts, processes: ProcessSpans | None = None) -> Mapper:
    return Mapper(settings.mapping, version=__version__, instance=platform.node(), tally=tally, processes=processes)


def trace_workers(queue: DurableQueue, sender: Sender, settings: SendSettings, tell: Tell) -> Workers:
    """The workers that carry spans, with a circuit breaker of their own: an endpoint without traces stops no record."""
    return Workers(QueueOfSignal(queue, Signal.TRACES), sender, for_traces(settings), tell, name="send-traces")


TELEMETRY_CLOSE_SECONDS = 3.0


def both(tell: Tell, observer: Tell) -> Tell:
    """Tells an event to two receivers, one after the other."""

    def told(event: Event) -> None:
        tell(event)
        observer(event)

    return told


class Bridge:
    """All components, from KubeArmor to the endpoint."""

    def __init__(self, loaded: Loaded, *, observer: Callable[[Event], None] | None = None) -> None:
        """Opens every component, but dials nobody yet; `observer` sees every event too, from any thread.

        Raises:
            ValueError, QueueInUse, QueueUnusable: as `open_components`.
        """
        self._settings = settings = loaded.settings
        self._shown = cast("Json", shown(loaded))
        self._reloading = threading.Lock()
        about_us = settings.telemetry.resource_attributes
        self.life = Life(
            instance_id=stable_instance_id(settings.queue.directory),
            started_unix_nano=time.time_ns(),
            node=about_us.get("k8s.node.name", ""),
            pod=about_us.get("k8s.pod.name", ""),
            runbook_url=settings.status.runbook_url,
        )
        self._telemetry = Telemetry(
            settings.telemetry,
            version=__version__,
            instance_id=self.life.instance_id,
            stderr=sys.stderr,
            lent=lent_headers(settings.send, settings.telemetry),
            proxies=settings.send.proxy,
        )
        self.tell: Tell = self._telemetry.tell if observer is None else both(self._telemetry.tell, observer)
        """Tells of something that happened, as every component does."""
        try:
            self.components = open_components(settings, telemetry=self._telemetry, tell=self.tell)
        except BaseException:
            self._telemetry.close(TELEMETRY_CLOSE_SECONDS)
            raise
        bind_metrics(self.components)
        self._housekeeper = Housekeeper(self.components, self.tell)
        self.pulses: list[Pulse] = []
        """Of threads that the bridge does not own; /livez looks at them, too."""
        self.status: StatusServer | None = None
        if settings.status.enabled:
            self.status = StatusServer(
                settings.status,
                sections=sections(self.components, settings=lambda: self._shown, life=self.life),
                livez=self._livez,
                readyz=self._readyz,
                startupz=self._startupz,
                metrics=self._telemetry.prometheus,
                tell=self.tell,
                events=events_after(self.components),
            )

    # --- the course of a life ---

    def run(self, stop: threading.Event) -> int:
        """Runs until `stop` is set, drains, and returns the exit code 0.

        Raises:
            OSError: the status port is taken; everything is closed again.
        """
        try:
            self.start()
            stop.wait()
            self.drain("asked to stop")
        finally:
            self.close()
        return 0

    def start(self) -> None:
        """Starts every thread; the subscriptions last, when all that they need behind them stands.

        Raises:
            OSError: the status port is taken.
        """
        if self.status is not None:
            self.status.start()
        for workers in self.components.all_workers():
            workers.start()
        self.components.pipeline.start()
        self._housekeeper.start()
        self.components.feed.start(self.components.queue.last_watching())
        self.life.phase = "running"
        self.tell(
            BridgeStarted(
                version=__version__,
                upstreams=tuple(self._settings.feed.endpoints),
                endpoint=self.components.sender.endpoint,
                fastpath=self.components.pipeline.has_fastpath,
            )
        )

    def reload(self, loaded: Loaded) -> None:
        """Takes changed settings over, as far as that can be done without losing a subscription or a batch.

        Raises:
            ValueError: settings that only opening a component can check; nothing has changed then.
        """
        with self._reloading:
            if self.life.phase != "running":
                return  # it starts with the settings it has, or stops with them
            before, after = self._settings, merged(self._settings, loaded.settings)
            found, components = changes(before, loaded.settings), self.components
            gate = Gate(after.gate)
            mapper = _mapper(after, components.mapper.tally, components.mapper.processes)
            resend = after.send != before.send
            exporters = None
            if resend or after.telemetry != before.telemetry:
                lent = lent_headers(after.send, after.telemetry)
                exporters = self._telemetry.open_exporters(after.telemetry, lent, after.send.proxy)
            sender = open_sender(after.send, version=__version__) if resend else None
            carries_spans = components.trace_workers is not None
            spans_sender = None
            if (carries_spans and sender is not None) or (after.mapping.process_traces and not carries_spans):
                spans_sender = open_traces_sender(after.send, version=__version__)
            # From here on nothing can fail.
            self._settings = after
            self._shown = cast("Json", shown(replace(loaded, settings=after)))
            by_policy = after.telemetry.alert_policies or components.coverage is not None
            changed = (after.gate, after.mapping) != (before.gate, before.mapping)
            components.alert_policies = after.telemetry.alert_policies
            if changed or by_policy != mapper.tally.alerts_by_policy:
                mapper.tally.alerts_by_policy = by_policy
                components.mapper = mapper
                components.pipeline.replace(gate, mapper)
            if sender is not None:
                components.queue.change_linger(linger_limits(after.send))
                counts = components.workers.retire()
                components.sender = sender
                logs = QueueOfSignal(components.queue, Signal.LOGS)
                components.workers = Workers(logs, sender, after.send, self.tell, counts=counts)
                components.workers.start()
            if spans_sender is not None:
                if components.trace_workers is not None:
                    components.trace_workers.retire()
                components.trace_workers = trace_workers(components.queue, spans_sender, after.send, self.tell)
                components.trace_workers.start()
            components.feed.limit_nodes(after.telemetry.max_nodes)
            self._telemetry.change(after.telemetry, exporters)
            self.tell(SettingsReloaded(changed=found.taken, need_restart=found.waiting))

    def refuse_reload(self, problems: Sequence[str]) -> None:
        """Says that settings were read again and cannot be used."""
        self.tell(SettingsRefused(problems=tuple(problems)))

    def drain(self, why: str) -> bool:
        """Stops reading, puts all that was received on disk, and exports until the deadline; True if all was sent."""
        deadline = time.monotonic() + self._settings.bridge.drain_seconds
        with self._reloading:
            self.life.phase = "draining"
        self.tell(DrainStarted(why=why, deadline_seconds=self._settings.bridge.drain_seconds))
        self._housekeeper.stop()
        self.components.feed.stop_reading()
        self.components.pipeline.drain()
        drained = [workers.drain(max(0.0, deadline - time.monotonic())) for workers in self.components.all_workers()]
        return all(drained)

    def close(self) -> None:
        """Releases everything, telemetry last. What is still held waits for the next start."""
        began = time.monotonic()
        components = self.components
        self._housekeeper.stop()
        components.feed.close()
        components.pipeline.drain()
        for workers in components.all_workers():
            workers.close()
        held = sum(components.queue.held().values())
        components.queue.close()
        self.life.phase = "stopped"
        self.tell(BridgeStopped(held_records=held, seconds=time.monotonic() - began))
        if self.status is not None:
            self.status.close()
        self._telemetry.close(TELEMETRY_CLOSE_SECONDS)

    # --- probes ---

    def _livez(self) -> ProbeResult:
        components = self.components
        own = [*self.pulses, components.pipeline.pulse, components.queue.upkeep.pulse, self._housekeeper.pulse]
        if self.status is not None:
            own.append(self.status.pulse)
        sending = [pulse for workers in components.all_workers() for pulse in workers.pulses()]
        pulses = [*components.feed.pulses(), *sending, *own, *self._telemetry.pulses()]
        return livez(pulses, max_silence_seconds=self._settings.status.livez_max_silence_seconds)

    def _readyz(self) -> ProbeResult:
        return readyz(
            self.components.feed.subscriptions(),
            self.components.queue.held_bytes,
            max_bytes=self._settings.queue.max_bytes,
            grace_seconds=self._settings.status.ready_grace_seconds,
        )

    def _startupz(self) -> ProbeResult:
        return startupz(started=self.life.phase != "starting")
