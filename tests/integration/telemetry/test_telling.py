from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from otelbridge.setting import section_from
from otelbridge.telemetry import events as e
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings
from otelbridge.telemetry.telemetry import Telemetry
from tests.unit.telemetry.examples import TYPES, example
from tests.waiting import eventually

QUIET = SignalSettings(exporter="none")


def _open(stderr: io.TextIOBase, **settings: object) -> Telemetry:
    return Telemetry(
        section_from(TelemetrySettings, {"traces": QUIET, "metrics": QUIET, **settings}),
        version="1",
        instance_id="i",
        stderr=stderr,  # type: ignore[arg-type]
    )


@pytest.fixture
def stderr() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def telemetry(stderr: io.StringIO) -> Iterator[Telemetry]:
    opened = _open(stderr)
    yield opened
    opened.close(2)


def test_every_happening_is_told_to_its_end(telemetry: Telemetry, stderr: io.StringIO) -> None:
    for kind in TYPES:
        telemetry.tell(example(kind))

    assert telemetry.settle(5)
    assert "could not be told" not in stderr.getvalue()


def test_the_same_reason_is_said_once_and_its_count_at_the_end(stderr: io.StringIO) -> None:
    telemetry = _open(stderr, log_format="json")
    for _ in range(1000):
        telemetry.tell(example(e.EventDamaged))
    telemetry.close(2)

    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["body"] for line in lines] == ["Events did not parse."] * 2
    assert lines[1]["attributes"]["more"] == 998
    assert len(telemetry.history.entries()) == 2


def test_lines_are_in_the_order_of_their_times_and_the_last_one_is_the_end(stderr: io.StringIO) -> None:
    telemetry = _open(stderr, log_format="json")
    for _ in range(3):
        telemetry.tell(example(e.DeliveryDelayed))
        telemetry.tell(example(e.EventDamaged))
    telemetry.tell(example(e.BridgeStopped))
    telemetry.close(2)

    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
    assert lines[-1]["event_name"] == "otelbridge.bridge_stopped"
    held = [line["attributes"] for line in lines if "latest" in line["attributes"]]
    assert [attributes["more"] for attributes in held] == [1, 1]


def test_a_change_for_the_better_is_said_at_once_and_behind_what_was_held_back(telemetry: Telemetry) -> None:
    for _ in range(2):
        telemetry.tell(example(e.DeliveryDelayed))
        telemetry.tell(example(e.DeliveryResumed))
    assert telemetry.settle(5)

    assert [entry.line.event for entry in telemetry.history.entries()] == [
        "otelbridge.delivery_delayed",
        "otelbridge.delivery_resumed",
    ] * 2


def test_what_flaps_is_limited_all_the_same(stderr: io.StringIO) -> None:
    telemetry = _open(stderr)
    for _ in range(500):
        telemetry.tell(example(e.QueueRecovered))
    telemetry.close(2)

    assert len(stderr.getvalue().splitlines()) == 6


def test_below_the_level_nothing_is_said_but_everything_counted(stderr: io.StringIO) -> None:
    telemetry = _open(stderr, log_level="error")
    telemetry.tell(example(e.StreamLost))
    assert telemetry.settle(5)

    assert b"otelbridge_source_stream_ends_total" in telemetry.prometheus()
    telemetry.close(2)
    assert stderr.getvalue() == ""


def test_telling_never_waits_for_a_stderr_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w", encoding="utf-8") as stderr:
        telemetry = _open(stderr)
        longest = 0.0
        try:
            for number in range(5_000):
                began = time.monotonic()
                telemetry.tell(example(e.BatchRefused, code=str(number), why="x" * 200))
                longest = max(longest, time.monotonic() - began)

            assert telemetry.settle(20)
            assert longest < 1
            assert b"otelbridge_telemetry_dropped_total 0.0" not in telemetry.prometheus()
        finally:
            began = time.monotonic()
            telemetry.close(0.5)
            closing = time.monotonic() - began
            # Unblock the writer: closing the file waits for it, out of reach of any time limit.
            os.set_blocking(reading, False)
            while telemetry._writer._thread.is_alive():
                try:
                    os.read(reading, 1 << 16)
                except BlockingIOError:
                    telemetry._writer._thread.join(0.01)
        assert closing < 2


def test_many_threads_may_tell_at_once(telemetry: Telemetry) -> None:
    def tell() -> None:
        for _ in range(500):
            telemetry.tell(example(e.HeartbeatMissed))

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert telemetry.settle(10)
    assert b'otelbridge_source_heartbeat_misses_total{server_address="relay",server_port="32767"} 4000.0' in (
        telemetry.prometheus()
    )


def test_happenings_beyond_the_bound_are_dropped_and_counted(telemetry: Telemetry) -> None:
    telemetry._waiting.max_items = 100
    with telemetry.history._lock:  # the telemetry thread waits here, as it would for a busy processor
        for _ in range(600):
            telemetry.tell(example(e.EventDamaged))

    assert telemetry.settle(20)
    dropped = next(
        line for line in telemetry.prometheus().decode().splitlines() if line.startswith("otelbridge_telemetry_dropped")
    )
    assert float(dropped.split()[-1]) >= 400


def test_everyday_happenings_are_in_the_metrics_within_moments_though_they_wake_nobody(telemetry: Telemetry) -> None:
    for _ in range(3):
        telemetry.tell(example(e.BatchAccepted, rejected=0))
    accepted = b'otelbridge_delivery_requests_total{otelbridge_delivery_outcome="accepted"'
    eventually(lambda: any(line.startswith(accepted) for line in telemetry.prometheus().splitlines()))


def test_a_happening_that_cannot_be_handled_does_not_silence_the_next(
    telemetry: Telemetry, stderr: io.StringIO
) -> None:
    telemetry.tell(example(e.HeartbeatAnswered, seconds="soon"))
    telemetry.tell(example(e.StreamLost))
    telemetry.close(2)

    assert "HeartbeatAnswered could not be told" in stderr.getvalue()
    assert "A stream was lost." in stderr.getvalue()


def test_telling_after_the_end_is_harmless(telemetry: Telemetry) -> None:
    telemetry.close(2)
    telemetry.tell(example(e.StreamLost))


def test_what_libraries_log_is_told_and_limited(telemetry: Telemetry, stderr: io.StringIO) -> None:
    for number in range(100):
        logging.getLogger("opentelemetry.sdk.trace.export").warning("Failed, retrying in %.2fs\x1b[2J", number)
    logging.getLogger("waitress").error("Exception while serving %s", "/status")
    logging.getLogger("waitress.queue").warning("Task queue depth is 7")  # small talk
    telemetry.close(2)

    lines = stderr.getvalue().splitlines()
    assert len(lines) == 3
    assert "retrying in 0.00s\\x1b[2J" in lines[0]
    assert lines[2].endswith("more=98")
    assert 'message="Exception while serving /status"' in lines[1]


def test_an_exporter_whose_endpoint_is_away_is_no_error_of_the_bridge(stderr: io.StringIO) -> None:
    telemetry = _open(stderr)
    logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").error("Failed to export %s", "here")
    logging.getLogger("opentelemetry.sdk.trace.export").error("Exception while exporting here")
    telemetry.close(2)

    # Exporters of other tests, ended while they waited, may complain meanwhile.
    assert [line.split()[1] for line in stderr.getvalue().splitlines() if " here" in line] == ["WARN", "ERROR"]


def test_loggers_are_left_as_they_were_found(stderr: io.StringIO) -> None:
    logger = logging.getLogger("opentelemetry")
    before = (list(logger.handlers), logger.propagate)

    _open(stderr).close(2)
    assert (list(logger.handlers), logger.propagate) == before


def test_no_thread_is_left_and_nothing_global_was_set() -> None:
    from opentelemetry import metrics, trace  # noqa: PLC0415 - what the SDK's globals are is asked only here

    threads = set(threading.enumerate())
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    _open(io.StringIO()).close(2)

    assert set(threading.enumerate()) <= threads
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == providers


def test_a_thread_of_a_library_that_dies_is_told_and_prints_no_traceback(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die() -> None:
        raise OSError("https://me:hunter2@collector is away")

    listening = threading.excepthook
    monkeypatch.setattr(listening.__self__, "_hook_before", threading.__excepthook__)  # type: ignore[attr-defined]
    thread = threading.Thread(target=die, name="resolve collector")
    thread.start()
    thread.join()
    assert telemetry.settle(5)
    (entry,) = telemetry.history.entries()
    assert entry.line.fields["library"] == "resolve collector"
    assert entry.line.fields["message"] == "Its thread died: OSError: https://(secret)@collector is away"
    assert "Traceback" not in capsys.readouterr().err
