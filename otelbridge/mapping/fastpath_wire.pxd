# cython: language_level=3
"""Pieces of an encoded event in, pieces of an encoded LogRecord out: what the fast path compares and writes with.

Whoever writes has made room for it: every `put` takes where to write to, and returns where it ended. Inlined into
`fastpath.pyx` and `fastpath_wire.pyx`; `wire.py` is the same for the reference, and knows the rest of it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy


cdef struct Slice:
    const uint8_t* start
    Py_ssize_t size


cdef extern from "Python.h":
    ctypedef struct PyTupleObject:
        PyObject** ob_item

    object PyType_GenericAlloc(type kind, Py_ssize_t items)


cdef inline void put_item(object record, Py_ssize_t place, object item) noexcept:
    Py_INCREF(item)  # it is given away
    PyTuple_SET_ITEM(record, place, item)


cdef inline object new_record(type record_class, object stream, object resource, object encoded, object unix_nano):
    """A `wire.Record`; `tuple.__new__` would make a tuple first, and take five times as long."""
    record = PyType_GenericAlloc(record_class, 4)
    put_item(record, 0, stream)
    put_item(record, 1, resource)
    put_item(record, 2, encoded)
    put_item(record, 3, unix_nano)
    return record


cdef inline bytes to_bytes(Slice text):
    return PyBytes_FromStringAndSize(<char*>text.start, text.size)


cdef inline str to_text(Slice text):
    return PyUnicode_DecodeASCII(<char*>text.start, text.size, NULL)


cdef inline int digits(uint64_t number) noexcept nogil:
    cdef int count = 1
    while number > 0x7F:
        number >>= 7
        count += 1
    return count


cdef inline uint8_t* put_varint(uint8_t* to, uint64_t number) noexcept nogil:
    while number > 0x7F:
        to[0] = <uint8_t>(number & 0x7F | 0x80)
        number >>= 7
        to += 1
    to[0] = <uint8_t>number
    return to + 1


cdef inline uint8_t* put(uint8_t* to, bytes content) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(content)
    memcpy(to, PyBytes_AS_STRING(content), size)
    return to + size


cdef inline uint8_t* put_slice(uint8_t* to, Slice text) noexcept nogil:
    memcpy(to, text.start, text.size)
    return to + text.size


cdef inline uint8_t* put_text(uint8_t* to, bytes name, Slice text) noexcept:
    """LogRecord.attributes = 6: KeyValue{key = 1, value = 2: AnyValue{string_value = 1}}."""
    cdef uint64_t value = 1 + digits(text.size) + text.size
    to[0] = 0x32
    to = put_varint(to + 1, PyBytes_GET_SIZE(name) + 1 + digits(value) + value)
    to = put(to, name)
    to[0] = 0x12
    to = put_varint(to + 1, value)
    to[0] = 0x0A
    to = put_varint(to + 1, text.size)
    return put_slice(to, text)


cdef inline uint8_t* put_int(uint8_t* to, bytes name, uint64_t number) noexcept:
    """The same with AnyValue{int_value = 3}."""
    cdef int size = digits(number)
    to[0] = 0x32
    to = put_varint(to + 1, PyBytes_GET_SIZE(name) + 3 + size)
    to = put(to, name)
    to[0] = 0x12
    to[1] = <uint8_t>(1 + size)
    to[2] = 0x18
    return put_varint(to + 3, number)


cdef inline bint printable(Slice text) noexcept nogil:
    cdef Py_ssize_t at = 0
    cdef uint64_t word, odd = 0
    while at + 8 <= text.size:  # a byte's highest bit is set where it is too large, or 0x7F, or less than a blank
        memcpy(&word, text.start + at, 8)
        odd |= word | word + <uint64_t>0x0101010101010101 | word - <uint64_t>0x2020202020202020
        at += 8
    while at < text.size:
        odd |= 0x80 if text.start[at] < 0x20 or text.start[at] > 0x7E else 0
        at += 1
    return odd & <uint64_t>0x8080808080808080 == 0


cdef inline bint is_entry(Slice entry) noexcept nogil:
    """Whether it is the entry of a map from text to text as Go and C++ write it: ASCII, two lengths of one byte."""
    cdef Py_ssize_t at, key
    cdef uint8_t odd = 0
    if entry.size < 4 or entry.start[0] != 0x0A:
        return False
    key = entry.start[1]
    if key > entry.size - 4 or entry.start[2 + key] != 0x12 or entry.start[3 + key] != entry.size - 4 - key:
        return False
    for at in range(entry.size):
        odd |= entry.start[at]
    return odd <= 0x7F


cdef inline uint64_t mixed(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    """A number for some bytes, quickly; whoever uses it compares the bytes too."""
    cdef uint64_t word, number = size
    while size >= 8:
        memcpy(&word, at, 8)
        number = (number ^ word) * <uint64_t>0x9E3779B97F4A7C15
        number ^= number >> 29
        at += 8
        size -= 8
    word = 0
    memcpy(&word, at, size)
    number = (number ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return number ^ number >> 32


cdef inline uint64_t hash_of(Slice text) noexcept nogil:
    """`flood.hash_of`."""
    cdef uint64_t number = mixed(text.start, text.size)
    number *= <uint64_t>0x9E3779B97F4A7C15
    return number ^ number >> 32


cdef inline bint begins(Slice text, bytes beginning) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(beginning)
    return text.size >= size and memcmp(text.start, PyBytes_AS_STRING(beginning), size) == 0


cdef inline bint is_ipv4(Slice text) noexcept nogil:
    """Four groups of one to three digits, whatever they say."""
    cdef Py_ssize_t at
    cdef int in_group = 0, dots = 0
    for at in range(text.size):
        if c"0" <= text.start[at] <= c"9":
            in_group += 1
            if in_group > 3:
                return False
        elif text.start[at] == c"." and in_group:
            in_group = 0
            dots += 1
        else:
            return False
    return dots == 3 and in_group > 0


cdef inline bint find_word(Slice text, bytes marker, Slice* word) noexcept:
    """The word behind the first marker, up to a blank that has to follow."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(marker), at, end
    for at in range(text.size - size + 1):
        if memcmp(text.start + at, PyBytes_AS_STRING(marker), size) == 0:
            at += size
            end = at
            while end < text.size and text.start[end] != c" ":
                if text.start[end] == c"=":
                    return False
                end += 1
            word.start = text.start + at
            word.size = end - at
            return word.size > 0 and end < text.size
    return False


cdef inline Py_ssize_t find(Slice text, bytes marker) noexcept:
    """Where the marker stands in the text; at its end, where it does not."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(marker), at
    for at in range(text.size - size + 1):
        if memcmp(text.start + at, PyBytes_AS_STRING(marker), size) == 0:
            return at
    return text.size


cdef inline bint same(Slice text, bytes other) noexcept:
    return text.size == PyBytes_GET_SIZE(other) and memcmp(text.start, PyBytes_AS_STRING(other), text.size) == 0


cdef inline uint8_t* put_uid(uint8_t* at, bytes digest) noexcept:
    """16 bytes in the text form of a UUID."""
    cdef const uint8_t* raw = <const uint8_t*>PyBytes_AS_STRING(digest)
    cdef const char* hexadecimal = b"0123456789abcdef"
    cdef int byte
    for byte in range(16):
        if byte == 4 or byte == 6 or byte == 8 or byte == 10:
            at[0] = c"-"
            at += 1
        at[0] = hexadecimal[raw[byte] >> 4]
        at[1] = hexadecimal[raw[byte] & 15]
        at += 2
    return at
