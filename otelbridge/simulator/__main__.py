"""`python -m otelbridge.simulator`: a simulated KubeArmor as a process of its own, for tests that stop and kill it.

Its first line on stdout is `{"endpoint": "host:port"}`, its last the summary; SIGTERM and SIGINT end it politely.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.simulator.faults import Fault, FaultError, parse_fault
from otelbridge.simulator.manners import NODE, RELAY, ServerTls
from otelbridge.simulator.serve import SimulateOptions, serve
from otelbridge.simulator.sources import PublishPace, SourceError

FAILED = 1
WRONG_USAGE = 2
PROFILES = {"relay": RELAY, "node": NODE}


def main(arguments: list[str] | None = None) -> int:
    """Runs until everything is published, or a signal comes; returns the exit code."""
    try:
        options = _options(arguments)
    except ValueError as error:
        _say(str(error))
        return WRONG_USAGE
    until = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: until.set())
    try:
        summary = serve(options, until=until, ready=lambda endpoint: _print({"endpoint": endpoint}), tell=_say)
    except (OSError, SourceError) as error:
        _say(str(error))
        return FAILED
    _print(asdict(summary))
    return 0


def _options(arguments: list[str] | None) -> SimulateOptions:
    parser = argparse.ArgumentParser(prog="python -m otelbridge.simulator", description="A simulated KubeArmor.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--profile", choices=tuple(PROFILES), default="relay")
    parser.add_argument("--source", default="samples", metavar="samples|generated|FILE")
    parser.add_argument("--streams", type=_streams, default=UPSTREAM_STREAMS, metavar="NAME,...")
    parser.add_argument("--rate", type=float, default=10, metavar="EVENTS_PER_SECOND", help="0: as fast as possible")
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--count", type=int)
    parser.add_argument("--duration", type=float, metavar="SECONDS")
    parser.add_argument("--nodes", type=int, default=0, help="nodes behind the relay that take turns in sending")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", type=_fault, default=[], metavar="end:OK@10s")
    for flag in ("loop", "stay", "sequence", "recorded-times", "at-once"):
        parser.add_argument(f"--{flag}", action="store_true")
    for flag in ("cert-file", "key-file", "client-ca-file"):
        parser.add_argument(f"--{flag}", type=Path)
    given = parser.parse_args(arguments)
    tls = None
    if given.cert_file or given.key_file:
        if not (given.cert_file and given.key_file):
            parser.error("--cert-file and --key-file go together")
        tls = ServerTls(cert_file=given.cert_file, key_file=given.key_file, client_ca_file=given.client_ca_file)
    return SimulateOptions(
        host=given.host,
        port=given.port,
        profile=PROFILES[given.profile],
        tls=tls,
        source=given.source,
        streams=given.streams,
        loop=given.loop,
        seed=given.seed,
        pace=PublishPace(
            per_second=given.rate or None, burst=given.burst, count=given.count, duration_seconds=given.duration
        ),
        fresh_times=not given.recorded_times,
        sequence=given.sequence,
        wait_for_subscriber=not given.at_once,
        stay=given.stay,
        nodes=given.nodes,
        faults=tuple(given.fault),
    )


def _streams(text: str) -> tuple[Stream, ...]:
    for name in (names := text.split(",")):
        if name not in tuple(UPSTREAM_STREAMS):
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(UPSTREAM_STREAMS)}")
    return tuple(Stream(name) for name in names)


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _print(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _say(words: str) -> None:
    sys.stderr.write(words + "\n")


if __name__ == "__main__":
    sys.exit(main())
