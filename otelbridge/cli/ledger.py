"""`otelbridge ledger`: shows the balance of a queue or of a running bridge, and whether an event was lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, Any, TypeGuard

import typer

from otelbridge.cli.application import ConfigOption, OutputOption, QueueDirectoryOption, SetOption
from otelbridge.cli.loading import load_or_exit
from otelbridge.cli.output import Exit, Output, fail, print_json, print_table
from otelbridge.cli.status_client import status_or_exit
from otelbridge.queue.inspect import inspect
from otelbridge.queue.model import QueueUnusable
from otelbridge.status.document import AccountsDocument, LedgerDocument, ledger_document

EXAMPLES = ("otelbridge ledger --queue-directory /var/lib/otelbridge", "otelbridge ledger --url http://127.0.0.1:32799")
COLUMNS = ("received", "delivered", "rejected", "dropped", "filtered", "summarised", "doubled", "held", "missing")


def ledger(
    *,
    config: ConfigOption = None,
    sets: SetOption = None,
    queue_directory: QueueDirectoryOption = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a running bridge at its status address instead.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say whether a record is missing.

    Prints the balance: received = delivered + rejected + dropped + filtered + summarised + doubled + held.
    Exits with 1 if it does not hold.
    """
    if url:
        document = of_running_bridge(url)
    else:
        loaded = load_or_exit(config, sets, check_files=False, quiet=True, queue_directory=queue_directory)
        document = of_queue(loaded.settings.queue.directory)
    if output is Output.JSON:
        print_json(document)
    else:
        print_ledger(document)
    if not document["balanced"]:
        raise typer.Exit(Exit.FAILED)


def of_queue(directory: Path) -> LedgerDocument:
    """The ledger in a queue folder, whether a bridge runs on it or not; ends the command when it cannot be read."""
    try:
        with inspect(directory) as found:
            if not found.checkpoint_readable:
                fail(f"The ledger in {found.path} cannot be read.", Exit.FAILED)
            ledger, held = found.ledger(), found.held()
            return ledger_document(ledger.postings(), held=held, residue=ledger.residue(held))
    except QueueUnusable as error:
        fail(str(error), Exit.UNREACHABLE)
    except sqlite3.Error as error:
        fail(f"The queue in {directory} cannot be read: {error}", Exit.UNREACHABLE)


def of_running_bridge(url: str) -> LedgerDocument:
    """The ledger of a bridge that is asked at its status address; ends the command when there is no answer."""
    found = status_or_exit(url, hint="Where none runs, --queue-directory reads its folder.").get("ledger")
    if not _is_ledger(found):
        fail(f"{url} answers, but not with a bridge's status.", Exit.UNREACHABLE)
    return found


def _is_ledger(document: Any) -> TypeGuard[LedgerDocument]:
    try:
        rows = [_row(accounts) for accounts in document["streams"].values()]
    except (AttributeError, KeyError, TypeError):
        return False
    return isinstance(document.get("balanced"), bool) and all(isinstance(number, int) for row in rows for number in row)


def print_ledger(document: LedgerDocument) -> None:
    """The balance as a table, where dropped and filtered records went, and the verdict."""
    streams = {name: accounts for name, accounts in document["streams"].items() if any(_row(accounts))}
    rows = [(name, *_row(accounts)) for name, accounts in streams.items()]
    rows.append(("all", *(sum(column) for column in zip(*map(_row, document["streams"].values()), strict=True))))
    print_table(("stream", *COLUMNS), rows, numbers=COLUMNS)
    for account in ("dropped", "filtered"):
        for name, accounts in streams.items():
            for reason, records in accounts[account].items():
                print(f"{name}: {records} {account} ({reason})")
    print(verdict(document))


def verdict(document: LedgerDocument) -> str:
    """The answer in one sentence."""
    residues = {name: accounts["residue"] for name, accounts in document["streams"].items() if accounts["residue"]}
    faulty = [f"{records:+d} {name}" for name, records in residues.items()]
    return f"The ledger does not balance: {', '.join(faulty)}." if faulty else "No record is missing."


def _row(accounts: AccountsDocument) -> tuple[int, ...]:
    dropped, filtered = sum(accounts["dropped"].values()), sum(accounts["filtered"].values())
    left = (accounts["summarised"], accounts.get("doubled", 0), accounts["held"], accounts["residue"])
    return (accounts["received"], accounts["delivered"], accounts["rejected"], dropped, filtered, *left)
