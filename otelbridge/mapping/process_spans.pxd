# cython: language_level=3
"""C types for `process_spans.py`, where it is compiled."""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from otelbridge.mapping.process_tree cimport Process, ProcessTree, Sighting, Trace


cdef class Act:
    cdef readonly bint is_command, passed
    cdef readonly str denial
    cdef readonly bytes event


cdef class ProcessSpans:
    cdef readonly ProcessTree tree
    cdef public object told
    cdef int64_t _limit, _surely_short
    cdef bint _keep_raw
    cdef object _attributes, _event, _in_span, _encoded, _record
    cdef Sighting _seen
    cdef dict _acts, _named
    cdef bytes _uid_head
    cdef object _before_touched
    cdef bytes _touched_cut

    @cython.locals(
        process=Process, act=Act, seen=Sighting, tree=ProcessTree, pid=int64_t, parent_pid=int64_t, vpid=int64_t, parent_vpid=int64_t, happened=int64_t,
        is_command=bint, encoded=bytes, event=bytes, touched=bytes, command=str, source=str, resource=str, data=str,
    )
    cpdef object with_ids(self, tuple told, record, double now)
    cdef bytes _touched(self, str resource)
    @cython.locals(trace=Trace, parent=Process, above=uint64_t, command_line=str, named=bytes, cut=list, said=list)
    cpdef object _span(self, Process process)
    @cython.locals(said=list)
    cdef list _said(self, Process process, list cut)
    cdef bytes _name_it(self, str executable, list cut)
