"""`otelbridge coverage`: when each node, namespace and policy was last heard of, and whether that silence is usual."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import typer

from otelbridge.cli.application import OutputOption
from otelbridge.cli.output import Exit, Output, age_in_words, fail, in_words, print_json, print_table
from otelbridge.cli.status_client import status_or_exit
from otelbridge.event import NANOSECONDS
from otelbridge.status.document import CoverageDocument
from otelbridge.status.settings import DEFAULT_STATUS_PORT
from otelbridge.telemetry.coverage import CoverageAnswer, SubjectKind, policies_in
from otelbridge.telemetry.escape import escape

EXAMPLES = (
    "otelbridge coverage --url http://127.0.0.1:32799",
    "kubectl get ksp,csp,hsp -A -o json | otelbridge coverage --policies -",
)
MAX_POLICIES_BYTES = 64 * 1024 * 1024
WORDS = {
    CoverageAnswer.USUAL: "as usual",
    CoverageAnswer.SILENT: "silent for longer than usual",
    CoverageAnswer.UNKNOWN: "blind meanwhile: unknown",
    CoverageAnswer.NEVER: "never since the start",
}


def coverage(
    *,
    url: Annotated[
        str, typer.Option(metavar="URL", help="The status address of a running bridge.")
    ] = f"http://127.0.0.1:{DEFAULT_STATUS_PORT}",
    policies: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What `kubectl get ksp,csp,hsp -A -o json` prints; - for standard input."),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Find nodes, namespaces and policies that are unusually silent.

    Compares how long each of them has been silent with its own usual interval. Exits with 1 if one has been silent for
    longer.
    """
    found = of_running_bridge(url)
    existing = _policies(policies) if policies else []
    never = sorted(set(existing) - {one["name"] for one in found if one["kind"] == SubjectKind.POLICY})
    if output is Output.JSON:
        print_json({"subjects": found, "policies_that_never_fired": never})
    else:
        rows = [
            (one["kind"], one["name"], WORDS[CoverageAnswer(one["answer"])], _last(one), _usual(one)) for one in found
        ]
        print_table(("kind", "name", "answer", "last heard of", "usual interval"), rows)
        for name in never:
            print(f"policy {escape(name)} has never fired, as far as this bridge knows")
    if any(one["answer"] == CoverageAnswer.SILENT for one in found):
        raise typer.Exit(Exit.FAILED)


def of_running_bridge(url: str) -> list[CoverageDocument]:
    """What a bridge knows; ends the command when there is no answer."""
    document = status_or_exit(url)
    found = document.get("coverage")
    if found is None and "ledger" in document:
        fail("Coverage is off: set telemetry.coverage to true, and restart the bridge.", Exit.FAILED)
    if not _is_coverage(found):
        fail(f"{url} answers, but not with a bridge's status.", Exit.UNREACHABLE)
    return found


def _is_coverage(found: Any) -> TypeGuard[list[CoverageDocument]]:
    try:
        return all(
            SubjectKind(one["kind"]) and CoverageAnswer(one["answer"]) and isinstance(one["name"], str) for one in found
        )
    except (TypeError, KeyError, ValueError):
        return False


def _policies(source: str) -> list[str]:
    name = "standard input" if source == "-" else source
    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
            content = file.read(MAX_POLICIES_BYTES + 1)
        if len(content) > MAX_POLICIES_BYTES:
            fail(f"{name} is larger than {MAX_POLICIES_BYTES >> 20} MiB.", Exit.FAILED)
        if not content.strip():
            fail(f"{name} is empty: did kubectl print an error?", Exit.FAILED)
        return policies_in(json.loads(content))
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror or error}", Exit.UNREACHABLE)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        fail(f"{name} is not JSON, as `kubectl get ksp,csp,hsp -A -o json` prints it: {error}", Exit.FAILED)
    except ValueError as error:
        fail(f"{name} cannot be used: {error}", Exit.FAILED)


def _last(one: CoverageDocument) -> str:
    return in_words(int(one["last_unix_seconds"] * NANOSECONDS))


def _usual(one: CoverageDocument) -> str:
    return "not known yet" if one["usual_seconds"] is None else age_in_words(one["usual_seconds"])
