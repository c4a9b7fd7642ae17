"""What goes when there is no room: a policy and the newcomer's stream go in, the streams to shed from come out."""

from __future__ import annotations

from typing import Literal

from otelbridge.event import Stream

Policy = Literal["drop_oldest", "drop_newest", "logs_first"]

# From what can be missed most easily to what must never be missed. Gap records are few, small, and the only witnesses
# of what could not be seen, so every policy spares them until nothing else is left.
SHEDDING_ORDER = (Stream.LOGS, Stream.MESSAGES, Stream.ALERTS, Stream.GAPS)


def shed_from(policy: Policy, newcomer: Stream) -> tuple[tuple[Stream, ...], ...]:
    """Groups of streams to shed from, one group after the other; within a group, the oldest batch goes first.

    When all groups are empty, the newcomer itself goes.
    """
    if newcomer is Stream.GAPS or policy == "drop_oldest":
        return ((Stream.LOGS, Stream.MESSAGES, Stream.ALERTS), (Stream.GAPS,))
    if policy == "drop_newest":
        return ()
    return tuple((stream,) for stream in SHEDDING_ORDER[: SHEDDING_ORDER.index(newcomer) + 1])
