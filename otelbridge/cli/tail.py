"""`otelbridge tail`: what KubeArmor sends, live, filtered, as `karmor logs` shows it, on one line, or as JSON lines.

From KubeArmor itself, or from a running bridge, which then shows what has passed its gate.
"""

from __future__ import annotations

import base64
import queue
import random
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import grpc
import typer

from otelbridge import __version__
from otelbridge.cli.application import ConfigOption, KubeArmorOption, SetOption
from otelbridge.cli.loading import load_or_exit
from otelbridge.cli.output import Exit, fail, print_json_line, say
from otelbridge.cli.process import stop_on_signals
from otelbridge.cli.status_client import ANSWER_SECONDS, NoStatusError, ask, document_address
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.feed.channel import open_channel, release, start_nonce_check, start_watch
from otelbridge.feed.settings import FeedSettings
from otelbridge.gate.rules import Gate, shell_patterns
from otelbridge.gate.settings import RuleSettings
from otelbridge.mapping.decode import as_map, decode
from otelbridge.net.address import parse_address
from otelbridge.net.backoff import equal_jitter_seconds
from otelbridge.net.tls_files import read_usable
from otelbridge.setting import did_you_mean, section_from
from otelbridge.settings.environment import colours_wanted, environment
from otelbridge.settings.tree import Settings
from otelbridge.telemetry.escape import escape

PUT_SECONDS = 0.2
JOIN_SECONDS = 5.0
CHECK_SECONDS = 5.0
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
FIRST_SECONDS, MOST_SECONDS = 1.0, 30.0
"""Between two connections, as the bridge itself does it."""

Events = queue.Queue[tuple[Stream, bytes]]


def put(events: Events, stream: Stream, body: bytes, stop: threading.Event) -> None:
    """Puts an event on the queue, waiting for room until the stop."""
    while not stop.is_set():
        try:
            events.put((stream, body), timeout=PUT_SECONDS)
        except queue.Full:
            continue
        return


class UpstreamReader:
    """A thread that reads one stream of one KubeArmor over its own channel, and reconnects when the stream ends."""

    def __init__(
        self,
        upstream: str,
        stream: Stream,
        settings: FeedSettings,
        *,
        events: Events,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Reads the certificates; does not connect yet.

        Raises:
            ValueError: a certificate file cannot be used.
        """
        self.never_connected = False
        self._address = parse_address(upstream)
        self._certificates = read_usable(settings.tls, "feed.tls") if settings.tls.enabled else None
        self._stream, self._settings, self._events, self._stop, self._say = stream, settings, events, stop, say
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self.thread = threading.Thread(target=self._run, name=f"tail-{stream}-{upstream}", daemon=True)

    def close(self) -> None:
        """Ends the call, by its channel, and the thread; the stop event must be set."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
        self.thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        ever_connected, step, said = False, 0, ""
        while not self._stop.is_set():
            connected, why = self._read_once()
            if self._stop.is_set():
                return
            ever_connected = ever_connected or connected
            if why != said or connected:
                self._say(f"{self._address} {self._stream}: {why}")
            if not ever_connected:
                self.never_connected = True
                return
            said, step = why, 0 if connected else step + 1
            pause = equal_jitter_seconds(step, initial=FIRST_SECONDS, longest=MOST_SECONDS, random=random.random)
            self._stop.wait(pause)

    def _read_once(self) -> tuple[bool, str]:
        """Reads until the stream ends; whether there was a connection, and how it ended."""
        with self._lock:
            if self._stop.is_set():
                return False, ""
            self._channel = channel = open_channel(
                self._address,
                self._settings,
                version=__version__,
                keepalive_seconds=self._settings.keepalive.time_seconds,
                certificates=self._certificates,
            )
            # A quiet stream tells nothing, for KubeArmor sends no headers; any answer to this proves a connection.
            asked = start_nonce_check(channel, 1, CHECK_SECONDS)
            call = start_watch(channel, self._stream)
        code, why = grpc.StatusCode.OK, "the stream ended"
        try:
            for body in call:
                put(self._events, self._stream, body, self._stop)
        except grpc.RpcError as error:
            code, why = error.code(), f"{error.code().name}: {error.details()}"
        finally:
            connected = code not in UNREACHABLE or (asked.done() and asked.code() not in UNREACHABLE)
            asked.cancel()
            release(call)
            with self._lock:
                channel.close()
                self._channel = None
        return connected, why


EVENTS_PATH = "/events"
BRIDGE_POLL_SECONDS = 0.5
BRIDGE_JOIN_SECONDS = ANSWER_SECONDS + 1


class BridgeReader:
    """A thread that polls a bridge."""

    def __init__(
        self,
        url: str,
        *,
        streams: frozenset[Stream],
        events: Events,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        """Does not connect yet.

        Raises:
            ValueError: the URL is none of a status server.
        """
        self._address = document_address(url, EVENTS_PATH)
        self._streams, self._events, self._stop, self._say = streams, events, stop, say
        self.never_connected = False
        self.thread = threading.Thread(target=self._run, name="tail-bridge", daemon=True)

    def close(self) -> None:
        """Ends the thread; the stop event must be set."""
        self.thread.join(BRIDGE_JOIN_SECONDS)

    def _run(self) -> None:
        seen, connected, away = 0, False, False
        while not self._stop.is_set():
            try:
                answer = ask(f"{self._address}?after={seen}")
                latest = int(answer["latest"])
                for event in answer["events"]:
                    self._pass_on(event, seen if connected else None)
                    seen = int(event["number"])
                if unparsed := sum(not event["parses"] for event in answer["events"]):
                    self._say(f"Events that do not parse: {unparsed}.")
                if latest < seen:
                    self._say("The bridge has started anew.")
                    seen = 0
                    continue
                connected, away = True, False
            except NoStatusError as error:
                if not away:
                    self._say(str(error))
                away = True
                self.never_connected = not connected
                if error.answered or not connected:
                    return
            except (ValueError, KeyError, TypeError):
                self._say(f"{self._address} answers, but not with a bridge's events.")
                self.never_connected = not connected
                return
            self._stop.wait(BRIDGE_POLL_SECONDS)

    def _pass_on(self, event: dict[str, Any], seen: int | None) -> None:
        missed = 0 if seen is None else int(event["number"]) - seen - 1
        if missed > 0:
            self._say(f"{missed} events went by too fast to be shown; a larger status.show_events shows more.")
        stream = Stream(event["stream"])
        if event["parses"] and stream in self._streams:
            put(self._events, stream, base64.b64decode(event["event"]), self._stop)


RESET, BOLD, DIM, RED, YELLOW, GREEN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m"
COLOUR_OF_ACTION = {"block": RED, "audit": YELLOW, "allow": GREEN}
IN_THE_HEAD = frozenset({"_kind", "UpdatedTime", "Timestamp"})
LINE_FIELDS = ("NamespaceName", "PodName", "ContainerName", "PolicyName", "Severity", "Operation", "Source", "Resource")

Print = Callable[[Mapping[str, Any]], None]


def printer(*, one_line: bool, colours: bool) -> Print:
    """A function that prints an event on stdout, with everything that comes from the event escaped."""

    def coloured(text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if colours and code else text

    def block(fields: Mapping[str, Any]) -> None:
        code = _colour(fields)
        print(coloured(f"== {_kind(fields)} / {_when(fields)} ==", code or BOLD))
        for name, value in fields.items():
            if name not in IN_THE_HEAD:
                shown = escape(_text(value))
                print(f"{coloured(f'{name}:', DIM)} {coloured(shown, code) if name in ('Action', 'Result') else shown}")
        print(flush=True)

    def line(fields: Mapping[str, Any]) -> None:
        words = [escape(_text(fields[name])) for name in LINE_FIELDS if fields.get(name)]
        if "Message" in fields:
            words += [escape(_text(fields.get("Level", ""))), escape(_text(fields["Message"]))]
        end = " ".join(escape(_text(fields[name])) for name in ("Action", "Result") if fields.get(name))
        print(coloured(_when(fields), DIM), _kind(fields), *words, coloured(end, _colour(fields)), flush=True)

    return line if one_line else block


def _kind(fields: Mapping[str, Any]) -> str:
    return escape(str(fields["_kind"])).capitalize()


def _when(fields: Mapping[str, Any]) -> str:
    return escape(_text(fields.get("UpdatedTime") or fields.get("Timestamp", "")))


def _colour(fields: Mapping[str, Any]) -> str:
    return COLOUR_OF_ACTION.get(str(fields.get("Action", "")).lower(), "")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


EXAMPLES = (
    "otelbridge tail --kubearmor kubearmor.kubearmor:32767 --action Block",
    "otelbridge tail --namespace 'shop-*' --min-severity 5 --output json | jq .Resource",
)
MAX_WAITING = 10_000
"""Events between the readers and the terminal; a slow terminal then slows the reading, and KubeArmor drops."""
POLL_SECONDS = 0.2
KNOWN_WORDS = {
    "--action": ("Block", "Audit", "Audit (Block)", "Audit (Allow)", "Allow", "Remove"),
    "--operation": (
        "Process",
        "File",
        "Network",
        "Capabilities",
        "Syscall",
        "Device",
        "NetworkFirewall",
        "AlertThreshold",
    ),
}
"""What KubeArmor can say there; a filter that fits none of it would wait for ever."""
MAX_VALUE_BYTES = 64 * 1024
"""Of one field: more is no longer text for people."""


class TailOutput(StrEnum):
    """How an event is printed."""

    TEXT = "text"
    LINE = "line"
    JSON = "json"


Pattern = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Shell pattern. May be repeated.")]


def tail(
    *,
    kubearmor: KubeArmorOption = None,
    from_bridge: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A running bridge's status address, to show its events (status.show_events).",
        ),
    ] = None,
    streams: Annotated[str, typer.Option(help="Which of the streams to show.")] = "alerts,logs,messages",
    namespace: Pattern = None,
    pod: Pattern = None,
    container: Pattern = None,
    policy: Pattern = None,
    operation: Annotated[list[str] | None, typer.Option(help="Process, File, Network, ... Repeatable.")] = None,
    action: Annotated[list[str] | None, typer.Option(help="Block, Audit, ... Repeatable.")] = None,
    min_severity: Annotated[int | None, typer.Option(min=1, max=10, help="Lowest policy severity to show.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=PATTERN", help="Pod label. Repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    output: Annotated[TailOutput, typer.Option("--output", "-o", help="text, line or json.")] = TailOutput.TEXT,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Show KubeArmor's events as they arrive.

    The settings' redactions apply. Their rules do not: filter with the options below.
    """
    loaded = load_or_exit(config, sets, quiet=True, kubearmor=kubearmor, streams=streams)
    _must_be_able_to_match("--action", action)
    _must_be_able_to_match("--operation", operation)
    for option, patterns in (("--namespace", namespace), ("--pod", pod), ("--container", container)):
        _must_be_a_name(option, patterns)
    conditions = {
        "namespace": namespace,
        "pod": pod,
        "container": container,
        "policy": policy,
        "operation": operation,
        "action_taken": action,
        "min_severity": min_severity,
        "label": _labels(label or ()),
    }
    gate = _filter(loaded.settings, {key: value for key, value in conditions.items() if value})
    stop = threading.Event()
    stop_on_signals(stop, "Stopped.")
    _show(loaded.settings, gate, stop, from_bridge=from_bridge, limit=limit, output=output)


def _must_be_able_to_match(option: str, patterns: list[str] | None) -> None:
    known = KNOWN_WORDS[option]
    for pattern in patterns or ():
        fits = shell_patterns((pattern,), any_case=True)
        if not any(map(fits, known)):
            hint = did_you_mean(pattern, known) or f"KubeArmor's are {', '.join(known)}."
            fail(f"Wrong usage: {option} {pattern!r} can never match. {hint}", Exit.WRONG_USAGE)


NAMES = re.compile(r"(\[!?\]?[^\]]*\]|[A-Za-z0-9._*?-])*")
"""Shell patterns that a name in Kubernetes, or of a container, can match; nothing is the name of what has none."""
SEVERAL = re.compile(r"[, ]")


def _must_be_a_name(option: str, patterns: list[str] | None) -> None:
    for pattern in patterns or ():
        if NAMES.fullmatch(pattern) and (option != "--namespace" or pattern == pattern.lower()):
            continue
        hint = "Names have no such characters."
        if SEVERAL.search(pattern.strip()):
            hint = f"Repeat {option} for each."
        elif option == "--namespace" and NAMES.fullmatch(pattern):
            hint = f"Did you mean {pattern.lower()}?"
        fail(f"Wrong usage: {option} {pattern!r} can never match. {hint}", Exit.WRONG_USAGE)


def _labels(given: Any) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, pattern = text.partition("=")
        if not equals or not key:
            fail(f"Wrong usage: --label {text} is not of the form KEY=PATTERN", Exit.WRONG_USAGE)
        found[key] = pattern
    return found


def _filter(settings: Settings, conditions: dict[str, Any]) -> Gate:
    """A gate that keeps what the filters hold for, and redacts as the settings say."""
    rules: tuple[RuleSettings, ...] = ()
    if conditions:
        wanted = section_from(RuleSettings, {"name": "wanted", "action": "keep", **conditions})
        rules = (wanted, RuleSettings(name="the rest", action="drop"))
    return Gate(replace(settings.gate, rules=rules))


def _readers(
    settings: Settings, from_bridge: str | None, events: Events, stop: threading.Event
) -> Sequence[UpstreamReader | BridgeReader]:
    """One per stream of each KubeArmor, or one for the bridge; wrong settings end the command."""
    wanted = [stream for stream in UPSTREAM_STREAMS if stream in settings.feed.streams]
    try:
        if from_bridge:
            return [BridgeReader(from_bridge, streams=frozenset(wanted), events=events, stop=stop, say=say)]
        return [
            UpstreamReader(upstream, stream, settings.feed, events=events, stop=stop, say=say)
            for upstream in settings.feed.endpoints
            for stream in wanted
        ]
    except ValueError as error:
        fail(f"The settings cannot be used: {error}", Exit.WRONG_USAGE)


def _show(
    settings: Settings,
    gate: Gate,
    stop: threading.Event,
    *,
    from_bridge: str | None,
    limit: int | None,
    output: TailOutput,
) -> None:
    events: Events = queue.Queue(MAX_WAITING)
    readers = _readers(settings, from_bridge, events, stop)
    colours = sys.stdout.isatty() and colours_wanted(environment())
    show = (
        print_json_line if output is TailOutput.JSON else printer(one_line=output is TailOutput.LINE, colours=colours)
    )
    for reader in readers:
        reader.thread.start()
    shown = 0
    try:
        while not stop.is_set() and (limit is None or shown < limit):
            if not any(reader.thread.is_alive() for reader in readers) and events.empty():
                break
            try:
                stream, body = events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            decoded = decode(stream, body)
            if decoded.how == "raw":
                say(f"An event of {stream} does not parse: {decoded.why}")
            elif gate.judge(stream, decoded.message).keep:
                show(_fields(stream, decoded.message))
                shown += 1
    finally:
        stop.set()
        for reader in readers:
            reader.close()
    if any(reader.never_connected for reader in readers) and not shown:
        if from_bridge:
            fail("The bridge gave no events.", Exit.UNREACHABLE)
        fail("KubeArmor could not be reached; `otelbridge doctor` finds out why.", Exit.UNREACHABLE)


def _fields(stream: Stream, message: Any) -> dict[str, Any]:
    """The fields that are set, by KubeArmor's own names, in the order of its proto."""
    return {"_kind": stream.value.removesuffix("s"), **as_map(message, MAX_VALUE_BYTES)}
