"""`otelbridge explain [FILE]`: reads KubeArmor's events and shows how each is mapped, or the request sent for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from otelbridge import __version__
from otelbridge.cli.explain_story import Story, tell
from otelbridge.cli.output import Exit, fail, print_json_line, say
from otelbridge.cli.settings_options import ConfigOption, SetOption, load_or_exit
from otelbridge.gate.rules import Gate
from otelbridge.mapping.decode import Event, decode
from otelbridge.mapping.mapper import Mapper
from otelbridge.send.console_sender import to_document
from otelbridge.settings.tree import Settings
from otelbridge.simulator.event_files import FoundEvent, NotAnEvent, opened, read_events, read_file
from otelbridge.telemetry.escape import escape

EXAMPLES = (
    "otelbridge explain events.jsonl",
    "otelbridge explain - --output otlp-json < events.jsonl",
)
STDIN = Path("-")


class ExplainOutput(StrEnum):
    """What is printed of an event."""

    TEXT = "text"
    JSON = "json"
    OTLP_JSON = "otlp-json"


def explain(
    file: Annotated[Path, typer.Argument(help="Events as JSON, in any layout, gzip too; - is stdin.")] = STDIN,
    *,
    output: Annotated[
        ExplainOutput, typer.Option("--output", "-o", help="text, json, or otlp-json: the very request that is sent.")
    ] = ExplainOutput.TEXT,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """Tell where each field of an event goes, and why.

    Alerts, logs and messages are told apart by their fields. The gate and mapping settings apply. Exits with 1 when a
    part of it is not an event; the others are explained all the same.
    """
    loaded = load_or_exit(config, sets, check_files=False, quiet=True)
    explain_event = _explainer(loaded.settings, output)
    events = bad = 0
    for found in _found_in(file):
        if isinstance(found, NotAnEvent):
            say(str(found))
            bad += 1
        else:
            explain_event(found)
            events += 1
    if bad:
        fail(f"{bad} {'part' if bad == 1 else 'parts'} of it {'was' if bad == 1 else 'were'} not an event.")
    if not events:
        fail("There is no event in it.")


def _found_in(file: Path) -> Iterator[FoundEvent | NotAnEvent]:
    """What is in the file or in stdin; one that cannot be read ends the command."""
    try:
        if file == STDIN:
            yield from read_events(opened(sys.stdin.buffer), "stdin")
        else:
            yield from read_file(file)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror or error}", Exit.UNREACHABLE)


def _explainer(settings: Settings, output: ExplainOutput) -> Callable[[FoundEvent], None]:
    """A function that explains one event."""
    gate, mapper = Gate(settings.gate), Mapper(settings.mapping, version=__version__)

    def explain_event(found: FoundEvent) -> None:
        place, parsed = found
        if parsed.unknown_keys:
            say(f"{place}: KubeArmor has no field for {', '.join(parsed.unknown_keys)}; ignored.")
        decoded = decode(parsed.stream, parsed.message.SerializeToString())
        verdict = gate.judge(parsed.stream, decoded.message)
        # Received when it happened: the same line gives the same record, whenever it is explained.
        received = mapper.event_unix_nano(decoded.message) or time.time_ns()

        def document(message: Event) -> dict[str, Any]:
            record = mapper.map(parsed.stream, decoded._replace(message=message), received)
            return to_document(mapper.assemble([record]))

        if output is not ExplainOutput.OTLP_JSON:
            story = tell(place, parsed.stream, decoded.message, verdict, document)
            (print_story if output is ExplainOutput.TEXT else _print_json)(story)
        elif verdict.keep:
            print_json_line(document(decoded.message))
        else:
            say(f"{place}: dropped by the rule {verdict.rule}.")

    return explain_event


def _print_json(story: Story) -> None:
    print_json_line(asdict(story))


def print_story(story: Story) -> None:
    """A story for people."""
    print(f"{escape(story.place)}  {story.kind}")
    if not story.kept:
        print(f"  Dropped by the rule {escape(story.rule)}.\n")
        return
    if story.rule:
        print(f"  Kept by the rule {escape(story.rule)}.")
    if story.redactions:
        print(f"  {story.redactions} secrets blacked out.")
    width = max((len(one.field) for one in story.fields), default=0)
    for one in story.fields:
        print(f"  {one.field:{width}}  {_shown(one.value)}")
        for key, value in one.went_to.items():
            same = value == one.value
            print(f"  {'':{width}}    -> {escape(key)}{'' if same else ' = ' + _shown(value)}")
        if one.note:
            print(f"  {'':{width}}    {one.note}")
    print("  The record also carries")
    for key, value in {**story.record, **story.made}.items():
        print(f"    {escape(key)} = {_shown(value)}")
    print()


def _shown(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
