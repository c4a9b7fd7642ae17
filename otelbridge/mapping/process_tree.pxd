# cython: language_level=3
"""C types for `process_tree.py`, where it is compiled."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef uint64_t FNV_PRIME


cdef class Sighting:
    cdef public object place, program
    cdef public int64_t pid, parent_pid, vpid, parent_vpid, unix_nano
    cdef public bint is_exec


cdef class Trace:
    cdef readonly object kind
    cdef readonly bytes id, of_record, of_span
    cdef readonly uint64_t basis
    cdef public str leader
    cdef public bytes resource
    cdef public dict known

    @cython.locals(hashed=uint64_t)
    cpdef bytes span_id(self, uint64_t pid, uint64_t birth, uint64_t resumed=*)


@cython.freelist(256)
cdef class Process:
    cdef readonly Trace trace
    cdef readonly int64_t pid, birth
    cdef readonly bytes own_id
    cdef public Process parent, earlier
    cdef public object scope
    cdef public int64_t parent_pid, vpid, image, executed, start, end
    cdef public bint continues, is_open
    cdef public bytes span_id
    cdef public object start_known
    cdef public double opened, touched
    cdef public str executable, command_line, denied
    cdef public list events
    cdef public bytes first_uid
    cdef public set uids
    cdef public int64_t dropped_events, size

    cpdef open(self, bytes span_id, int64_t unix_nano, double now)


cdef class ProcessTree:
    cdef public double quiet_seconds
    cdef public object finish
    cdef object _traces, _open, _sent
    cdef dict _sessions, _known
    cdef list _due
    cdef int64_t _open_bytes
    cdef readonly int64_t spans, orphans, early

    @cython.locals(process=Process, trace=Trace)
    cpdef Process note(self, Sighting seen, double now, bytes resource)
    @cython.locals(size=int64_t)
    cpdef add_event(self, Process process, bytes uid, bytes encoded, str command_line)
    cdef _grow(self, Process process, int64_t size)
    cdef Trace _trace(self, Sighting seen)
    cdef Trace _session(self, place, exec_id, int64_t pid)
    @cython.locals(process=Process, parent=Process, is_old=bint)
    cdef Process _add(self, Trace trace, Sighting seen, int64_t birth, double now)
    @cython.locals(trace=Trace)
    cdef Process _opened(self, Process process)
    cdef _resume(self, Process process, int64_t unix_nano, double now)
    @cython.locals(earlier=Process, other=Process, is_late=bint)
    cdef Process _reused(self, Process process, Sighting seen, double now)
    @cython.locals(parent=Process, one=Process, first_exec=bint, image=int64_t)
    cdef _learn(self, Process process, Sighting seen, double now)
    cdef _touch(self, Process process, int64_t unix_nano, double now)
    @cython.locals(parent=Process, trace=Trace, vpid=int64_t, birth=int64_t, parent_pid=int64_t, image=int64_t, other_image=bint)
    cdef Process _parent(self, Process process, Sighting seen, double now)
    @cython.locals(root=Process)
    cdef Process _root(self, Trace trace, int64_t unix_nano, double now)
    cdef _close(self, Process process)
    @cython.locals(trace=Trace)
    cdef _forget(self, Process process)


cdef bint _is_another(Process process, Sighting seen)
cdef bint _told_apart(Process process, Sighting seen)
cdef bint _descends(Process process, Process ancestor)
