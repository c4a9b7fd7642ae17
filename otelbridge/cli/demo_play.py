"""The demo's play: act after act on the stage, each announced with a sentence before it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

from otelbridge.cli.demo_stage import Stage
from otelbridge.telemetry.happenings import (
    ConnectionAttempted,
    DeliveryDelayed,
    GapEnded,
    Happening,
    StreamLost,
)

NANOSECONDS = 1_000_000_000

Announce = Callable[[str], None]


def play(stage: Stage, announce: Announce, until: threading.Event, *, act_seconds: float) -> None:
    """Plays all acts; returns early when `until` is set.

    Raises:
        TimeoutError: something that had to happen did not.
    """
    stage.wait("the bridge subscribes", lambda: stage.figures().state == "watching", until)
    stage.relay.wait_for_subscribers()
    for act in (_flow, _endpoint_away, _relay_killed, _last_events):
        if until.is_set():
            return
        act(stage, announce, until, act_seconds)


def _flow(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    announce("Act 1: events flow from KubeArmor through the bridge to the OTLP endpoint.")
    stage.publish(seconds, until)


def _endpoint_away(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    announce("Act 2: the endpoint goes away. Events go on; the bridge keeps them on disk.")
    stage.endpoint_up = False
    stage.endpoint.stop()
    stage.publish(seconds, until)
    stage.endpoint.start()
    stage.endpoint_up = True
    announce("The endpoint is back, and gets what it has missed.")
    stage.publish(seconds / 2, until)
    stage.wait("the backlog is delivered", lambda: stage.figures().held == 0, until)


def _relay_killed(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    # What is on its way when KubeArmor dies is gone with it; for a count that comes out even nothing is.
    stage.wait("the bridge has read everything", lambda: _all_received(stage), until)
    announce("Act 3: KubeArmor is killed. Nobody can see what happens meanwhile; the bridge keeps trying.")
    gaps = stage.figures().gaps
    stage.relay.kill()
    until.wait(seconds / 2)
    stage.relay.start()
    announce("KubeArmor is back.")
    stage.wait("the bridge subscribes again", lambda: stage.figures().state == "watching", until)
    stage.wait("the gap is on record", lambda: stage.figures().gaps > gaps, until)


def _last_events(stage: Stage, announce: Announce, until: threading.Event, seconds: float) -> None:
    stage.relay.wait_for_subscribers()
    announce("Act 4: events flow again.")
    stage.publish(seconds, until)
    stage.wait("the bridge has read everything", lambda: _all_received(stage), until)
    announce("The bridge is told to stop: it stops reading, delivers what it holds, and ends.")
    stage.drain()


def _all_received(stage: Stage) -> bool:
    figures = stage.figures()
    return figures.received == figures.published


def sentence(happening: Happening) -> str:
    """What the audience hears of a happening; empty for most of them."""
    words = ""
    match happening:
        case ConnectionAttempted(error="", upstream=upstream):
            words = f"Subscribed to {upstream}."
        case ConnectionAttempted(attempt=attempt, status_code=code):
            words = f"Attempt {attempt} to subscribe failed ({code})."
        case StreamLost(stream=stream, status_code=code):
            words = f"The stream of {stream} was lost ({code})."
        case GapEnded(gap=gap):
            seconds = (gap.ended_unix_nano - gap.started_unix_nano) / NANOSECONDS
            words = f"Gap recorded: no {gap.stream} could be seen for {seconds:.1f} s ({gap.cause})."
        case DeliveryDelayed(code=code):
            words = f"The endpoint does not answer ({code}); the bridge tries again and again."
        case _:
            pass
    return words
