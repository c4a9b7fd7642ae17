# cython: language_level=3
"""C types for `flood_window.py`, where it is compiled."""

cimport cython
from libc.stdint cimport int64_t, uint64_t


cdef class Distinct:
    cdef public uint64_t[::1] hashes
    cdef public uint64_t latest
    cdef public bint changed
    cdef public list examples

    @cython.locals(last=int, place=int, end=int, middle=int, behind=int)
    cpdef bint is_new(self, uint64_t number) except -1


cdef class FloodWindow:
    cdef readonly object kind
    cdef public str key
    cdef public list kept
    cdef public double due, opened, written
    cdef public int64_t number, total, events
    cdef public uint64_t first, last
    cdef public bytes sample
    cdef public Distinct processes, resources
