"""Tells from the socket that the upstream could not send for so long that its slots were full: the bridge was too slow.

KubeArmor drops without a word what does not fit into 1,000 slots a stream, and they fill while it cannot send: because
HTTP/2's window is used up (its events wait for a reader that is slower than they come), or the socket's is (gRPC's own
threads had no processor). The kernel counts what has come, the readers count what they have read, and what lies in
between waits. That is looked at where 64 KiB were read, so at the latest when a bridge that had stood still goes on.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from otelbridge.event import Stream
from otelbridge.feed.unread import Unread

LOOK_BYTES = 64 * 1024
"""A reader looks once it has read so much: 10 us in 70 events."""
SLOTS = 1_000
"""Of KubeArmor's, for each client and stream."""
FRAME_BYTES = 14
"""Of HTTP/2 and gRPC around an event."""
FULL_SHARE = 0.7
"""Of the window: gRPC opens it again by some MiB at a time."""
USED_UP_SHARE = 0.9
"""Of what the socket takes."""
OFF_NANOS = 100_000_000
"""After this long without a processor the bridge may find that the socket was full."""
SOCKETS_TAKE = 6
"""So many times what slots hold came in a pause before any was dropped: on loopback, sockets took 3,000 events."""
STANDSTILL_SHARE = 0.1
"""Less than this of what used to come means that it could not be sent."""
SPAN_NANOS = 30_000_000
"""Over so long what comes is compared."""
SETTLE_NANOS = 1_000_000_000
"""After a stall; what had waited in the upstream's slots and socket has come then, and its usual rate is known."""
GOES_ON_NANOS = 10_000_000_000
"""An overload that lasts is told in pieces."""
PEAK_NANOS = 1_000_000_000
EVEN_SHARE = 0.04
"""What waited most in one second and in the next is the same where the window holds it."""
EDGE_NANOS = 500_000_000
"""Looks are some tenths of a second apart while the bridge is stopped again and again: so much more is told of."""
RATE_NANOS = 250_000_000
"""The shortest stretch of which a rate is taken."""

TCP_INFO_BYTES = 256
BYTES_RECEIVED = struct.Struct("@128xQ")
WINDOW = struct.Struct("@232xI")
"""Since Linux 6.2: what the peer may send."""


class Arrived(NamedTuple):
    """What the kernel says of a connection."""

    total_bytes: int
    room_bytes: int
    """What the peer might still send; 0 for unknown."""


def arrived_at(sockets: Iterable[socket.socket]) -> Arrived:
    """The sum over some sockets."""
    total = room = 0
    for one in sockets:
        try:
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        except OSError:  # gRPC has closed it
            continue
        if len(info) >= BYTES_RECEIVED.size:
            total += BYTES_RECEIVED.unpack_from(info)[0]
        if len(info) >= WINDOW.size:
            room += WINDOW.unpack_from(info)[0]
    return Arrived(total, room)


class Overload(NamedTuple):
    """A stretch in which the upstream can have dropped events. `ELAPSED_CLOCK`'s nanoseconds."""

    started: int
    ended: int
    events_before: Mapping[Stream, int]
    """Per stream, what had been read when it began."""


class _Look(NamedTuple):
    at: int
    cpu_nano: int
    arrived: int
    room: int
    unread: int
    events: Mapping[Stream, int]


_NOTHING = _Look(0, 0, 0, 0, 0, {})


@dataclass(slots=True)
class _Stall:
    """A stretch in which the upstream had to wait, as far as it is known."""

    began: _Look
    """The last look before."""
    until: _Look
    rate: float = 0.0
    """What used to come, at most."""
    blocked_nanos: int = 0
    """How long the upstream could not send."""
    gush_bytes: int = 0
    """What came at once when it could."""


class OverloadDetector:
    """One per connection, for one thread at a time. It reads no clock and no socket: a look is given what it needs."""

    def __init__(self, window_bytes: int, *, tls: bool) -> None:
        self.unread = Unread(tls=tls)
        self._full_bytes = window_bytes * FULL_SHARE
        self._last: _Look | None = None
        self._rate = 0.0
        """Bytes a nanosecond, of the last second in which the window was not used up."""
        self._rate_from = (_NOTHING, _NOTHING)
        self._span_from = self._not_full = _NOTHING
        self._peak_from, self._peak, self._peak_before = _NOTHING, 0, 0
        self._stands_still = False
        self._window_stall: _Stall | None = None
        self._socket_stall: _Stall | None = None
        self._slots_bytes = 0.0

    def look(
        self, at: int, cpu_nano: int, arrived: Arrived, read_bytes: int, events: Mapping[Stream, int]
    ) -> list[Overload]:
        """Takes in how it stands; returns overloads that are over, or go on for long.

        Args:
            at: the time by `ELAPSED_CLOCK`, in nanoseconds; not later than `arrived` was asked for.
            cpu_nano: the processor time that the bridge has had.
            arrived: what the kernel says.
            read_bytes: of the events read on this connection.
            events: per stream, how many they are.
        """
        number = sum(events.values())
        read = read_bytes + number * FRAME_BYTES
        self._slots_bytes = SLOTS * read / max(number, 1)
        unread = self.unread.look(at, arrived.total_bytes, read)
        before = self._last
        now = self._last = _Look(at, cpu_nano, arrived.total_bytes, arrived.room_bytes, unread, events)
        if before is None:
            self._rate_from, self._span_from, self._not_full, self._peak_from = (now, now), now, now, now
            return []
        self._look_at_socket(before, now)
        if at - self._span_from.at >= SPAN_NANOS:
            self._look_at_window(self._span_from, now)
            self._span_from = now
        return self._due(now)

    def end(self) -> list[Overload]:
        """The connection is over: what is not told yet."""
        return self._due(None)

    def _due(self, now: _Look | None) -> list[Overload]:
        told = []
        if (stall := self._window_stall) and _is_due(stall, now):
            self._window_stall, self._not_full = None, stall.until
            # What slots held comes once the window is open again: where less came, everything had been sent.
            if (now is None or stall.gush_bytes >= self._slots_bytes / 2) and self._fills(stall, 1):
                told.append(_told(stall))
        if (stall := self._socket_stall) and _is_due(stall, now):
            self._socket_stall = None
            if self._fills(stall, SOCKETS_TAKE):
                told.append(_told(stall))
        return told

    def _look_at_socket(self, before: _Look, now: _Look) -> None:
        """After a pause of the bridge's, whether as much has come as the kernel takes, and slots hold."""
        came, elapsed = now.arrived - before.arrived, now.at - before.at
        off_nanos = elapsed - (now.cpu_nano - before.cpu_nano)
        if off_nanos >= OFF_NANOS and came >= self._slots_bytes and 0 < before.room * USED_UP_SHARE <= came:
            stall = self._socket_stall = self._socket_stall or _Stall(before, now)
            stall.until, stall.blocked_nanos = now, max(stall.blocked_nanos, off_nanos)
            stall.rate = max(stall.rate, self._rate)

    def _look_at_window(self, before: _Look, now: _Look) -> None:
        """Whether nothing came although events used to, while as many wait here as the window lets in.

        After a pause of the bridge's, whether less came than used to, by what slots hold: the window was used up in it.
        """
        came, elapsed = now.arrived - before.arrived, now.at - before.at
        full = max(before.unread, now.unread) >= self._full_bytes
        if not full:
            self._not_full = now
        expected = self._rate * elapsed
        was_off = elapsed - (now.cpu_nano - before.cpu_nano) >= OFF_NANOS
        lacks = came < expected * STANDSTILL_SHARE or (was_off and expected - came >= self._slots_bytes)
        stood_still, self._stands_still = self._stands_still, full and lacks
        if self._stands_still:
            self._window_stall = self._window_stall or _Stall(self._not_full, now, self._rate)
            self._window_stall.blocked_nanos += elapsed
            self._rate_from = now, now
        if stall := self._window_stall:
            if self._stands_still or stood_still:
                stall.until = now
            if before.unread >= self._full_bytes / 2:
                stall.gush_bytes = max(stall.gush_bytes, came)
        self._look_at_peaks(now)
        self._note_rate(now)

    def _look_at_peaks(self, now: _Look) -> None:
        """A reader that is a little too slow has its upstream stand still for moments only, but as much waits."""
        self._peak = max(self._peak, now.unread)
        came, elapsed = now.arrived - self._peak_from.arrived, now.at - self._peak_from.at
        if elapsed < PEAK_NANOS:
            return
        before, peak = self._peak_before, self._peak
        self._peak_before, self._peak, self._peak_from = peak, 0, now
        even = abs(peak - before) <= self._full_bytes * EVEN_SHARE and min(peak, before) >= self._full_bytes
        if even and came >= self._slots_bytes / 2:
            stall = self._window_stall = self._window_stall or _Stall(self._not_full, now, self._rate)
            stall.until = now
            stall.blocked_nanos, stall.gush_bytes = stall.blocked_nanos + elapsed, max(stall.gush_bytes, came)

    def _note_rate(self, now: _Look) -> None:
        older, newer = self._rate_from
        if (elapsed := now.at - older.at) >= RATE_NANOS:
            self._rate = (now.arrived - older.arrived) / elapsed
        if now.at - newer.at >= 2 * RATE_NANOS:
            self._rate_from = newer, now

    def _fills(self, stall: _Stall, times: float) -> bool:
        """Whether so many times the slots' events came in the time, if they came as they do beside it."""
        return max(stall.rate, self._rate) * stall.blocked_nanos >= times * self._slots_bytes


def _is_due(stall: _Stall, now: _Look | None) -> bool:
    if now is None:
        return True
    settled = now.at - stall.until.at >= SETTLE_NANOS
    return settled or now.at - stall.began.at >= GOES_ON_NANOS


def _told(stall: _Stall) -> Overload:
    return Overload(stall.began.at - EDGE_NANOS, stall.until.at + EDGE_NANOS, stall.began.events)
