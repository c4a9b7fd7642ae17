"""Grows trees of processes from what events say of them: sightings in, spans out; knows no clock and no encoding.

KubeArmor reports execs, but neither forks nor exits, drops events, and sends others late: the rules for that are those
of docs/decisions/process-traces.md. Memory is bounded, whatever is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b
from typing import Any

SECOND = 1_000_000_000
LONGEST_SECONDS = 60.0
"""A process that is never quiet becomes a span after so long, and goes on in another."""
MAX_OPEN = 10_000
MAX_SENT = 10_000
"""Processes whose span was sent, and that are remembered as parents of others."""
MAX_FORGOTTEN = 4 * MAX_SENT
"""Of those that are not, their ids are: no span may have the id of another."""
MAX_TEXT_BYTES = 8 * 1024 * 1024
"""Of the texts and events of processes that are not sent yet."""
PROCESS_BYTES = 512
"""About what a process takes without its texts."""
MAX_EVENTS = 128
"""On one span, as OpenTelemetry's SDKs have it by default; the others are counted."""
MAX_TRACES = 4_096
MAX_ANCESTORS = 256
"""So far up is looked for a process that would be its own ancestor."""
TASK_NAME_CHARS = 15
"""The kernel keeps no more of a task's name."""
TWIN_NANOS = 2 * SECOND
"""An exec comes twice, in an alert and in a log, or blocked and seen."""
FNV_PRIME = 0x100_0000_01B3
UINT64 = (1 << 64) - 1
HOUR_NANOS = 3600 * SECOND
LOW_HALF = 0xFFFF_FFFF
FIRST_BIT = 1
"""Of 64; a literal would be one of 32 where it is compiled."""


class TraceKind(StrEnum):
    """What a trace is about; its root says so."""

    EXEC_SESSION = "exec_session"
    CONTAINER = "container"
    HOST = "host"


class Start(StrEnum):
    """How the start of a process is known, the best last."""

    CHILD = "child"
    """Only its children have spoken of it, the first of them then."""
    FIRST_EVENT = "first_event"
    EXEC = "exec"


CHILD, FIRST_EVENT, EXEC = Start  # a member that is asked of its class costs as much as a look-up in the tree
EXEC_SESSION = TraceKind.EXEC_SESSION


class Place:
    """Where a process runs."""

    __slots__ = ("is_host", "name")

    def __init__(self, cluster: str, node: str, container_id: str) -> None:
        self.name = f"{cluster}\0{node}\0{container_id}"
        self.is_host = not container_id
        """It is one of the node's own."""


class Program:
    """What processes run, and whose children they are. Empty texts are unknown."""

    __slots__ = ("exec_id", "executable", "image", "in_session", "parent_executable", "parent_image", "task")

    def __init__(self, exec_id: str, executable: str, parent_executable: str, task: str) -> None:
        self.exec_id = exec_id
        """As KubeArmor writes it: `0` outside of any exec session, empty where that is not said."""
        self.in_session = exec_id != "0" and exec_id.isascii() and exec_id.isdigit() and len(exec_id) <= 20  # noqa: PLR2004  # digits of a uint64
        self.executable, self.parent_executable = executable, parent_executable
        self.image, self.parent_image = hash(executable), hash(parent_executable)
        """The hash of an empty text is 0."""
        self.task = task
        """The task's name; of an exec, the one before it."""


class Sighting:
    """What one event says of a process and its parent. Zeros are unknown; the pid is not."""

    __slots__ = ("is_exec", "parent_pid", "parent_vpid", "pid", "place", "program", "unix_nano", "vpid")

    def __init__(self, place: Place, program: Program, pid: int = 0, parent_pid: int = 0, unix_nano: int = 0) -> None:
        self.place, self.program = place, program
        self.pid, self.parent_pid, self.unix_nano = pid, parent_pid, unix_nano
        self.vpid = self.parent_vpid = 0
        """In the container's numbering; where they repeat the node's, they tell nothing."""
        self.is_exec = False
        """It was executed; one that was denied, or failed, was not."""


Scope = tuple[str, int]
"""A place's name, and a pid in it."""


class Process:
    """One process of one trace. Belongs to its tree; others read it."""

    __slots__ = (
        "after", "before", "born", "came_back", "command_line", "continues", "denied", "dropped_events", "earlier",
        "end", "events", "executable", "executed", "image", "is_open", "opened", "own_id", "parent", "parent_pid",
        "pid", "recency", "scope", "several", "size", "span_id", "start", "start_known", "taken", "touched", "trace",
        "vpid",
    )  # fmt: skip

    def begin(self, trace: Trace, pid: int, vpid: int, birth: int) -> None:
        """Begins the process; `open` its first span."""
        self.trace = trace
        self.pid = pid
        """In the node's numbering; 0 for a trace's root."""
        self.vpid = vpid
        self.own_id = trace.span_id(pid, vpid, birth)
        """The 64 bits of its first span's id, the first byte lowest."""
        self.parent: Process | None = None
        self.earlier: Process | None = None
        """The process that had the pid before."""
        self.born = birth
        """The latest time that is part of the id of one who had its pid."""
        self.taken = 0
        """Bits of the pids in the container that others had who had its pid: a new one of them needs another id."""
        self.scope: Scope | None = None
        """Where it is the one that its exec session is known by."""
        self.parent_pid = 0
        self.image = self.executed = 0
        """The hash of its executable's path, and when it was last executed, as far as is known."""
        self.continues = False
        """Its span goes on with one that was sent before."""
        self.came_back = False
        """It was forgotten meanwhile, and so were its ancestors."""
        self.recency: Recency | None = None
        """Where it stands, between two others."""
        self.before: Process | None = None
        self.after: Process | None = None

    def open(self, span_id: int, unix_nano: int, now: float) -> None:
        """Begins a span."""
        self.span_id = span_id
        self.start = self.end = unix_nano
        self.start_known = CHILD
        self.opened = self.touched = now
        self.executable = self.command_line = self.denied = ""
        """`denied` is what the first denial said."""
        self.events: list[bytes] | None = None
        """Encoded as fields of the span; the first ones."""
        self.several: set[bytes] | None = None
        """The same, once there are several."""
        self.dropped_events = 0
        self.size = PROCESS_BYTES
        self.is_open = True

    def is_orphan(self) -> bool:
        """Whether nobody has named its parent: it hangs at the trace's root."""
        return self.parent is not None and self.parent.pid == 0


class Recency:
    """Processes in the order in which they were last spoken of."""

    __slots__ = ("first", "last", "length")

    def __init__(self) -> None:
        self.first: Process | None = None
        self.last: Process | None = None
        self.length = 0

    def append(self, process: Process) -> None:
        """Puts one at the end that stands nowhere."""
        process.recency, process.before = self, self.last
        if self.last is None:
            self.first = process
        else:
            self.last.after = process
        self.last = process
        self.length += 1

    def remove(self, process: Process) -> None:
        """Takes out one that stands in it."""
        before, after = process.before, process.after
        if before is None:
            self.first = after
        else:
            before.after = after
        if after is None:
            self.last = before
        else:
            after.before = before
        process.recency = process.before = process.after = None
        self.length -= 1

    def move_to_end(self, process: Process) -> None:
        """Of one that stands in it."""
        if process is not self.last:
            self.remove(process)
            self.append(process)


class Trace:
    """One trace, found again by what it is about."""

    __slots__ = ("basis", "id", "kind", "known", "leader", "of_record", "of_span", "resource")

    def __init__(self, kind: TraceKind, *about: str) -> None:
        self.kind = kind
        self.id = blake2b("\0".join((kind, *about)).encode(), digest_size=16).digest()
        self.basis = int.from_bytes(self.id[:8], "little")
        self.of_record = b"\x4a\x10" + self.id + b"\x52\x08"
        """What stands before a span's id in a record of it: LogRecord.trace_id = 9, and .span_id = 10."""
        self.of_span = b"\x0a\x10" + self.id + b"\x12\x08"
        """The same in a Span, where they are 1 and 2."""
        self.leader = ""
        """The whole id of the exec session, once a process that was not forked has said it."""
        self.resource = b""
        """The encoded Resource, as the last event has it."""
        self.known: dict[int, Process] = {}
        """Its processes, by their pids."""

    def span_id(self, pid: int, vpid: int, birth: int) -> int:
        """Of a process: a hash of its pids, as far as the one in the container tells anything, and of a time.

        FNV-1a, fed with numbers instead of bytes: one to one for pids, and a third of the cost of a digest.
        """
        return _hashed(_hashed(self.basis ^ (vpid << 32 if vpid != pid else 0), pid), birth)


def _hashed(before: int, number: int) -> int:
    """One more number in a hash."""
    return (before ^ number) * FNV_PRIME & UINT64


class ProcessTree:
    """The processes of all traces. Not thread-safe: it belongs to the encoder's thread.

    A process of which no event has spoken for `quiet_seconds` becomes a span.
    """

    def __init__(self, quiet_seconds: float, finish: Callable[[Process], Any]) -> None:
        self.quiet_seconds = quiet_seconds
        self.finish = finish
        self._traces: dict[object, Trace] = {}
        """By a place's name; with the hour, or the exec session, where there is one."""
        self._sessions: dict[Scope, Process] = {}
        """Of processes that are known to be in an exec session, for events that do not say it."""
        self._known: dict[bytes, dict[int, Process]] = {}
        """Whoever has the pid in a trace, by its id, open or sent, as long as there are some: for one that is found
        again."""
        self._open, self._sent = Recency(), Recency()
        self._forgotten: dict[int, int] = {}
        """The ids of the first and the last span of each process that is known no more by its pid."""
        self._forgotten_before: dict[int, int] = {}
        """The same of those that were forgotten before."""
        self._due: list[Any] = []
        self._open_bytes = 0
        self.spans = self.orphans = self.early = 0
        """Spans made; those of them whose parent is unknown; those that were made early for want of room."""

    def __len__(self) -> int:
        """Processes that are not sent yet."""
        return self._open.length

    def crowded(self) -> bool:
        """Whether spans have to be sent early."""
        return self._open.length > MAX_OPEN or self._open_bytes > MAX_TEXT_BYTES

    def remembered(self) -> int:
        """Processes whose span was sent."""
        return self._sent.length

    # --- events in ---

    def note(self, seen: Sighting, now: float, resource: bytes) -> Process:
        """Takes in what an event says; returns the process that it is about, whose span is open.

        The time is of any clock that does not go back, in seconds.
        """
        trace = self._trace(seen)
        trace.resource = resource
        process = trace.known.get(seen.pid)
        if process is not None and _is_another(process, seen):
            process = self._reused(process, seen, now)
        if process is None:
            return self._add(trace, seen, 0, now)
        if not process.is_open:
            self._resume(process, seen.unix_nano, now)
        elif now - process.opened >= LONGEST_SECONDS:
            self._close(process)
            self._resume(process, seen.unix_nano, now)
        self._learn(process, seen, now)
        return process

    def add_event(self, process: Process, encoded: bytes, command_line: str) -> None:
        """Adds an event to an open process; the same one again, or one too many, changes nothing."""
        events = process.events
        if events is None:
            process.events = [encoded]
        else:
            if process.several is None:
                process.several = set(events)
            if encoded in process.several:
                encoded = b""
            elif len(events) < MAX_EVENTS:
                process.several.add(encoded)
                events.append(encoded)
            else:
                process.dropped_events += 1
                encoded = b""
        self._grow(process, len(encoded) + len(command_line) - len(process.command_line))
        process.command_line = command_line

    def _grow(self, process: Process, size: int) -> None:
        process.size += size
        self._open_bytes += size

    def _trace(self, seen: Sighting) -> Trace:
        """The trace that an event belongs to."""
        name, program = seen.place.name, seen.program
        if seen.place.is_host:
            hour = str(seen.unix_nano // HOUR_NANOS)
            return self._traces.get((name, hour)) or self._new_trace((name, hour), TraceKind.HOST, name, hour)
        if program.in_session:
            return self._session(name, program.exec_id, seen.pid)
        if not program.exec_id and (process := self._sessions.get((name, seen.pid))):
            return process.trace
        return self._traces.get(name) or self._new_trace(name, TraceKind.CONTAINER, name, "")

    def _session(self, place: str, exec_id: str, pid: int) -> Trace:
        """The trace of an exec session: a forked process keeps the low half of the id, and has its own pid above it."""
        number = int(exec_id)
        low = (place, f"{number & LOW_HALF:08x}")
        trace = self._traces.get(low)
        if number >> 32 != pid:  # it was not forked: this is the session's own id
            whole = (place, exec_id)
            if (known := self._traces.get(whole)) is not None:
                return known
            if trace is None or trace.leader:
                about = whole if trace else low
                trace = self._new_trace(about, TraceKind.EXEC_SESSION, *about)
                self._traces[low] = trace
            trace.leader = exec_id
            self._traces[whole] = trace
        return trace or self._new_trace(low, TraceKind.EXEC_SESSION, *low)

    def _new_trace(self, key: object, kind: TraceKind, *about: str) -> Trace:
        while len(self._traces) >= MAX_TRACES:
            del self._traces[next(iter(self._traces))]  # it is found again by its id
        trace = self._traces[key] = Trace(kind, *about)
        trace.known = self._known.get(trace.id, trace.known)
        return trace

    def _add(self, trace: Trace, seen: Sighting, birth: int, now: float) -> Process:
        """A process that is spoken of for the first time: what `_learn` does of any, in fewer steps."""
        program, parent_pid, unix_nano = seen.program, seen.parent_pid, seen.unix_nano
        process = self._begin(trace, seen.pid, seen.vpid, birth, unix_nano, now)
        if not process.is_open:
            self._resume(process, unix_nano, now)
        process.executable, process.image = program.executable, program.image
        self._grow(process, len(program.executable))
        if seen.is_exec:
            process.start_known, process.executed = EXEC, unix_nano
        else:
            process.start_known = FIRST_EVENT
        process.parent_pid = parent_pid
        if trace.kind is EXEC_SESSION:
            process.scope = (seen.place.name, seen.pid)
            self._sessions[process.scope] = process
        parent = trace.known.get(parent_pid)
        is_old = parent is not None and parent.is_open and parent.start <= unix_nano and parent.vpid == seen.parent_vpid
        if parent is None or parent is process or not is_old or not parent.executable:  # there may be news of it
            parent = self._parent(process, seen, now)
        process.parent = parent
        self._touch(parent, unix_nano, now)
        return process

    def _begin(self, trace: Trace, pid: int, vpid: int, birth: int, unix_nano: int, now: float) -> Process:  # noqa: PLR0917  # compiled, it takes no keywords
        """A new process, with an open span."""
        process = Process.__new__(Process)
        process.begin(trace, pid, vpid, birth)
        process.open(process.own_id, unix_nano, now)
        if not trace.known:  # another of the same id may be known meanwhile, where there are too many
            trace.known = self._known.setdefault(trace.id, trace.known)
        trace.known[pid] = process
        last_id = 0
        if self._forgotten:
            last_id = self._forgotten.pop(process.own_id, 0) or self._forgotten_before.pop(process.own_id, 0)
        if last_id:  # its span was sent: it goes on, if it is spoken of itself
            process.span_id, process.is_open, process.continues, process.came_back = last_id, False, True, True
            self._sent.append(process)
        else:
            self._open.append(process)
            self._open_bytes += PROCESS_BYTES
        return process

    def _resume(self, process: Process, unix_nano: int, now: float) -> None:
        """Goes on with a process whose span was sent, in another span."""
        if process.recency is not None:
            self._sent.remove(process)
        process.continues = True
        process.open(_hashed(process.span_id, unix_nano), unix_nano, now)
        self._open.append(process)
        self._open_bytes += PROCESS_BYTES

    def _reused(self, process: Process, seen: Sighting, now: float) -> Process:
        """The pid is another process' than the one known by it: one that had it before, or a new one."""
        earlier = process.earlier
        is_late = seen.unix_nano < process.start
        if earlier is not None and not _is_another(earlier, seen) and (is_late or _told_apart(earlier, seen)):
            return earlier
        birth = _birth(process, seen.vpid if seen.vpid != seen.pid else 0, seen.unix_nano)
        other = self._add(process.trace, seen, birth, now)
        _follow(other, process)
        if is_late:
            process.taken |= FIRST_BIT << (other.vpid & 63)
            process.born = other.born
            process.trace.known[process.pid] = process
            if process.scope is not None:
                self._sessions[process.scope] = process
            process.earlier = other
        else:
            process.earlier = None  # one is remembered
            other.earlier = process
        self._keep_id(other if is_late else process)
        return other

    def _learn(self, process: Process, seen: Sighting, now: float) -> None:
        """What the event says beyond what is known."""
        parent_pid, unix_nano, is_exec = seen.parent_pid, seen.unix_nano, seen.is_exec
        executable = seen.program.executable
        if executable and executable != process.executable:
            image = seen.program.image
            if not process.executable or (image != process.image and unix_nano >= process.end):
                self._grow(process, len(executable) - len(process.executable))
                process.executable, process.image = executable, image
        first_exec = is_exec and not process.executed
        if is_exec:
            if first_exec and not process.continues:
                process.start_known = EXEC
            process.executed = max(process.executed, unix_nano)
        elif process.start_known is CHILD:
            process.start_known = FIRST_EVENT
        process.start = min(process.start, unix_nano)
        if not process.vpid:
            process.vpid = seen.vpid
        parent = process.parent
        if parent is None or parent.pid != parent_pid:
            if parent is None or (not process.continues and (process.parent_pid == 0 or first_exec)):
                parent = process.parent = self._parent(process, seen, now)
                process.parent_pid = parent_pid
            elif parent.pid:  # it has lost this one since
                parent = None
        for one in (process, parent):
            if one is not None and (one.touched != now or unix_nano > one.end):
                self._touch(one, unix_nano, now)

    def _touch(self, process: Process, unix_nano: int, now: float) -> None:
        """It lived at that moment."""
        if process.is_open:
            process.end = max(process.end, unix_nano)
            if process.touched == now:  # it stands where it belongs
                return
            if now - process.opened >= LONGEST_SECONDS:
                self._close(process)
                return
            process.touched = now
            self._open.move_to_end(process)
        elif process.recency is not None:
            self._sent.move_to_end(process)

    def _parent(self, process: Process, seen: Sighting, now: float) -> Process:
        """The parent that an event names; the trace's root where it names none that can be."""
        parent_pid, vpid, unix_nano = seen.parent_pid, seen.parent_vpid, seen.unix_nano
        trace = process.trace
        parent = trace.known.get(parent_pid)
        if parent_pid <= 0 or parent_pid == seen.pid:
            return self._root(trace, unix_nano, now)
        executable, image = seen.program.parent_executable, seen.program.parent_image
        if vpid == parent_pid:
            vpid = 0
        birth, before = 0, None
        if parent is not None and parent.earlier is not None and vpid and parent.earlier.vpid == vpid != parent.vpid:
            parent = parent.earlier
        if parent is not None:
            other_image = parent.image and image and image != parent.image and not parent.is_open
            if vpid != parent.vpid if vpid and parent.vpid else other_image:
                birth = _birth(parent, vpid, unix_nano)
                before, parent = parent, None  # its pid was used again
        if parent is not None and process.parent is not None and _descends(parent, process):
            return self._root(trace, unix_nano, now)
        if parent is None:
            parent = self._begin(trace, parent_pid, vpid, birth, unix_nano, now)
            parent.parent = self._root(trace, unix_nano, now)
            if before is not None:
                _follow(parent, before)
                self._keep_id(before)
        if parent.is_open:
            if not parent.executable:
                self._grow(parent, len(executable))
                parent.executable, parent.image, parent.vpid = executable, image, parent.vpid or vpid
            if parent.start_known is CHILD:
                parent.start = min(parent.start, unix_nano)
        return parent

    def _root(self, trace: Trace, unix_nano: int, now: float) -> Process:
        root = trace.known.get(0) or self._begin(trace, 0, 0, 0, unix_nano, now)
        if root.is_open:
            root.start = min(root.start, unix_nano)
        self._touch(root, unix_nano, now)
        return root

    # --- spans out ---

    def due(self, now: float, *, all_of_them: bool = False) -> list[Any]:
        """The spans of the processes that are complete, made since the last call; each is returned once."""
        quiet = now - self.quiet_seconds
        while (oldest := self._open.first) is not None:
            if not (all_of_them or oldest.touched <= quiet):
                if not self.crowded():
                    break
                self.early += 1
            self._close(oldest)
        while self._sent.length > MAX_SENT and (forgotten := self._sent.first) is not None:
            self._forget(forgotten)
        due, self._due = self._due, []
        return due

    def _close(self, process: Process) -> None:
        self._open.remove(process)
        self._open_bytes -= process.size
        self._due.append(self.finish(process))
        self.spans += 1
        self.orphans += process.is_orphan() and not process.continues
        process.is_open = False
        process.events = process.several = None
        process.executable = process.command_line = ""
        if process.trace.known.get(process.pid) is process:
            self._sent.append(process)
        else:
            self._keep_id(process)

    def _forget(self, process: Process) -> None:
        """Of what is forgotten nothing is kept but its ids, not even by its children."""
        self._sent.remove(process)
        self._keep_id(process)
        trace = process.trace
        if trace.known.get(process.pid) is process:
            del trace.known[process.pid]
            if not trace.known:
                del self._known[trace.id]
        process.parent = process.earlier = None
        if process.scope is not None and self._sessions.get(process.scope) is process:
            del self._sessions[process.scope]

    def _keep_id(self, process: Process) -> None:
        if len(self._forgotten) >= MAX_FORGOTTEN // 2:
            self._forgotten_before, self._forgotten = self._forgotten, {}
        self._forgotten[process.own_id] = process.span_id


def _is_another(process: Process, seen: Sighting) -> bool:
    """Whether an event is of another process than the one that is known to have its pid."""
    if _told_apart(process, seen):
        return seen.vpid != process.vpid
    program = seen.program
    other_parent = bool(process.parent_pid and seen.parent_pid and process.parent_pid != seen.parent_pid)
    other_image = bool(process.image and program.image and process.image != program.image)
    if not seen.is_exec:
        return other_parent and other_image
    if other_parent or not process.executed:
        return other_parent
    if not other_image and abs(seen.unix_nano - process.executed) <= TWIN_NANOS:
        return False
    if not process.is_open:
        return True
    return program.task == _task_name(program.parent_executable) != _task_name(process.executable)


def _told_apart(process: Process, seen: Sighting) -> bool:
    """Whether the pids in the container say if they are the same; on the node they only repeat the others."""
    return bool(seen.vpid and process.vpid and seen.vpid != seen.pid)


def _birth(before: Process, vpid: int, unix_nano: int) -> int:
    """What makes the id of another process with the same pid its own: a time, where the pid in the container does not.

    Without a time all lives of the bridge agree on it.
    """
    is_new = vpid and before.vpid and vpid != before.vpid and not before.taken >> (vpid & 63) & 1
    return 0 if is_new else max(unix_nano, before.born + 1)


def _follow(process: Process, before: Process) -> None:
    """A process has the pid that another had before."""
    process.taken = before.taken | FIRST_BIT << (before.vpid & 63)
    process.born = max(process.born, before.born)


def _task_name(executable: str) -> str:
    return executable.rpartition("/")[2][:TASK_NAME_CHARS]


def _descends(process: Process | None, ancestor: Process) -> bool:
    """Whether a process is another one, or comes from it; yes, too, if it is too far to look, or was forgotten."""
    for _ in range(MAX_ANCESTORS):
        if process is None or process is ancestor or process.came_back:
            return True
        if process.pid == 0:
            return False
        process = process.parent
    return True
