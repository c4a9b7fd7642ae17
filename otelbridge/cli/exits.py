"""The exit codes, the same for every command."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    """It ran, and the answer is no: an event did not parse, the ledger does not balance."""
    WRONG_USAGE = 2
    """The command line or the settings are wrong."""
    UNREACHABLE = 3
    """Something in the environment (a server, a file in use) is not there for us."""
