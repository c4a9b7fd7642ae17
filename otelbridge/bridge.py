"""Joins the rooms: starts them from the endpoint backwards, and drains them in the order in which an event walks."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable

from otelbridge import __version__, meters, snapshot
from otelbridge.housekeeper import Housekeeper
from otelbridge.rooms import open_rooms
from otelbridge.send.credentials import lent_headers
from otelbridge.settings.load import Loaded
from otelbridge.status.probes import ProbeResult, livez, readyz, startupz
from otelbridge.status.server import StatusServer
from otelbridge.telemetry.events import BridgeStarted, BridgeStopped, DrainStarted, Event
from otelbridge.telemetry.telemetry import Telemetry

TELEMETRY_CLOSE_SECONDS = 3.0


class Bridge:
    """The whole road, from KubeArmor to the endpoint."""

    def __init__(self, loaded: Loaded, *, observer: Callable[[Event], None] | None = None) -> None:
        """Opens every room, but dials nobody yet.

        Args:
            loaded: the checked settings.
            observer: sees every happening too, from any thread; the demo shows them.

        Raises:
            ValueError: settings that only opening a room can check (a certificate, a URL).
            QueueInUse: another bridge has the queue.
            QueueUnusable: the queue's folder cannot be written.
        """
        self._settings = settings = loaded.settings
        self._observer = observer
        self.life = snapshot.Life(instance_id=str(uuid.uuid4()), started_unix_nano=time.time_ns())
        self._telemetry = Telemetry.open(
            settings.telemetry,
            version=__version__,
            instance_id=self.life.instance_id,
            stderr=sys.stderr,
            lent=lent_headers(settings.send, settings.telemetry),
        )
        try:
            self.rooms = open_rooms(settings, telemetry=self._telemetry, tell=self._tell)
        except BaseException:
            self._telemetry.close(TELEMETRY_CLOSE_SECONDS)
            raise
        meters.bind(self.rooms)
        self._housekeeper = Housekeeper(self.rooms, self._tell)
        self.status: StatusServer | None = None
        if settings.status.enabled:
            self.status = StatusServer(
                settings.status,
                sections=snapshot.sections(self.rooms, loaded, life=self.life),
                livez=self._livez,
                readyz=self._readyz,
                startupz=self._startupz,
                metrics=self._telemetry.prometheus,
                tell=self._tell,
                events=snapshot.events_after(self.rooms),
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
        self.rooms.couriers.start()
        self.rooms.encoder.start()
        self._housekeeper.start()
        self.rooms.feed.start(self.rooms.queue.last_watching())
        self.life.phase = "running"
        self._tell(
            BridgeStarted(
                version=__version__,
                upstreams=tuple(self._settings.feed.endpoints),
                endpoint=self.rooms.sender.endpoint,
                fastpath=self.rooms.encoder.has_fastpath,
            )
        )

    def drain(self, why: str) -> bool:
        """Stops reading, puts all that was received on disk, and exports until the deadline; True if all was sent."""
        deadline = time.monotonic() + self._settings.bridge.drain_seconds
        self.life.phase = "draining"
        self._tell(DrainStarted(why=why, deadline_seconds=self._settings.bridge.drain_seconds))
        self._housekeeper.stop()
        self.rooms.feed.stop_reading()
        self.rooms.encoder.drain()
        return self.rooms.couriers.drain(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Releases everything, telemetry last. What is still held waits for the next start."""
        began = time.monotonic()
        rooms = self.rooms
        self._housekeeper.stop()
        rooms.feed.close()
        rooms.encoder.drain()
        rooms.couriers.close()
        held = sum(rooms.queue.held().values())
        rooms.queue.close()
        self.life.phase = "stopped"
        self._tell(BridgeStopped(held_records=held, seconds=time.monotonic() - began))
        if self.status is not None:
            self.status.close()
        self._telemetry.close(TELEMETRY_CLOSE_SECONDS)

    def _tell(self, happening: Event) -> None:
        self._telemetry.tell(happening)
        if self._observer is not None:
            self._observer(happening)

    # --- probes ---

    def _livez(self) -> ProbeResult:
        rooms = self.rooms
        own = [rooms.encoder.pulse, rooms.queue.upkeep.pulse, self._housekeeper.pulse]
        if self.status is not None:
            own.append(self.status.pulse)
        pulses = [*rooms.feed.pulses(), *rooms.couriers.pulses(), *own, *self._telemetry.pulses()]
        return livez(pulses, max_silence_seconds=self._settings.status.livez_max_silence_seconds)

    def _readyz(self) -> ProbeResult:
        return readyz(
            self.rooms.feed.subscriptions(),
            self.rooms.queue.depth(),
            max_bytes=self._settings.queue.max_bytes,
            grace_seconds=self._settings.status.ready_grace_seconds,
        )

    def _startupz(self) -> ProbeResult:
        return startupz(started=self.life.phase != "starting")
