# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Encodes attributes whose values are short texts: what `wire.attributes` says, compiled.

An event in which everything is new has some forty of them, and they were a third of what it cost.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from otelbridge.mapping.fastpath_wire cimport digits, put_varint

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef enum:
    FRAME = 64  # more than the tags and lengths of one attribute


def attributes(bytes tag not None, pairs, Py_ssize_t limit_bytes, list cut not None, other not None):
    """Encoded attributes, in their order.

    Args:
        tag: of the field, one byte.
        pairs: key and value. Empty texts are left out.
        limit_bytes: a longer text is encoded by `other`.
        cut: for `other`.
        other: encodes one pair of any type of value: (tag, pairs, limit, cut) to bytes.
    """
    cdef uint8_t* out = NULL
    cdef uint8_t* to
    cdef uint8_t* grown
    cdef Py_ssize_t used = 0, capacity = 0, needed, key_size, text_size, value_size, name_size
    cdef const char* name
    cdef const char* text
    cdef uint8_t first = <uint8_t>PyBytes_AS_STRING(tag)[0]
    cdef bytes encoded
    try:
        for key, value in pairs:
            encoded = None
            if type(value) is str:
                if not value:
                    continue
                text = PyUnicode_AsUTF8AndSize(value, &text_size)
            if type(value) is not str or text_size > limit_bytes:
                encoded = other(tag, ((key, value),), limit_bytes, cut)
                needed = PyBytes_GET_SIZE(encoded)
                if needed == 0:
                    continue
            else:
                name = PyUnicode_AsUTF8AndSize(key, &key_size)
                needed = FRAME + key_size + text_size
            if used + needed > capacity:
                capacity = 2 * (used + needed)
                grown = <uint8_t*>realloc(out, capacity)
                if grown is NULL:
                    raise MemoryError
                out = grown
            to = out + used
            if encoded is not None:
                memcpy(to, PyBytes_AS_STRING(encoded), needed)
                used += needed
                continue
            value_size = 1 + digits(text_size) + text_size  # AnyValue{string_value = 1}
            name_size = 1 + digits(key_size) + key_size
            to[0] = first
            to = put_varint(to + 1, name_size + 1 + digits(value_size) + value_size)
            to[0] = 0x0A  # KeyValue.key = 1
            to = put_varint(to + 1, key_size)
            memcpy(to, name, key_size)
            to += key_size
            to[0] = 0x12  # KeyValue.value = 2
            to = put_varint(to + 1, value_size)
            to[0] = 0x0A
            to = put_varint(to + 1, text_size)
            memcpy(to, text, text_size)
            used = to + text_size - out
        return PyBytes_FromStringAndSize(<char*>out, used)
    finally:
        free(out)
