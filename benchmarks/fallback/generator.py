"""Stands in for generator/ where there is no Go: the Python simulator's relay, told and telling in the same lines."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.corpus import HEAD, STREAM_BYTE
from otelbridge.event import Stream
from otelbridge.pb.kubearmor_pb2 import Alert
from otelbridge.simulator.upstream import Relay

POLL_SECONDS = 0.001
TICK_SECONDS = 0.002
SLOTS = 1_000


def read_corpus(path: Path) -> Iterator[tuple[Stream, bytes]]:
    """The events of a corpus."""
    streams = {letter: stream for stream, letter in STREAM_BYTE.items()}
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (size,) = HEAD.unpack_from(data, at + 1)
        begin = at + 1 + HEAD.size
        yield streams[data[at : at + 1]], data[begin : begin + size]
        at = begin + size


def fresh(body: bytes, number: int) -> bytes:
    """The event with the time of now and a process id of its own: of a field that comes twice the last one counts."""
    now = time.time_ns()
    text = datetime.fromtimestamp(now // 10**9, UTC)
    return (
        body
        + Alert(
            Timestamp=now // 10**9,
            UpdatedTime=f"{text:%Y-%m-%dT%H:%M:%S}.{now // 1_000 % 10**6:06}Z",
            HostPID=number + 1,
        ).SerializeToString()
    )  # a Log has the same numbers for these fields


def run(relay: Relay, corpus: list[tuple[Stream, bytes]], *, first: int, rate: float, count: int) -> dict[str, float]:
    """One stretch at a rate."""
    dropped, fullest = relay.dropped, 0
    began = time.monotonic()
    sent = 0
    while sent < count:
        due = min(int((time.monotonic() - began) * rate), count)
        for number in range(first + sent, first + due):
            stream, body = corpus[number % len(corpus)]
            relay.publish(stream, fresh(body, number))
            fullest = max(fullest, SLOTS - relay.room(stream))
        sent = max(sent, due)
        time.sleep(TICK_SECONDS)
    seconds = time.monotonic() - began
    return {"published": count, "dropped": relay.dropped - dropped, "fullest": fullest, "seconds": seconds}


def say(facts: Mapping[str, object]) -> None:
    print(json.dumps(facts), flush=True)


def say_when_subscribed(relay: Relay, streams: set[Stream]) -> None:
    while not all(relay.subscribers(stream) for stream in streams):
        time.sleep(POLL_SECONDS)
    say({"subscribed": time.time_ns()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    corpus = list(read_corpus(parser.parse_args().corpus))
    with Relay() as relay:
        say({"endpoint": relay.endpoint, "events": len(corpus)})
        streams = {stream for stream, _ in corpus}
        threading.Thread(target=say_when_subscribed, args=(relay, streams), name="watch", daemon=True).start()
        first = 0
        for line in sys.stdin:
            rate, count = line.split()
            say(run(relay, corpus, first=first, rate=float(rate), count=int(count)))
            first += int(count)


if __name__ == "__main__":
    main()
