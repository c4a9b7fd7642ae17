"""`otelbridge doctor`: checks settings, KubeArmor and endpoint step by step, and names the cure for what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.application import (
    ConfigOption,
    EndpointOption,
    KubeArmorOption,
    OutputOption,
    ProtocolOption,
    QueueDirectoryOption,
    SetOption,
)
from otelbridge.cli.examination import (
    EXIT_CODES,
    Examination,
    Finding,
    Mark,
    Step,
    StepError,
    examine_endpoint,
    examine_kubearmor,
    exit_code,
)
from otelbridge.cli.loading import load_given
from otelbridge.cli.output import Output, print_json, size_in_words
from otelbridge.net.address import parse_address, resolve_by_system
from otelbridge.queue.disk import owner_of
from otelbridge.settings.environment import colours_wanted, environment
from otelbridge.settings.load import Loaded
from otelbridge.settings.tree import Settings, SettingsError
from otelbridge.telemetry.escape import escape

EXAMPLES = (
    "otelbridge doctor --kubearmor kubearmor.kubearmor:32767 --endpoint http://collector:4317",
    "otelbridge doctor --config bridge.yaml --output json --no-test-record",
)
EVENT_SECONDS = 5.0
COLOURS = {Mark.OK: "\x1b[32m", Mark.WARNING: "\x1b[33m", Mark.FAILED: "\x1b[31m"}
RESET = "\x1b[0m"


def doctor(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    kubearmor: KubeArmorOption = None,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = None,
    queue_directory: QueueDirectoryOption = None,
    wait: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a first event.")] = EVENT_SECONDS,
    test_record: Annotated[bool, typer.Option(help="Send a test record to the endpoint.")] = True,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check every step, and name the cure of what fails.

    Checks settings, queue, KubeArmor (DNS to first event) and endpoint (DNS to a test record that it accepts).

    Exits with 0 when nothing failed, else by the first failed step: 2 settings, 10 queue, 11 to 15 KubeArmor (DNS, TCP,
    TLS, answers, subscription), 21 to 26 endpoint (DNS, TCP, TLS, answers, credentials, test record).
    """
    tell = _teller(output)
    findings: list[Finding] = []

    def add(found: list[Finding]) -> None:
        findings.extend(found)
        for finding in found:
            tell(finding)

    loaded, found = _settings(
        str(config or "environment"),
        lambda: load_given(
            config, sets, kubearmor=kubearmor, endpoint=endpoint, protocol=protocol, queue_directory=queue_directory
        ),
    )
    add(found)
    if loaded is not None:
        settings = loaded.settings
        add(_queue(settings.queue.directory, settings.queue.max_bytes))
        for upstream in settings.feed.endpoints:
            add(examine_kubearmor(upstream, settings.feed, event_seconds=wait))
        if settings.feed.roads:
            add(_one_road(settings.feed.endpoints))
        add(examine_endpoint(settings.send, send_test_record=test_record))
    code = exit_code(findings)
    if output is Output.JSON:
        print_json({"ok": code == 0, "exit_code": code, "findings": [asdict(finding) for finding in findings]})
    else:
        print(_sum(findings, asked=test_record))
    raise typer.Exit(code)


def _sum(findings: list[Finding], *, asked: bool) -> str:
    """The last line; it says nothing about what was not looked at."""
    failed = [finding for finding in findings if finding.mark is Mark.FAILED]
    warnings = sum(finding.mark is Mark.WARNING for finding in findings)
    unasked = "" if asked else " Whether the endpoint takes records was not tried (--no-test-record)."
    if failed:
        first = f"{failed[0].step}, {escape(failed[0].subject)}"
        return f"{len(failed)} of {len(findings)} steps failed. Begin with the first: {first}."
    if warnings:
        return f"No step failed; {warnings} {'has' if warnings == 1 else 'have'} a warning.{unasked}"
    return f"Nothing is wrong.{unasked}"


def _settings(subject: str, load: Callable[[], Loaded]) -> tuple[Loaded | None, list[Finding]]:
    """The settings, or one finding per problem."""
    examination = Examination(subject)
    loaded = None
    try:
        with examination.step(Step.SETTINGS) as step:
            loaded = load()
            step.finding = " ".join([_road(loaded.settings), *loaded.notes])
            step.mark = Mark.WARNING if loaded.notes else Mark.OK
    except SettingsError as error:
        for problem in error.problems:
            with examination.step(Step.SETTINGS):
                value = f" = {problem.value}" if problem.value else ""
                raise StepError(f"{problem.path}{value}: {problem.wrong} ({problem.origin}).", problem.cure) from None
    return loaded, examination.findings


def _road(settings: Settings) -> str:
    """Sources and destination as the settings have them."""
    feed, send = settings.feed, settings.send
    where = "stdout" if send.protocol == "console" else f"{send.endpoint} ({send.protocol})"
    of = f"{', '.join(feed.endpoints)}{', roads to the same events,' if feed.roads else ','}"
    return f"Subscribes to {', '.join(feed.streams)} of {of} and sends them to {where}."


def _one_road(endpoints: Sequence[str]) -> list[Finding]:
    """A warning where two roads end at one address: what its server drops, both of them lack."""
    servers: dict[tuple[str, int], str] = {}
    examination = Examination(", ".join(endpoints))
    for endpoint in endpoints:
        address = parse_address(endpoint)
        with suppress(OSError):  # a step of its own has said so
            for ip in resolve_by_system(address.host, address.port):
                other = servers.setdefault((ip, address.port), endpoint)
                if other != endpoint and not examination.findings:
                    with examination.step(Step.KUBEARMOR_DNS) as step:
                        step.finding = f"{other} and {endpoint} are one server, {ip}: what it drops, both roads lack."
                        step.cure, step.mark = "Name another relay, or the nodes, as the second road.", Mark.WARNING
    return examination.findings


def _queue(directory: Path, max_bytes: int) -> list[Finding]:
    examination = Examination(str(directory))
    with examination.step(Step.QUEUE) as step:
        existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise StepError(
                f"The queue's folder cannot be written: {existing}: {error.strerror or error}.",
                "Mount a writable volume there (fsGroup in Kubernetes), or set queue.directory to another folder.",
            ) from None
        free = shutil.disk_usage(existing).free
        owner = owner_of(directory) if directory.exists() else None
        step.finding = (
            f"The folder can be written; {size_in_words(free)} are free, of which the queue may take "
            f"{size_in_words(max_bytes)}."
        )
        if owner is not None and owner != os.getpid():
            step.finding += f" A bridge (process {owner or '?'}) runs on it."
        if free < max_bytes:
            step.mark = Mark.WARNING
            step.cure = (
                "Lower queue.max_bytes or use a larger volume: on a full disk the bridge can hold no more than fits "
                "into a bounded memory."
            )
    return examination.findings


def _teller(output: Output) -> Callable[[Finding], None]:
    """Prints each finding at once, as text; for JSON they are printed at the end."""
    if output is Output.JSON:
        return lambda _finding: None
    colours = sys.stdout.isatty() and colours_wanted(environment())
    width = max(map(len, EXIT_CODES))

    def tell(finding: Finding) -> None:
        mark = f"{finding.mark.value:8}"
        shown = f"{COLOURS[finding.mark]}{mark}{RESET}" if colours else mark
        print(f"{shown}{finding.step:{width}}  {finding.seconds:6.3f} s  {escape(finding.subject)}")
        print(f"        {escape(finding.finding)}")
        if finding.cure:
            print(f"        Cure: {escape(finding.cure)}")

    return tell
