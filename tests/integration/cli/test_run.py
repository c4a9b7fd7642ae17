from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge
from tests.unit.cli.invoking import invoke
from tests.waiting import eventually

COMMAND = Path(sys.executable).parent / "otelbridge"


def run(*arguments: str, within_seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs the installed command to its end."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=within_seconds, check=False)


def test_run_delivers_and_sigterm_ends_it_with_0(tmp_path: Path) -> None:
    with (
        Relay() as relay,
        OtlpEndpoint() as endpoint,
        running_bridge(
            tmp_path, feed={"endpoints": [relay.endpoint]}, send={"endpoint": endpoint.grpc_endpoint}
        ) as bridge,
    ):
        relay.wait_for_subscribers()
        relay.publish(Stream.ALERTS, pb.Alert(PodName="a"))
        endpoint.wait_for_records(1, 10)
        eventually(lambda: bridge.balance("alerts")["delivered"] == 1, why="the record is settled")
        asked = invoke("ledger", "--url", bridge.url(""))
        assert (asked.code, asked.data.splitlines()[-1]) == (0, "No record is missing.")
        assert bridge.stop() == 0
    after = invoke("ledger", "--queue-directory", str(bridge.queue_directory), "--output", "json").json()
    assert after["streams"]["alerts"]["delivered"] == 1


def test_a_second_bridge_on_the_same_queue_is_refused_with_3(tmp_path: Path) -> None:
    with Relay() as relay, running_bridge(tmp_path, feed={"endpoints": [relay.endpoint]}) as bridge:
        same = ("--queue-directory", str(bridge.queue_directory))
        ended = run("run", *same, "--status-port", "0", "--set", "telemetry.disabled=true")
    assert ended.returncode == 3
    assert "in use by process" in ended.stderr


def test_a_taken_status_port_is_exit_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(
            "run", "--queue-directory", str(tmp_path), "--status-port", port, "--set", "telemetry.disabled=true"
        )
    assert ended.returncode == 3
    assert port in ended.stderr


def test_wrong_settings_are_exit_2() -> None:
    ended = run("run", "--set", "status.port=x")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "status.port = x: is not a whole number" in ended.stderr


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with OtlpEndpoint() as endpoint, Relay() as relay:
        refused = endpoint.grpc_endpoint
        endpoint.stop()
        with running_bridge(
            tmp_path,
            feed={"endpoints": [relay.endpoint]},
            send={"endpoint": refused},
            bridge={"drain_seconds": 60},
        ) as bridge:
            relay.wait_for_subscribers()
            relay.publish(Stream.ALERTS, pb.Alert(PodName="a"))
            eventually(lambda: bridge.balance("alerts")["held"] == 1, why="the record waits on disk")
            os.kill(bridge.process.pid, signal.SIGTERM)
            eventually(lambda: bridge.status()["state"] == "draining", why="it drains")
            assert bridge.process.insist(10) == 1
    ledger = invoke("ledger", "--queue-directory", str(bridge.queue_directory), "--output", "json").json()
    assert ledger["streams"]["alerts"]["held"] == 1


def hears(*lines: str) -> bool:
    """Whether a process that listens for stop signals, and does this, has heard one; it must say nothing else."""
    program = (
        "import signal, threading, time",
        "from otelbridge.cli.process import stop_on_signals",
        "stop = threading.Event()",
        "stop_on_signals(stop, 'ended')",
        *lines,
        "print(stop.wait(30))",
    )
    argv = [sys.executable, "-c", "\n".join(program)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_two_signals_at_once_are_one_request() -> None:
    assert hears("signal.raise_signal(signal.SIGTERM)", "signal.raise_signal(signal.SIGTERM)")


def test_a_signal_that_comes_while_the_main_thread_is_in_wait_is_not_lost() -> None:
    # As `wait` holds it for a moment at its beginning and its end.
    assert hears("with stop._cond: signal.raise_signal(signal.SIGTERM)")


def test_a_signal_that_another_thread_gets_is_not_lost() -> None:
    assert hears(
        "def get_it():",
        "    while not stop._cond._waiters: time.sleep(0)",
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)",
        "threading.Thread(target=get_it).start()",
        "stop.wait()",  # without a deadline, as the bridge waits: the main thread does not wake by itself
    )


def test_a_fault_of_what_a_hang_up_calls_leaves_the_thread_that_hears_signals_alive() -> None:
    program = (
        "import signal, sys, threading",
        "from otelbridge.cli.process import stop_on_signals",
        "stop, heard, calls = threading.Event(), threading.Event(), []",
        "def hang_up():",
        "    calls.append(1)",
        "    if len(calls) == 1: raise RuntimeError('unexpected')",
        "    heard.set()",
        "stop_on_signals(stop, 'ended', hang_up=hang_up)",
        "signal.raise_signal(signal.SIGHUP)",
        "while not calls: stop.wait(0.01)",
        "signal.raise_signal(signal.SIGHUP)",
        "back = heard.wait(30)",
        "signal.raise_signal(signal.SIGTERM)",
        "print(back, stop.wait(30))",
    )
    argv = [sys.executable, "-c", "\n".join(program)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert (ended.returncode, ended.stdout) == (0, "True True\n")
    assert ended.stderr == "The thread signals failed: RuntimeError: unexpected\n"


def test_the_demo_loses_nothing_and_says_so() -> None:
    ended = run("demo", "--act-seconds", "0.5", "--output", "json", within_seconds=90)
    outcome = json.loads(ended.stdout)
    assert (ended.returncode, outcome["passed"]) == (0, True)
    assert outcome["arrived_events"] == outcome["published"] > 0
    assert outcome["arrived_gaps"] >= 3
    assert "KubeArmor is killed" in ended.stderr


def test_simulate_publishes_what_it_says(tmp_path: Path) -> None:
    ended = run("simulate", "--port", "0", "--at-once", "--rate", "0", "--count", "25", "--output", "json")
    assert (ended.returncode, json.loads(ended.stdout)["published"]) == (0, 25)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"PodName": "a", "Typ": 1}\nnonsense\n', encoding="utf-8")
    partly = run("simulate", "--port", "0", "--at-once", "--rate", "0", "--source", str(bad))
    assert partly.returncode == 1
    assert f"Not an event: {bad}:2:" in partly.stderr
    assert "ignored: Typ" in partly.stderr


def test_simulate_refuses_what_it_does_not_know() -> None:
    for wrong in (
        ("--fault", "x"),
        ("--streams", "alert"),
        ("--cert-file", "x"),
        ("--rate", "-1"),
        ("--port", "65536"),
    ):
        assert invoke("simulate", *wrong).code == 2
    assert run("simulate", "--port", "0", "--source", "/nowhere").returncode == 3


def test_without_standard_streams_no_file_or_socket_takes_their_place(tmp_path: Path) -> None:
    command = 'exec "$@" 0<&- 1>&- 2>&-'
    words = ("run", "--queue-directory", str(tmp_path), "--status-port", "0", "--set", "telemetry.disabled=true")
    with subprocess.Popen(["sh", "-c", command, "sh", COMMAND, *words]) as bridge:
        try:
            eventually((tmp_path / "queue.db").exists, why="the queue is open", within_seconds=30)
            opened = {str(Path(f"/proc/{bridge.pid}/fd/{number}").readlink()) for number in range(3)}
        finally:
            bridge.terminate()
    assert (opened, bridge.returncode) == ({os.devnull}, 0)


def test_records_printed_to_a_stdout_that_is_closed_are_held(tmp_path: Path) -> None:
    words = ("--protocol", "console", "--status-port", "0", "--set", "bridge.drain_seconds=1")
    with Relay() as relay:
        command = ("run", "--kubearmor", relay.endpoint, "--queue-directory", str(tmp_path), *words)
        with subprocess.Popen(["sh", "-c", 'exec "$@" >&-', "sh", COMMAND, *command]) as bridge:
            try:
                relay.wait_for_subscribers()
                relay.publish(Stream.ALERTS, pb.Alert(PodName="a"))
                bridge.terminate()
                bridge.wait(60)
            finally:
                bridge.kill()
    ledger = invoke("ledger", "--queue-directory", str(tmp_path), "--output", "json").json()
    assert ledger["streams"]["alerts"]["held"] == 1
