# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Encodes attributes and whole requests: what `wire.attributes` and `request.assemble` do, compiled.

An event in which everything is new has some forty attributes, and they were a third of what it cost. A cluster of
thousands of pods gives nearly each record of a batch a resource of its own, and each resource costs as much as a record:
sizes are worked out first, and everything is written once, to its place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

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


cdef struct Group:
    Py_ssize_t first, last  # of its records, in the order in which they came
    Py_ssize_t logs_size  # of the encoded ScopeLogs
    Py_ssize_t size  # of the encoded ResourceLogs


cdef inline Py_ssize_t field_size(Py_ssize_t content) noexcept:
    """Of a length-delimited field, whose tag takes one byte."""
    return 1 + digits(content) + content


cdef inline uint8_t* put_field(uint8_t* to, uint8_t tag, bytes content) noexcept:
    to[0] = tag
    return put(put_varint(to + 1, PyBytes_GET_SIZE(content)), content)


def assemble(list records not None, bytes scope not None, bytes schema not None):
    """One request.

    Args:
        records: of `request.Record`.
        scope: the encoded field ScopeLogs.scope.
        schema: the encoded field schema_url, which ScopeLogs and ResourceLogs number alike.

    Returns:
        An encoded ExportLogsServiceRequest: a ResourceLogs per resource, in the order of the resources.
    """
    cdef Py_ssize_t count = len(records), number, place, total = 0
    cdef Py_ssize_t both_ends = PyBytes_GET_SIZE(scope) + PyBytes_GET_SIZE(schema)
    cdef Group* groups = <Group*>malloc(max(count, 1) * sizeof(Group))
    cdef Py_ssize_t* following = <Py_ssize_t*>malloc(max(count, 1) * sizeof(Py_ssize_t))
    cdef Group* group
    cdef uint8_t* to
    cdef dict places = {}
    cdef bytes request, encoded
    try:
        if groups is NULL or following is NULL:
            raise MemoryError
        for number in range(count):
            _, resource, encoded, _ = <tuple>records[number]
            found = places.get(resource)
            if found is None:
                place = len(places)
                places[resource] = place
                groups[place].first = number
                groups[place].logs_size = both_ends
            else:
                place = found
                following[groups[place].last] = number
            group = &groups[place]
            group.last = number
            group.logs_size += field_size(PyBytes_GET_SIZE(encoded))
        for resource, place in places.items():
            group = &groups[place]
            group.size = (
                field_size(PyBytes_GET_SIZE(<bytes>resource)) + field_size(group.logs_size) + PyBytes_GET_SIZE(schema)
            )
            total += field_size(group.size)
        request = PyBytes_FromStringAndSize(NULL, total)
        to = <uint8_t*>PyBytes_AS_STRING(request)
        for resource, place in sorted(places.items()):
            group = &groups[place]
            to[0] = 0x0A  # ExportLogsServiceRequest.resource_logs = 1
            to = put_varint(to + 1, group.size)
            to = put_field(to, 0x0A, <bytes>resource)  # ResourceLogs.resource = 1
            to[0] = 0x12  # ResourceLogs.scope_logs = 2
            to = put_varint(to + 1, group.logs_size)
            to = put(to, scope)
            number = group.first
            while True:
                to = put_field(to, 0x12, <bytes>(<tuple>records[number])[2])  # ScopeLogs.log_records = 2
                if number == group.last:
                    break
                number = following[number]
            to = put(put(to, schema), schema)
        return request
    finally:
        free(groups)
        free(following)
