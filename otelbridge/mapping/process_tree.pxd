# cython: language_level=3
"""C types for `process_tree.py`, where it is compiled."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef uint64_t FIRST_BIT, FNV_PRIME, UINT64
cdef int64_t HOUR_NANOS, LOW_HALF, PROCESS_BYTES, TWIN_NANOS
cdef double LONGEST_SECONDS


cdef class Place:
    cdef readonly str name
    cdef readonly bint is_host


cdef class Program:
    cdef readonly str exec_id, executable, parent_executable, task
    cdef readonly bint in_session
    cdef readonly int64_t image, parent_image


cdef class Sighting:
    cdef public Place place
    cdef public Program program
    cdef public int64_t pid, parent_pid, vpid, parent_vpid, unix_nano
    cdef public bint is_exec


@cython.freelist(256)
cdef class Process:
    cdef readonly Trace trace
    cdef readonly int64_t pid
    cdef readonly uint64_t own_id, span_id, taken, born
    cdef public Process parent, earlier
    cdef public tuple scope
    cdef Recency recency
    cdef Process before, after
    cdef public int64_t parent_pid, vpid, image, executed, start, end
    cdef public bint continues, is_open, came_back
    cdef public object start_known
    cdef public double opened, touched
    cdef public str executable, command_line, denied
    cdef public list events
    cdef set several
    cdef public int64_t dropped_events, size

    cdef begin(self, Trace trace, int64_t pid, int64_t vpid, uint64_t birth)
    cdef open(self, uint64_t span_id, int64_t unix_nano, double now)
    cdef bint is_orphan(self)


cdef class Recency:
    cdef Process first, last
    cdef readonly Py_ssize_t length

    cdef append(self, Process process)
    @cython.locals(before=Process, after=Process)
    cdef remove(self, Process process)
    cdef move_to_end(self, Process process)


cdef class Trace:
    cdef readonly object kind
    cdef readonly bytes id, of_record, of_span
    cdef readonly uint64_t basis
    cdef public str leader
    cdef public bytes resource
    cdef public dict known

    cdef uint64_t span_id(self, int64_t pid, int64_t vpid, uint64_t birth)


cdef class ProcessTree:
    cdef public double quiet_seconds
    cdef public object finish
    cdef Recency _open, _sent
    cdef dict _sessions, _known, _traces, _forgotten, _forgotten_before
    cdef list _due
    cdef int64_t _open_bytes
    cdef readonly int64_t spans, orphans, early

    cpdef bint crowded(self)
    @cython.locals(process=Process, trace=Trace)
    cpdef Process note(self, Sighting seen, double now, bytes resource)
    @cython.locals(events=list)
    cpdef add_event(self, Process process, bytes encoded, str command_line)
    cdef _grow(self, Process process, int64_t size)
    @cython.locals(name=str, program=Program, process=Process)
    cdef Trace _trace(self, Sighting seen)
    cdef Trace _session(self, str place, str exec_id, int64_t pid)
    @cython.locals(process=Process, parent=Process, program=Program, parent_pid=int64_t, unix_nano=int64_t, is_old=bint)
    cdef Process _add(self, Trace trace, Sighting seen, uint64_t birth, double now)
    @cython.locals(process=Process, last_id=uint64_t)
    cdef Process _begin(self, Trace trace, int64_t pid, int64_t vpid, uint64_t birth, int64_t unix_nano, double now)
    cdef _resume(self, Process process, int64_t unix_nano, double now)
    @cython.locals(earlier=Process, other=Process, is_late=bint, birth=uint64_t)
    cdef Process _reused(self, Process process, Sighting seen, double now)
    @cython.locals(
        parent=Process, one=Process, first_exec=bint, is_exec=bint, image=int64_t, parent_pid=int64_t, unix_nano=int64_t, executable=str
    )
    cdef _learn(self, Process process, Sighting seen, double now)
    cdef _touch(self, Process process, int64_t unix_nano, double now)
    @cython.locals(
        parent=Process, before=Process, trace=Trace, vpid=int64_t, birth=uint64_t, parent_pid=int64_t, unix_nano=int64_t, image=int64_t, other_image=bint,
        executable=str,
    )
    cdef Process _parent(self, Process process, Sighting seen, double now)
    @cython.locals(root=Process)
    cdef Process _root(self, Trace trace, int64_t unix_nano, double now)
    cdef _close(self, Process process)
    @cython.locals(trace=Trace)
    cdef _forget(self, Process process)
    cdef _keep_id(self, Process process)


cdef uint64_t _hashed(uint64_t before, uint64_t number)
@cython.locals(program=Program, other_parent=bint, other_image=bint)
cdef bint _is_another(Process process, Sighting seen)
cdef bint _told_apart(Process process, Sighting seen)
@cython.locals(is_new=bint)
cdef uint64_t _birth(Process before, int64_t vpid, int64_t unix_nano)
cdef _follow(Process process, Process before)
cdef bint _descends(Process process, Process ancestor)
