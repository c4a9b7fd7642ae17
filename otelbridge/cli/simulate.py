"""`otelbridge simulate`: a KubeArmor on a port, or (`simulate endpoint`) an OTLP endpoint that counts what it takes."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from otelbridge.cli.application import Commands, OutputOption
from otelbridge.cli.output import Exit, Output, fail, print_json, print_json_line, print_table, say
from otelbridge.cli.process import stop_on_signals
from otelbridge.event import UPSTREAM_STREAMS, Stream
from otelbridge.net.address import DEFAULT_PORT, HIGHEST_PORT
from otelbridge.send.settings import OTLP_GRPC_PORT, OTLP_HTTP_PORT
from otelbridge.setting import did_you_mean
from otelbridge.simulator.endpoint import MIB, OtlpEndpoint, attributes, logs_in, plain
from otelbridge.simulator.endpoint_answers import ZOO, Request, answers_of, zoo_table
from otelbridge.simulator.faults import FaultError, faults_table, parse_fault
from otelbridge.simulator.listening import ServerTls
from otelbridge.simulator.serve import PublishPace, SimulateOptions, SourceError, Summary, serve
from otelbridge.simulator.upstream import NODE, RELAY

EXAMPLES = (
    "otelbridge simulate --source generated --rate 100",
    "otelbridge simulate --source events.jsonl --loop --fault restart:5s-every:60s",
)
HELP = "Play KubeArmor on a port. Events are recorded, generated or given; faults come on schedule."
ENDPOINT_EXAMPLES = ("otelbridge simulate endpoint", "otelbridge simulate endpoint --print --answer bad-sources")
MAX_REQUEST_BYTES = 64 * MIB
"""What the OTLP specification recommends to servers."""


def simulate(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=HIGHEST_PORT, help="Port to listen on; 0 takes a free one.")
    ] = DEFAULT_PORT,
    node: Annotated[bool, typer.Option("--node", help="Behave as a node's KubeArmor, not as the relay.")] = False,
    source: Annotated[
        str,
        typer.Option(
            help="samples, generated, attack, flood, flood:KINDS, or a file of events as JSON, in any layout."
        ),
    ] = "samples",
    streams: Annotated[str, typer.Option(help="Streams to publish on.")] = "alerts,logs,messages",
    rate: Annotated[float, typer.Option(help="Events a second; 0 means as fast as possible.")] = 10,
    burst: Annotated[int, typer.Option(help="Events published together.")] = 1,
    count: Annotated[int | None, typer.Option(help="End after so many events.")] = None,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start over at the end of the source.")] = False,
    stay: Annotated[bool, typer.Option("--stay", help="Keep serving after the last event.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of generated events.")] = 1,
    recorded_times: Annotated[bool, typer.Option("--recorded-times", help="Keep the events' own times.")] = False,
    at_once: Annotated[bool, typer.Option("--at-once", help="Do not wait for a subscriber.")] = False,
    nodes: Annotated[int, typer.Option(min=0, help="Nodes behind the relay that take turns in sending.")] = 0,
    roads: Annotated[
        str,
        typer.Option(
            metavar="SHARES",
            help="Relays with the same events, on --port and the next ports: the share that each drops, as 0,0.05.",
        ),
    ] = "0",
    fault: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="What goes wrong, such as freeze:20s@30s. Repeatable.")
    ] = None,
    cert_file: Annotated[Path | None, typer.Option(help="Server certificate, for TLS.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Key of the server certificate.")] = None,
    client_ca_file: Annotated[Path | None, typer.Option(help="CA of the clients, for mutual TLS.")] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Print what --fault knows, and exit.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Serves KubeArmor's LogService, unless a subcommand is asked for."""
    if context.invoked_subcommand is not None:
        return

    if list_faults:
        print(faults_table())
        return

    if bool(cert_file) != bool(key_file) or (client_ca_file and not cert_file):
        fail("Wrong usage: --cert-file and --key-file go together, and --client-ca-file needs them", Exit.WRONG_USAGE)
    tls = None
    if cert_file and key_file:
        tls = ServerTls(cert_file=cert_file, key_file=key_file, client_ca_file=client_ca_file)
    try:
        options = SimulateOptions(
            host=host,
            port=port,
            profile=NODE if node else RELAY,
            tls=tls,
            source=source,
            streams=tuple(map(_stream, streams.split(","))),
            loop=loop,
            seed=seed,
            pace=PublishPace(per_second=rate or None, burst=burst, count=count, duration_seconds=duration),
            fresh_times=not recorded_times,
            wait_for_subscriber=not at_once,
            stay=stay,
            nodes=nodes,
            faults=tuple(map(parse_fault, fault or ())),
            roads=_shares(roads, nodes),
        )
    except (ValueError, FaultError) as error:
        fail(f"Wrong usage: {error}", Exit.WRONG_USAGE)
    _tell_summary(_served(options), output)


def _stream(name: str) -> Stream:
    known = tuple(map(str, UPSTREAM_STREAMS))
    if name.strip() not in known:
        raise ValueError(f"--streams {name}: it is none of {', '.join(known)}. {did_you_mean(name, known)}".rstrip())
    return Stream(name.strip())


def _shares(text: str, nodes: int) -> tuple[float, ...]:
    try:
        shares = tuple(map(float, text.split(",")))
    except ValueError:
        shares = ()
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"--roads {text}: write a share from 0 to 1 for each road, such as 0,0.05")
    if nodes and len(shares) > 1:
        raise ValueError("--nodes are behind one relay, and --roads asks for several: leave one of them out")
    return shares


def _served(options: SimulateOptions) -> Summary:
    until = threading.Event()
    stop_on_signals(until, "Stopped.")

    def ready(endpoint: str) -> None:
        say(f"Serving KubeArmor's LogService on {endpoint} (Ctrl-C ends it).")

    try:
        return serve(options, until=until, ready=ready, tell=lambda fault: say(f"Fault: {fault}"))
    except SourceError as error:
        fail(f"Nothing to send: {error}", Exit.FAILED)
    except OSError as error:
        unreadable = f"{error.filename} cannot be read: {error.strerror}." if error.filename else str(error)
        fail(unreadable, Exit.UNREACHABLE)


def _tell_summary(summary: Summary, output: Output) -> None:
    for line in summary.bad_lines:
        say(f"Not an event: {line}")
    if summary.unknown_keys:
        say(f"Keys that KubeArmor has no field for, ignored: {', '.join(summary.unknown_keys)}")
    if any(summary.lost):
        say(f"Dropped by the roads, by their shares: {', '.join(map(str, summary.lost))} of {summary.published}.")
    if output is Output.JSON:
        print_json(asdict(summary))
    else:
        rows = [(str(stream), c.published, c.sent, c.dropped, c.unheard) for stream, c in summary.counts.items()]
        numbers = ("published", "sent", "dropped", "unheard")
        print_table(("stream", *numbers), rows, numbers=numbers)
    if summary.bad_line_count:
        raise typer.Exit(Exit.FAILED)


def endpoint(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[
        int, typer.Option(min=0, max=HIGHEST_PORT, help="Port for OTLP/gRPC; 0 takes a free one.")
    ] = OTLP_GRPC_PORT,
    http_port: Annotated[
        int, typer.Option(min=0, max=HIGHEST_PORT, help="Port for OTLP/HTTP; 0 takes a free one.")
    ] = OTLP_HTTP_PORT,
    token: Annotated[str, typer.Option(help="Bearer token that each request must carry.")] = "",
    answer: Annotated[
        str, typer.Option(metavar="NAME", help="How to answer requests for logs; --list-answers names them.")
    ] = "ok",
    print_records: Annotated[
        bool, typer.Option("--print", help="Print each log record as a line of JSON, as it comes.")
    ] = False,
    list_answers: Annotated[bool, typer.Option("--list-answers", help="Print what --answer knows, and exit.")] = False,
) -> None:
    """Play an OTLP endpoint on two ports.

    Takes logs, traces and metrics over gRPC and HTTP, counts them, and prints the counts at the end.
    """
    if list_answers:
        print(zoo_table())
        return
    if answer not in ZOO:
        hint = did_you_mean(answer, ZOO) or "--list-answers names them."
        fail(f"Wrong usage: there is no answer {answer!r}. {hint}", Exit.WRONG_USAGE)
    until = threading.Event()
    stop_on_signals(until, "Stopped.")
    try:
        with OtlpEndpoint(
            grpc_port,
            http_port,
            host=host,
            keep=False,
            token=token,
            max_request_bytes=MAX_REQUEST_BYTES,
            answers=answers_of(answer),
            show=_print_records if print_records else lambda _: None,
        ) as playing:
            print_json_line({"grpc": playing.grpc_endpoint, "http": playing.http_endpoint})
            until.wait()
            counts = playing.counts()
    except OSError as error:
        fail(f"cannot listen: {error.strerror}" if error.strerror else str(error), Exit.UNREACHABLE)
    print_json(asdict(counts))


def _print_records(request: Request) -> None:
    """Each log record as a line of JSON, in pure ASCII; in one write, as several threads print."""
    if request.signal != "logs":
        return
    documents = (
        {
            "event": log.record.event_name,
            "severity": log.record.severity_text,
            "body": plain(log.record.body),
            "attributes": attributes(log.record.attributes),
            "resource": attributes(log.resource.attributes),
        }
        for log in logs_in(request.body)
    )
    sys.stdout.write("".join(f"{json.dumps(document, default=str)}\n" for document in documents))
    sys.stdout.flush()


COMMANDS: Commands = (("endpoint", endpoint, ENDPOINT_EXAMPLES),)
