"""`otelbridge tail`: what KubeArmor sends, live, filtered, as `karmor logs` shows it, on one line, or as JSON lines.

From KubeArmor itself, or from a running bridge, which then shows what has passed its gate.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Protocol

import typer

from otelbridge.cli.output import Exit, fail, print_json_line, say
from otelbridge.cli.settings_options import ConfigOption, KubeArmorOption, SetOption, load_or_exit
from otelbridge.cli.signals import stop_on_signals
from otelbridge.cli.tail_sources import BridgeReader, Events, UpstreamReader
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.gate.rules import Gate, shell_patterns
from otelbridge.gate.settings import RuleSettings
from otelbridge.mapping.decode import as_map, decode
from otelbridge.settings.environment import colours_wanted, environment
from otelbridge.settings.problems import did_you_mean
from otelbridge.settings.tree import Settings
from otelbridge.telemetry.escape import escape

RESET, BOLD, DIM, RED, YELLOW, GREEN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m"
COLOUR_OF_ACTION = {"block": RED, "audit": YELLOW, "allow": GREEN}
IN_THE_HEAD = frozenset({"_kind", "UpdatedTime", "Timestamp"})
LINE_FIELDS = ("NamespaceName", "PodName", "ContainerName", "PolicyName", "Severity", "Operation", "Source", "Resource")

Print = Callable[[Mapping[str, Any]], None]


def printer(*, one_line: bool, colours: bool) -> Print:
    """What prints an event on stdout. Everything that comes from the event is escaped."""

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


class _Reader(Protocol):
    """Puts events on the queue, in a thread of its own."""

    @property
    def never_connected(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


Pattern = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Shell pattern. May be repeated.")]


def tail(
    *,
    kubearmor: KubeArmorOption = None,
    from_bridge: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask a running bridge at its status address instead (status.show_events)."),
    ] = None,
    streams: Annotated[str, typer.Option(help="Which of the streams to show.")] = "alerts,logs,messages",
    namespace: Pattern = None,
    pod: Pattern = None,
    container: Pattern = None,
    policy: Pattern = None,
    operation: Annotated[list[str] | None, typer.Option(help="Process, File, Network, ... Repeatable.")] = None,
    action: Annotated[list[str] | None, typer.Option(help="Block, Audit, ... Repeatable.")] = None,
    min_severity: Annotated[int | None, typer.Option(min=1, max=10, help="From this policy severity on.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=PATTERN", help="Pod label. Repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    output: Annotated[TailOutput, typer.Option("--output", "-o", help="text, line or json.")] = TailOutput.TEXT,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Show KubeArmor's events as they happen. Redactions of the settings apply; their rules do not, the filters do."""
    loaded = load_or_exit(config, sets, quiet=True, kubearmor=kubearmor, streams=streams)
    _must_be_able_to_match("--action", action)
    _must_be_able_to_match("--operation", operation)
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
            fail(f"Wrong usage: {option} {pattern} can never match. {hint}", Exit.WRONG_USAGE)


def _labels(given: Any) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, pattern = text.partition("=")
        if not equals:
            fail(f"Wrong usage: --label {text} is not of the form KEY=PATTERN", Exit.WRONG_USAGE)
        found[key] = pattern
    return found


def _filter(settings: Settings, conditions: dict[str, Any]) -> Gate:
    """A gate that keeps what the filters hold for, and redacts as the settings say."""
    rules: tuple[RuleSettings, ...] = ()
    if conditions:
        wanted = RuleSettings.model_validate({"name": "wanted", "action": "keep", **conditions})
        rules = (wanted, RuleSettings(name="the rest", action="drop"))
    return Gate(settings.gate.model_copy(update={"rules": rules}))


def _readers(settings: Settings, from_bridge: str | None, events: Events, stop: threading.Event) -> Sequence[_Reader]:
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
        reader.start()
    shown = 0
    try:
        while not stop.is_set() and (limit is None or shown < limit):
            if not any(reader.alive for reader in readers) and events.empty():
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
