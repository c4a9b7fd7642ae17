# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Records in, one encoded ExportLogsServiceRequest out: what `request.py` says, compiled.

A cluster of thousands of pods gives nearly each record of a batch a resource of its own, and each resource costs as much
as a record. Here the sizes are worked out first, and everything is written once, to its place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc

from otelbridge.mapping.fastpath_wire cimport digits, put, put_varint

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
