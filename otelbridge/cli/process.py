"""Sets up the process: standard streams, signals, few heaps, a collector that skips what stays, gRPC reads that sleep.

SIGTERM and SIGINT set an event, a later one of them ends the process as `kill -9` would; SIGHUP calls a function.
docs/decisions/memory.md has the figures on memory.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import FrameType

from otelbridge.cli.output import Exit
from otelbridge.telemetry.events import Event, ThreadFailed
from otelbridge.telemetry.supervisor import Pulse, SupervisedThread

STANDARD_STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def open_standard_streams() -> None:
    """Gives `/dev/null` the number of each that we were started without.

    Or the next file or socket gets it, and what gRPC has to say. Writing to stdout fails as before: no record that is
    printed there counts as delivered.
    """
    for descriptor, (name, mode, flags) in enumerate(STANDARD_STREAMS):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # gets the lowest number that is free
            if name != "stdin":  # who reads it says that it was closed
                setattr(sys, name, open(descriptor, mode))  # noqa: SIM115, PTH123 - for as long as we live


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_REQUEST_SECONDS = 0.2
"""Signals so close together are one request: `timeout` and many wrappers signal the process, then its whole group."""
READ_BYTES = 64
STDERR = 2


def stop_on_signals(stop: threading.Event, last_words: str, *, hang_up: Callable[[], None] | None = None) -> Pulse:
    """Installs the handlers.

    Python runs a handler in the main thread, between two of its instructions. That thread waits for the very event: it
    may hold the event's lock just then, and it is not woken at all where the kernel gave the signal to another thread
    (seen once in some 200 lives). So the handler does nothing. Whichever thread gets the signal, Python's part in C
    writes its number to a pipe, and a thread of ours reads it.

    Args:
        stop: is set by the first signal.
        last_words: written to stderr when a second request ends the process without further ado.
        hang_up: called for each SIGHUP; must return at once. Without it SIGHUP ends the process.

    Returns the pulse of the thread that hears them.
    """
    receiving, waking = os.pipe()
    os.set_blocking(waking, False)  # as `set_wakeup_fd` wants it

    asked_at: float | None = None
    came: set[int] = set()
    """What nobody has acted on yet."""

    def act() -> bool:
        nonlocal asked_at
        came.update(() if came else os.read(receiving, READ_BYTES))
        if came.intersection(STOP_SIGNALS):
            now = time.monotonic()
            asked_at = now if asked_at is None else asked_at
            if now - asked_at > SAME_REQUEST_SECONDS:
                _write(last_words)
                os._exit(Exit.FAILED)
            stop.set()
            came.difference_update(STOP_SIGNALS)
        if signal.SIGHUP in came and hang_up is not None:
            hang_up()
        came.clear()
        return True

    # It listens until the process ends, and so before there is a bridge that could be told of a fault.
    thread = SupervisedThread("signals", act, tell=_say, pulse=Pulse("signals", may_block=True))
    thread.start()
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, *((signal.SIGHUP,) if hang_up is not None else ())):
        signal.signal(number, _do_nothing)
    return thread.pulse


def _say(event: Event) -> None:
    if isinstance(event, ThreadFailed):
        _write(f"The thread {event.thread} failed: {event.error}")


def _write(line: str) -> None:
    """To stderr, where it is open and takes something at once: a log that nobody reads must not keep us from ending."""
    with suppress(OSError, ValueError):
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, f"{line}\n".encode(errors="backslashreplace"))


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Does nothing: without a handler, the signal's number would not be written to the wake-up descriptor."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of mallopt(3)."""
HEAPS = 2
LARGE_BLOCK_BYTES = 1024 * 1024
SPARE_BYTES = 4 * 1024 * 1024

YOUNG_OBJECTS, YOUNG_ROUNDS = 700, 10
"""Python's defaults: what starts a round over the youngest, and how many of them one over the middle generation."""
MIDDLE_ROUNDS = 1_000
"""For one full round. At 10,000 events/s that is one in some minutes, which finds hardly anything to look at."""


def limit_heaps() -> None:
    """Gives all threads that start from now on few heaps in common, and large blocks back to the system once freed.

    Of the C libraries glibc alone can do that. By itself it keeps what it has met once: after the first event of 15 MiB
    all later ones leave holes in the heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, HEAPS)
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection while modules are imported: they leave 100 objects of 70,000 behind, and it took 50 ms."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


DIGESTS = (
    "_md5",
    "_sha1",
    "_sha3",
    "_blake2",
    *(("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")),
)
"""hashlib's own."""


def import_without_openssl(*names: str) -> None:
    """Imports modules that use OpenSSL where it is there and do without it otherwise, as Python allows for: 4 MiB.

    Of asyncio, which grpc brings, nothing here is used; hashlib mostly has the digests itself, but some distributions
    leave them out. Whoever needs TLS imports ssl later, and has it.
    """
    spared = ("_ssl", "_hashlib") if all(map(find_spec, DIGESTS)) else ("_ssl",)
    hidden = [name for name in spared if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import of it fails
    try:
        for name in names:
            import_module(name)
    finally:
        for name in hidden:
            del sys.modules[name]


LOOK_PERIOD = "g_interrupt_check_period_ms"
"""A variable of grpcio's Cython layer, which its own support of gevent sets to 2,000."""
LONGEST_SLEEP_MS = 3_600_000


def let_reads_sleep() -> None:
    """Lets a read of gRPC's that is blocked sleep until something comes.

    By itself it wakes five times a second and looks for signals, which only the main thread can handle: fifteen
    wake-ups for three streams, which hand the polling of the sockets over to one another besides. Where this grpcio has
    no such variable, nothing is changed.
    """
    from grpc._cython import cygrpc  # noqa: PLC0415 - for the bridge alone

    variable = getattr(cygrpc, "__pyx_capi__", {}).get(LOOK_PERIOD)
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    with suppress(ValueError):  # it is no `int`
        if variable is not None:
            ctypes.c_int.from_address(address(variable, b"int")).value = LONGEST_SLEEP_MS


def spare_what_stays() -> None:
    """Excludes all present objects from garbage collection, and makes full collections rare."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, MIDDLE_ROUNDS)
