"""Manners of servers and proxies that KubeArmor does not have, frame by frame; an oracle looks for each event."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import h2.connection
import h2.settings
import hyperframe.frame
import pytest
from h2.errors import ErrorCodes

from otelbridge.event import NANOSECONDS, UPSTREAM_STREAMS, Stream
from otelbridge.feed.model import StreamState, SubscriptionState
from otelbridge.simulator.tcp_proxy import Conditions, TcpProxy
from otelbridge.telemetry.events import ConnectionEnded, HeartbeatAnswered, StreamLost
from tests.integration.feed.running import Running, running, settings_for
from tests.peers.policing_connection import HEADERS, OK, Deed, Policing, Watch, due, ending, framed
from tests.peers.policing_relay import PolicingRelay
from tests.waiting import eventually

QUICK = {"interval_seconds": 0.5, "timeout_seconds": 1}
EVERY_SECONDS = 0.05
POLICING = Policing(data_every_seconds=EVERY_SECONDS)
SETTLED_SECONDS = 0.6
ALERTS, LOGS, MESSAGES = ("WatchAlerts", "WatchLogs", "WatchMessages")
ONE = frozenset({Stream.ALERTS})
ALL = frozenset(UPSTREAM_STREAMS)
MAX_CONCURRENT = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
CODES = (
    ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR, ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL,
    ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.HTTP_1_1_REQUIRED,
)  # fmt: skip
"""Others are no different, but for INADEQUATE_SECURITY: to gRPC that is PERMISSION_DENIED, which needs an operator."""
Http = h2.connection.H2Connection
Watches = Mapping[str, Watch]


def number_now() -> int:
    return due(POLICING, time.time_ns())


def received(run: Running) -> Mapping[Stream, Counter[int]]:
    """Which event came how often, by stream."""
    found: dict[Stream, Counter[int]] = {stream: Counter() for stream in UPSTREAM_STREAMS}
    for event in run.events(0):
        if event.body.isdigit():
            found[event.stream][int(event.body)] += 1
    return found


def silently_missed(run: Running, first: int, last: int) -> dict[Stream, list[int]]:
    """Of the numbers between these two, those that did not come and lie in no gap of their stream."""
    every, came = round(EVERY_SECONDS * NANOSECONDS), received(run)
    gaps = [(gap.stream, gap.started_unix_nano, gap.ended_unix_nano) for gap in (*run.gaps(), *run.suspected())]
    missed: dict[Stream, list[int]] = {}
    for stream in UPSTREAM_STREAMS:
        covered = [(started, ended) for one, started, ended in gaps if one is stream]
        for number in range(first, last + 1):
            at = number * every
            if not came[stream][number] and not any(started <= at <= ended for started, ended in covered):
                missed.setdefault(stream, []).append(number)
    return missed


def watched(run: Running) -> int:
    """Waits until all is watched and all streams bring events; the number of an event that came before it returns."""
    eventually(
        lambda: run.status.state is SubscriptionState.WATCHING and run.status.blind_since_unix_nano is None,
        within_seconds=20,
        why=f"all is watched, not {run.status}",
    )
    number = number_now()
    eventually(lambda: all(max(came, default=0) > number for came in received(run).values()), why="events come")
    return number


def raw(http: Http, *frames: hyperframe.frame.Frame) -> None:
    http._data_to_send += b"".join(frame.serialize() for frame in frames)


# --- manners ---


def reset(code: int, *methods: str) -> Deed:
    def deed(http: Http, watches: Watches) -> None:
        for method in methods:
            http.reset_stream(watches[method].stream, code)

    return deed


def end_without_status(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, b"", end_stream=True)


def end_half(http: Http, watches: Watches) -> None:
    for method in (ALERTS, LOGS):
        ending(method)(http, watches)


def break_an_event(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, framed(b"an event that is longer")[:9])
    http.reset_stream(watches[ALERTS].stream, ErrorCodes.INTERNAL_ERROR)


def claim_compression(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, b"\1" + framed(b"not compressed")[1:])


def cut_off_a_length(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, b"\0\0\0", end_stream=True)


def claim_a_length(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, b"\0\xff\xff\xff\xff")


def say_headers_again(http: Http, watches: Watches) -> None:
    header = http.encoder.encode([(b"grpc-status", OK)])
    raw(http, hyperframe.frame.HeadersFrame(watches[ALERTS].stream, data=header, flags=["END_HEADERS"]))


def say_a_header_of(kilobytes: int) -> Deed:
    def deed(http: Http, watches: Watches) -> None:
        trailers = [(b"grpc-status", b"14"), *((b"x-%d" % one, b"x" * 1000) for one in range(kilobytes))]
        http.send_headers(watches[ALERTS].stream, trailers, end_stream=True)

    return deed


def say_twice_that_it_goes(http: Http, watches: Watches) -> None:
    """As Envoy and grpc-go do: first without a limit, then with it; what is open goes on."""
    last = max(watch.stream for watch in watches.values())
    raw(
        http,
        hyperframe.frame.GoAwayFrame(0, last_stream_id=2**31 - 1, error_code=0),
        hyperframe.frame.PingFrame(0, b"drainnow"),
        hyperframe.frame.GoAwayFrame(0, last_stream_id=last, error_code=0),
    )


def disown_the_streams(http: Http, _watches: Watches) -> None:
    raw(http, hyperframe.frame.GoAwayFrame(0, last_stream_id=1, error_code=0))


def allow(streams: int) -> Deed:
    return lambda http, _watches: http.update_settings({MAX_CONCURRENT: streams})


def change_settings(http: Http, _watches: Watches) -> None:
    for changed in ({1: 0}, {4: 2**20, 5: 2**15}, {1: 4096, 6: 4096}):
        raw(http, hyperframe.frame.SettingsFrame(0, {**changed, 0x99: 7}))


def send_what_is_to_be_ignored(http: Http, watches: Watches) -> None:
    stream = watches[ALERTS].stream
    raw(
        http,
        hyperframe.frame.AltSvcFrame(0, origin=b"example.com", field=b'h2=":1"'),
        hyperframe.frame.ExtensionFrame(type=0xBF, stream_id=stream),
        hyperframe.frame.PriorityFrame(stream, depends_on=0, stream_weight=5),
        hyperframe.frame.WindowUpdateFrame(0, window_increment=1),
    )


def ping_much(http: Http, _watches: Watches) -> None:
    for number in range(50):
        http.ping(b"%08d" % number)


def pad(http: Http, watches: Watches) -> None:
    http.send_data(watches[ALERTS].stream, framed(b"padded"), pad_length=3)


def send_in_pieces(http: Http, watches: Watches) -> None:
    for watch in watches.values():
        two = framed(b"in pieces") + framed(b"and one more")
        for start in range(len(two)):
            http.send_data(watch.stream, two[start : start + 1])
        http.send_data(watch.stream, b"")
        http.send_data(watch.stream, two + two)


class Row(NamedTuple):
    manner: Deed
    lost: frozenset[Stream] = frozenset()
    """Streams that are lost, and opened again."""
    connections: int = 0
    """Connections more than the first."""


ROWS: dict[str, Row] = {
    **{f"RST_STREAM {code.name}": Row(reset(code, ALERTS), ONE) for code in CODES},
    "RST_STREAM of an unknown code": Row(reset(4711, ALERTS), ONE),
    "RST_STREAM of two": Row(reset(ErrorCodes.CANCEL, ALERTS, LOGS), frozenset({Stream.ALERTS, Stream.LOGS})),
    "RST_STREAM of all": Row(reset(ErrorCodes.CANCEL, ALERTS, LOGS, MESSAGES), ALL, 1),
    **{f"ends with status {code}": Row(ending(ALERTS, b"%d" % code), ONE) for code in (0, 1, 8, 13)},
    "ends with a status that is none": Row(ending(ALERTS, b"abc"), ONE),
    "ends with a status beyond the last": Row(ending(ALERTS, b"99"), ONE),
    "ends half of the streams with OK": Row(end_half, frozenset({Stream.ALERTS, Stream.LOGS})),
    "ends without a status": Row(end_without_status, ONE),
    "breaks off within an event": Row(break_an_event, ONE),
    "claims a compression": Row(claim_compression),
    "cuts a length off": Row(cut_off_a_length, ONE),
    "claims a length of 4 GiB": Row(claim_a_length, ONE),
    "says headers in the middle": Row(say_headers_again, ALL, 1),
    "pads, which gRPC does not know": Row(pad, ONE),
    "a trailer of 5 KiB": Row(say_a_header_of(5), ONE),
    "a trailer of 40 KiB": Row(say_a_header_of(40), ONE),
    "says twice that it goes": Row(say_twice_that_it_goes, connections=1),
    "disowns the streams that are open": Row(disown_the_streams, ALL, 1),
    "allows no more streams": Row(allow(0)),
    "changes its settings": Row(change_settings),
    "sends what is to be ignored": Row(send_what_is_to_be_ignored),
    "pings much": Row(ping_much),
    "sends in pieces": Row(send_in_pieces),
}


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_no_manner_costs_an_event_outside_of_a_gap_or_a_healthy_connection(row: Row) -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        first = watched(run)
        relay.do(row.manner)
        eventually(lambda: {told.stream for told in run.of(StreamLost)} >= row.lost, why="it was noticed")
        eventually(lambda: len(run.of(ConnectionEnded)) == row.connections, why="a connection ends, or none")
        since = time.monotonic()
        eventually(lambda: time.monotonic() - since > SETTLED_SECONDS)
        assert silently_missed(run, first, watched(run)) == {}
        assert {told.stream for told in run.of(StreamLost)} == row.lost
        assert len(run.of(ConnectionEnded)) == row.connections
        assert {gap.stream for gap in run.gaps()} == row.lost
        assert run.suspected() == []


def test_a_stream_that_a_proxy_ends_again_and_again_costs_the_others_nothing() -> None:
    with PolicingRelay(POLICING) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        first = watched(run)
        for times in range(1, 6):
            relay.do(reset(ErrorCodes.CANCEL, ALERTS))
            eventually(lambda: len(run.of(StreamLost)) == times)  # noqa: B023 called at once
            eventually(lambda: run.stream(Stream.ALERTS).state is StreamState.WATCHING)
        assert silently_missed(run, first, watched(run)) == {}
        assert {gap.stream for gap in run.gaps()} == ONE
        assert [*run.of(ConnectionEnded), *run.suspected()] == []


def refuse(http: Http, stream: int) -> None:
    http.reset_stream(stream, ErrorCodes.REFUSED_STREAM)


def overflow(http: Http, stream: int) -> None:
    """As Envoy answers beyond its circuit breakers."""
    said = [(b"grpc-status", b"14"), (b"grpc-message", b"upstream connect error or disconnect/reset before headers")]
    http.send_headers(stream, [*HEADERS, *said], end_stream=True)


def redirect(http: Http, stream: int) -> None:
    http.send_headers(stream, [(b":status", b"302"), (b"location", b"https://login.example.com/")], end_stream=True)


def say_429(http: Http, stream: int) -> None:
    http.send_headers(stream, [(b":status", b"429"), (b"content-type", b"text/plain")])
    http.send_data(stream, b"slow down", end_stream=True)


def end_at_once(http: Http, stream: int) -> None:
    http.send_headers(stream, [*HEADERS, (b"grpc-status", OK)], end_stream=True)


@pytest.mark.parametrize("refusal", [refuse, overflow, redirect, say_429, end_at_once])
def test_streams_that_are_refused_at_first_are_had_in_the_end(refusal: Callable[[Http, int], None]) -> None:
    refused, times = itertools.count(), 4

    def on_watch(http: Http, stream: int) -> bool:
        if next(refused) >= times:
            return False
        refusal(http, stream)
        return True

    policing = replace(POLICING, on_watch=on_watch)
    with PolicingRelay(policing) as relay, running(settings_for(relay.endpoint, heartbeat=QUICK)) as run:
        first = watched(run)
        assert len(run.of(StreamLost)) == times
        assert len(relay.seen("connected")) <= 1 + times // len(UPSTREAM_STREAMS)
        assert silently_missed(run, first, watched(run)) == {}


def test_a_line_on_which_everything_takes_long_is_kept() -> None:
    slow = Conditions(latency_seconds=0.7)
    with PolicingRelay(POLICING) as relay, TcpProxy(relay.endpoint) as proxy:
        proxy.shape(slow)
        heartbeat = {"interval_seconds": 1, "timeout_seconds": 3}
        with running(settings_for(proxy.endpoint, heartbeat=heartbeat)) as run:
            first = watched(run)
            eventually(lambda: len(run.of(HeartbeatAnswered)) >= 3, within_seconds=20)
            assert silently_missed(run, first, watched(run)) == {}
            assert [*run.of(ConnectionEnded), *run.of(StreamLost), *run.suspected()] == []
