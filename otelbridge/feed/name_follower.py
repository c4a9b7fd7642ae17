"""A name with many addresses behind it (a headless service), in; addresses to add and to remove, out, as it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from otelbridge.feed.address import Address
from otelbridge.feed.errand import run_errand
from otelbridge.feed.resolver import Resolve
from otelbridge.telemetry.happenings import Tell, UpstreamsChanged, UpstreamsUnknown
from otelbridge.telemetry.pulse import Pulse

RESOLVE_PAUSE_SECONDS = 10.0
RESOLVE_SECONDS = 10.0
PULSE_SECONDS = 1.0

ABSENCES = 3
"""An address is given up after it was missing from so many answers in a row: answers of DNS may be cut short."""


class Membership:
    """Which addresses are behind a name. Pure: answers come in."""

    def __init__(self) -> None:
        self._absences: dict[Address, int] = {}

    def changes(self, found: Iterable[Address]) -> tuple[list[Address], list[Address]]:
        """What one more answer adds, and what it removes."""
        present = dict.fromkeys(found)
        added = [address for address in present if address not in self._absences]
        for address in self._absences:
            self._absences[address] = 0 if address in present else self._absences[address] + 1
        removed = [address for address, absences in self._absences.items() if absences >= ABSENCES]
        for address in removed:
            del self._absences[address]
        self._absences.update(dict.fromkeys(added, 0))
        return added, removed


class NameFollower:
    """Owns a thread that asks again and again. A name that does not resolve changes nothing."""

    def __init__(
        self,
        name: Address,
        *,
        resolve: Resolve,
        add: Callable[[Address], None],
        remove: Callable[[Address], None],
        tell: Tell,
    ) -> None:
        self.pulse = Pulse(f"follow {name}")
        self._name = name
        self._resolve = resolve
        self._add = add
        self._remove = remove
        self._tell = tell
        self._membership = Membership()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.pulse.name, daemon=True)

    def start(self) -> None:
        """Starts asking."""
        self._thread.start()

    def stop(self) -> None:
        """Asks for the end; does not wait."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for that end; False when it has not come after the deadline."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._ask()
            left = RESOLVE_PAUSE_SECONDS
            while left > 0 and not self._stopping.wait(min(left, PULSE_SECONDS)):
                self.pulse.beat()
                left -= PULSE_SECONDS

    def _ask(self) -> None:
        host, port = self._name.host, self._name.port
        try:
            found = run_errand(
                lambda: self._resolve(host, port),
                name=f"resolve {host}",
                timeout_seconds=RESOLVE_SECONDS,
                stopping=self._stopping,
            )
        except OSError as error:
            if not self._stopping.is_set():
                self._tell(UpstreamsUnknown(name=str(self._name), why=str(error)))
            return
        added, removed = self._membership.changes(Address(host=ip, port=port) for ip in found)
        for address in added:
            self._add(address)
        for address in removed:
            self._remove(address)
        if added or removed:
            self._tell(
                UpstreamsChanged(
                    name=str(self._name),
                    added=tuple(str(address) for address in added),
                    removed=tuple(str(address) for address in removed),
                )
            )
