# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Encodes attributes and whole requests: what `wire.attributes` and `wire.assemble` do, compiled.

An event in which everything is new has some forty attributes, and they were a third of what it cost. A cluster of
thousands of pods gives nearly each record of a batch a resource of its own, and each resource costs as much as a record:
sizes are worked out first, and everything is written once, to its place.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef enum:
    FRAME = 64  # more than the tags and lengths of one attribute
    UID_BYTES = 36


cdef inline Py_ssize_t field_size(Py_ssize_t content) noexcept:
    """Of a length-delimited field, whose tag takes one byte."""
    return 1 + digits(content) + content


cdef struct Output:
    uint8_t* start
    Py_ssize_t used, capacity


cdef uint8_t* room(Output* out, Py_ssize_t size) except NULL:
    """Where to write so many bytes more."""
    cdef uint8_t* grown
    if out.used + size > out.capacity:
        grown = <uint8_t*>realloc(out.start, 2 * (out.used + size))
        if grown is NULL:
            raise MemoryError
        out.start, out.capacity = grown, 2 * (out.used + size)
    return out.start + out.used


cdef inline uint8_t* put_raw(uint8_t* to, const char* raw, Py_ssize_t size) noexcept nogil:
    memcpy(to, raw, size)
    return to + size


cdef Py_ssize_t list_size(object texts, Py_ssize_t limit_bytes) except -1:
    """Of the encoded ArrayValue of some texts; 0 where one is no text, or together they are over the limit."""
    cdef Py_ssize_t total = 0, text_bytes = 0, size
    for text in texts:
        if type(text) is not str:
            return 0
        PyUnicode_AsUTF8AndSize(text, &size)
        text_bytes += size
        total += field_size(field_size(size))
    return 0 if text_bytes > limit_bytes else total


cdef uint8_t* put_name(uint8_t* to, uint8_t tag, object key, Py_ssize_t value_size) except NULL:
    """The attribute's field up to its value: KeyValue{key = 1, value = 2}."""
    cdef Py_ssize_t size
    cdef const char* name = PyUnicode_AsUTF8AndSize(key, &size)
    to[0] = tag
    to = put_varint(to + 1, field_size(size) + field_size(value_size))
    to[0] = 0x0A
    to = put_raw(put_varint(to + 1, size), name, size)
    to[0] = 0x12
    return put_varint(to + 1, value_size)


def attributes(bytes tag not None, pairs, Py_ssize_t limit_bytes, list cut not None, other not None):
    """Encoded attributes, in their order.

    Args:
        tag: of the field, one byte.
        pairs: key and value. Empty texts and lists are left out.
        limit_bytes: a longer value is encoded by `other`.
        cut: for `other`.
        other: encodes one pair of any type of value: (tag, pairs, limit, cut) to bytes.
    """
    cdef Output out = Output(NULL, 0, 0)
    cdef uint8_t* to
    cdef Py_ssize_t key_size, size, content
    cdef const char* text
    cdef uint64_t number
    cdef uint8_t first = <uint8_t>PyBytes_AS_STRING(tag)[0]
    try:
        for key, value in pairs:
            if not value and isinstance(value, (str, list)):
                continue
            PyUnicode_AsUTF8AndSize(key, &key_size)
            if type(value) is str:
                text = PyUnicode_AsUTF8AndSize(value, &size)
                if size <= limit_bytes:
                    to = put_name(room(&out, FRAME + key_size + size), first, key, field_size(size))
                    to[0] = 0x0A  # AnyValue.string_value = 1
                    to = put_raw(put_varint(to + 1, size), text, size)
                    out.used = to - out.start
                    continue
            elif type(value) is list and (content := list_size(value, limit_bytes)):
                to = put_name(room(&out, FRAME + key_size + content), first, key, field_size(content))
                to[0] = 0x2A  # AnyValue.array_value = 5
                to = put_varint(to + 1, content)
                for item in <list>value:
                    text = PyUnicode_AsUTF8AndSize(item, &size)
                    to[0] = 0x0A  # ArrayValue.values = 1
                    to = put_varint(to + 1, field_size(size))
                    to[0] = 0x0A
                    to = put_raw(put_varint(to + 1, size), text, size)
                out.used = to - out.start
                continue
            elif type(value) is int:
                number = value & 0xFFFFFFFFFFFFFFFF
                to = put_name(room(&out, FRAME + key_size), first, key, 1 + digits(number))
                to[0] = 0x18  # AnyValue.int_value = 3
                out.used = put_varint(to + 1, number) - out.start
                continue
            encoded = <bytes>other(tag, ((key, value),), limit_bytes, cut)
            to = put(room(&out, PyBytes_GET_SIZE(encoded)), encoded)
            out.used = to - out.start
        return PyBytes_FromStringAndSize(<char*>out.start, out.used)
    finally:
        free(out.start)


def span_event(
    uint64_t unix_nano, bytes act not None, bytes uid_head not None, bytes encoded not None, bytes touched not None
):
    """`process_spans.span_event`."""
    cdef Py_ssize_t size = (
        9 + PyBytes_GET_SIZE(act) + PyBytes_GET_SIZE(uid_head) + UID_BYTES + PyBytes_GET_SIZE(touched)
    )
    cdef Py_ssize_t before_uid = PyBytes_GET_SIZE(encoded) - UID_BYTES
    if before_uid < 0:
        raise ValueError("a record without an id")
    cdef bytes event = PyBytes_FromStringAndSize(NULL, field_size(size))
    cdef uint8_t* to = <uint8_t*>PyBytes_AS_STRING(event)
    to[0] = 0x5A  # Span.events = 11
    to = put_varint(to + 1, size)
    to[0] = 0x09  # Span.Event.time_unix_nano = 1, fixed64
    memcpy(to + 1, &unix_nano, 8)
    to = put_raw(put(put(to + 9, act), uid_head), PyBytes_AS_STRING(encoded) + before_uid, UID_BYTES)
    put(to, touched)
    return event


def record(type record_class not None, stream, resource, encoded, unix_nano):
    """A `wire.Record`."""
    return new_record(record_class, stream, resource, encoded, unix_nano)


def in_span(tuple_of_four, bytes of_record not None, uint64_t span_id):
    """`process_spans.in_span`."""
    cdef PyObject** items = (<PyTupleObject*>tuple_of_four).ob_item
    cdef bytes before = <bytes>items[2]
    cdef bytes encoded = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(before) + PyBytes_GET_SIZE(of_record) + 8)
    memcpy(put(put(<uint8_t*>PyBytes_AS_STRING(encoded), before), of_record), &span_id, 8)
    return new_record(type(tuple_of_four), <object>items[0], <object>items[1], encoded, <object>items[3])


cdef enum:
    SPAN_ATTRIBUTE = 0x4A  # Span.attributes = 9
    IDS_AND_TIMES = 20 + 8 + 18 + 10


cdef inline uint8_t* put_positive(uint8_t* to, bytes key, int64_t number) noexcept:
    if number <= 0:
        return to
    to[0] = SPAN_ATTRIBUTE
    to = put(put_varint(to + 1, PyBytes_GET_SIZE(key) + 3 + digits(number)), key)
    to[0], to[1], to[2] = 0x12, 1 + digits(number), 0x18
    return put_varint(to + 3, number)


def span(
    bytes of_span not None, uint64_t span_id, uint64_t above, uint64_t start, uint64_t end, bytes named not None, tuple keys not None,
    int64_t pid, int64_t parent_pid, int64_t vpid, str command_line not None, list said not None,
):
    """`process_spans.span`."""
    cdef Py_ssize_t size, room = IDS_AND_TIMES + PyBytes_GET_SIZE(named) + 5 * FRAME
    cdef const char* command = PyUnicode_AsUTF8AndSize(command_line, &size)
    cdef Py_ssize_t value = field_size(size)
    cdef bytes part, key, made
    cdef uint8_t* start_of
    cdef uint8_t* to
    room += size
    for part in said:
        room += PyBytes_GET_SIZE(part)
    for key in keys:
        room += PyBytes_GET_SIZE(key)
    start_of = <uint8_t*>malloc(room)
    if start_of is NULL:
        raise MemoryError
    to = put(start_of, of_span)
    memcpy(to, &span_id, 8)
    to[8] = 0x39
    memcpy(to + 9, &start, 8)
    to[17] = 0x41
    memcpy(to + 18, &end, 8)
    to += 26
    if above:
        to[0], to[1] = 0x22, 8
        memcpy(to + 2, &above, 8)
        to += 10
    to = put(to, named)
    to = put_positive(to, <bytes>keys[0], pid)
    to = put_positive(to, <bytes>keys[1], parent_pid)
    to = put_positive(to, <bytes>keys[2], vpid)
    if size:
        key = <bytes>keys[3]
        to[0] = SPAN_ATTRIBUTE
        to = put(put_varint(to + 1, PyBytes_GET_SIZE(key) + field_size(value)), key)
        to[0] = 0x12
        to = put_varint(to + 1, value)
        to[0] = 0x0A
        to = put_raw(put_varint(to + 1, size), command, size)
    for part in said:
        to = put(to, part)
    made = PyBytes_FromStringAndSize(<char*>start_of, to - start_of)
    free(start_of)
    return made


cdef struct Group:
    Py_ssize_t first, last  # of its records, in the order in which they came
    Py_ssize_t logs_size  # of the encoded ScopeLogs
    Py_ssize_t size  # of the encoded ResourceLogs


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
