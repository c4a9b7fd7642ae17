"""`otelbridge demo`: simulator, bridge and OTLP endpoint on one machine, shown live; ends with the ledger."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.demo_stage import Outcome, Screen, Stage, play, screen, sentence
from otelbridge.cli.ledger import print_ledger
from otelbridge.cli.output import Exit, Output, OutputOption, fail, print_json, say
from otelbridge.cli.signals import stop_on_signals
from otelbridge.settings.environment import colours_wanted, environment
from otelbridge.telemetry.events import Event

EXAMPLES = ("otelbridge demo", "otelbridge demo --rate 1000 --output json")
DEFAULT_ACT_SECONDS = 5.0
"""The whole play takes about five times as long."""


def demo(
    *,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Events a second.")] = 100,
    act_seconds: Annotated[float, typer.Option(min=0.1, help="How long an act takes.")] = DEFAULT_ACT_SECONDS,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the whole road on this machine, faults included.

    A simulated KubeArmor, the bridge and an OTLP endpoint run; things break; nothing is lost. Exits
    with 0 only if the ledger balances and every event arrived. Needs no cluster, no network and no settings.
    """
    say("Starting a simulated KubeArmor, the bridge, and an OTLP endpoint ...")

    until = threading.Event()
    stop_on_signals(until, "Stopped.")
    shown = screen(colours=colours_wanted(environment()))

    told: deque[str] = deque([""], maxlen=1)

    def observe(event: Event) -> None:
        words = sentence(event)
        if words and words != told[0]:  # the third identical try is no news
            told.append(words)
            shown.announce(words)

    with tempfile.TemporaryDirectory(prefix="otelbridge-demo-") as folder:
        with Stage(Path(folder), observer=observe, per_second=rate) as stage:
            trouble = _played(stage, shown, until, act_seconds)
        outcome = stage.outcome()
    if output is Output.JSON:
        print_json(asdict(outcome) | {"passed": outcome.passed})
    else:
        _tell(outcome)
    if trouble:
        fail(f"The demo did not get to its end: {trouble}.")
    if not outcome.passed:
        raise typer.Exit(Exit.FAILED)


def _played(stage: Stage, shown: Screen, until: threading.Event, act_seconds: float) -> str:
    """Plays on a thread of its own while this one shows it; returns what went wrong, if anything."""
    over = threading.Event()
    trouble: list[str] = []

    def acts() -> None:
        try:
            play(stage, shown.announce, until, act_seconds=act_seconds)
        except Exception as error:  # noqa: BLE001  # the end of a thread: reported by the one that shows it
            trouble.append(f"{type(error).__name__}: {error}")
        finally:
            over.set()

    thread = threading.Thread(target=acts, name="demo-play")
    thread.start()
    shown.follow(stage.figures, over)
    thread.join()
    return trouble[0] if trouble else "it was interrupted" if until.is_set() else ""


def _tell(outcome: Outcome) -> None:
    print()
    print_ledger(outcome.ledger)
    arrived = f"{outcome.arrived_events} of {outcome.published} events arrived"
    print(f"{arrived}, {outcome.duplicates} of them more than once; {outcome.arrived_gaps} gap records.")
    print(f"The bridge's own telemetry arrived too: {outcome.spans} spans, {outcome.metrics} metrics.")
