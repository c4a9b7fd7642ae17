# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The fast path: an event's bytes in, its record out; or None, where anything about the event is unusual.

Compiled, and optional. It knows one thing only: how a usual event's record is put together from parts that the ordinary
lane worked out before (`teacher.py`) and from what is new in it. It walks the event's bytes once, finds the parts by the
bytes of their fields, and writes the record. Whatever it has not been taught, or does not understand (an unknown field,
a text that is not printable ASCII, a value too long, EventData that says something new), it hands back, and `lane.py`
maps the event. So what an event becomes is said in one place, in Python, and this file is tested to agree with it.

Memory: the event is only read between its first and its last byte (`_walk` checks every length against what is left);
what is written goes through `_room`, which knows the size beforehand. Numbers are written as a little-endian machine
holds them; on others the lane is not used.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from otelbridge.mapping.fastpath_wire cimport (
    Slice, begins, digits, find_word, is_ipv4, printable, put, put_int, put_slice, put_text, put_uid, put_varint, same,
    to_bytes,
)

cdef enum:
    # What a field is for: groups are bits, because Enforcer belongs to two.
    UNKNOWN = 0
    WORKLOAD = 1
    RULE = 2
    PROCESS = 4
    SLOT = 8  # the field is new with every event: SLOT + its slot below

cdef enum:
    TIMESTAMP, HOST_PID, HOST_PPID, PID, PPID, UID, NUMBERS  # numbers first, so that NUMBERS counts them
    UPDATED = NUMBERS
    SOURCE, RESOURCE, DATA, EVENT_DATA, SLOTS

SLOT_OF_FIELD = {
    "Timestamp": TIMESTAMP, "HostPID": HOST_PID, "HostPPID": HOST_PPID, "PID": PID, "PPID": PPID, "UID": UID,
    "UpdatedTime": UPDATED, "Source": SOURCE, "Resource": RESOURCE, "Data": DATA, "EventData": EVENT_DATA,
}

cdef enum:
    FIELDS = 128  # field numbers below this are known; KubeArmor's end at 44
    KEY_BYTES = 8192  # of one group's fields in an event
    ENTRIES = 64  # of EventData
    UPDATED_BYTES = 27  # 2006-01-02T15:04:05.000000Z
    SECOND_BYTES = 20  # of it, with the dot
    VARINT_BYTES = 10
    FRAME_BYTES = 1024  # more than all tags, lengths, keys and numbers of a record that stand outside its parts

cdef enum:
    COMMAND_ROLE, FILE_ROLE, OTHER_ROLE, PARSED_ROLE, FORM_ROLE

ROLES = {"command": COMMAND_ROLE, "file": FILE_ROLE, "other": OTHER_ROLE, "parsed": PARSED_ROLE}
GROUP_BITS = {"workload": WORKLOAD, "rule": RULE, "process": PROCESS}
SLOT_BIT = SLOT
FORM_ROLE_NUMBER = FORM_ROLE


cdef class Form:
    """A kind of Network event that differs in one word, see `forms.py`."""

    cdef bytes beginning, marker, stand_in, word_key, raw_key, entry_key
    cdef bint in_data, ipv4
    cdef int number

    def __init__(self, int number, **said):
        self.number = number
        self.beginning, self.marker, self.stand_in = said["beginning"], said["marker"], said["stand_in"]
        self.word_key, self.raw_key, self.entry_key = said["word_key"], said["raw_key"], said["entry_key"]
        self.in_data, self.ipv4 = said["in_data"], said["ipv4"]


cdef class Taught:
    """A part that the lane worked out, or the news that there is something unusual about it."""

    cdef public int weight
    cdef bytes attributes, digest, resource, where, head, before, after, by_executable, by_parent, parent, operation, what
    cdef str node, namespace
    cdef object counts, kind, known
    cdef Form form
    cdef int role
    cdef bint network

    def __init__(self, int weight=0, **said):
        self.weight = weight
        self.attributes, self.digest = said.get("attributes"), said.get("digest")
        self.resource, self.where = said.get("resource"), said.get("where")
        self.node, self.namespace = said.get("node"), said.get("namespace")
        self.head, self.before, self.after = said.get("head"), said.get("before"), said.get("after")
        self.operation, self.network = said.get("operation"), said.get("network", False)
        self.counts, self.kind = said.get("counts"), said.get("kind")
        self.by_executable, self.by_parent = said.get("by_executable"), said.get("by_parent")
        self.parent = said.get("parent")
        self.form = said.get("form")
        self.role, self.known, self.what = said.get("role", OTHER_ROLE), said.get("known"), said.get("what", b"")


cdef class FastPath:
    """One stream's fast path. Not thread-safe: it belongs to the encoder's thread."""

    cdef uint8_t table[FIELDS]
    # What `_walk` found in the event at hand.
    cdef uint8_t keys[3][KEY_BYTES]
    cdef Py_ssize_t key_sizes[3]
    cdef uint64_t numbers[NUMBERS]
    cdef Slice texts[SLOTS]
    cdef Slice entries[ENTRIES]
    cdef int entry_count
    cdef uint32_t present
    # What is written.
    cdef uint8_t* out
    cdef Py_ssize_t capacity
    # The second of the latest event.
    cdef bytes second
    cdef int64_t second_unix
    cdef uint64_t second_unix_nano
    cdef object teacher, stream, record_class, new_digest, tally
    cdef object recall_workload, recall_rule, recall_process, recall_detail, recall_parsed, recall_form
    cdef list forms
    cdef Slice word  # of an event of a form
    cdef dict nodes
    cdef bint is_alerts
    cdef bytes salt, uid_head, root, path_key, name_key, resource_key, command_line_key, source_key
    cdef list number_keys
    cdef Py_ssize_t max_value, max_body

    def __cinit__(self):
        self.out = NULL
        self.capacity = 0

    def __dealloc__(self):
        free(self.out)

    def __init__(self, teacher):
        """Everything that it knows comes from its teacher."""
        for number in range(FIELDS):
            self.table[number] = UNKNOWN
        for number, use in teacher.fields.items():
            self.table[<int>number] = use
        self.teacher = teacher
        self.stream, self.record_class, self.tally = teacher.stream, teacher.record_class, teacher.tally
        self.new_digest, self.nodes, self.is_alerts = teacher.new_digest, teacher.tally.nodes, teacher.is_alerts
        self.recall_workload, self.recall_rule = teacher.workloads.recall, teacher.rules.recall
        self.recall_process, self.recall_detail = teacher.processes.recall, teacher.details.recall
        self.recall_parsed, self.recall_form, self.forms = teacher.parsed.recall, teacher.forms_taught.recall, teacher.forms
        self.salt, self.uid_head, self.root = teacher.salt, teacher.uid_head, teacher.root
        self.path_key, self.name_key = teacher.keys["file.path"], teacher.keys["file.name"]
        self.resource_key, self.source_key = teacher.keys["kubearmor.resource"], teacher.keys["kubearmor.source"]
        self.command_line_key = teacher.keys["process.command_line"]
        self.number_keys = [teacher.keys[key] for key in teacher.number_keys]
        self.max_value, self.max_body = teacher.max_value_bytes, teacher.max_body_bytes
        self.second, self.second_unix, self.second_unix_nano = b"", 0, 0

    def map(self, bytes body, uint64_t received_unix_nano):
        """Maps one event.

        Args:
            body: the encoded event.
            received_unix_nano: when the bridge received it.

        Returns:
            Its `Record`, or None: the event is not usual, and nothing has been counted.
        """
        cdef Taught workload, rule, process, detail
        cdef bytes key
        cdef uint64_t unix_nano
        if not self._walk(<const uint8_t*>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)):
            return None
        if not (printable(self.texts[SOURCE]) and printable(self.texts[RESOURCE]) and printable(self.texts[DATA])):
            return None
        key = PyBytes_FromStringAndSize(<char*>self.keys[0], self.key_sizes[0])
        workload = self.recall_workload(key) or self.teacher.workloads.learn(key, body)
        key = PyBytes_FromStringAndSize(<char*>self.keys[1], self.key_sizes[1])
        rule = self.recall_rule(key) or self.teacher.rules.learn(key, body)
        key = PyBytes_FromStringAndSize(<char*>self.keys[2], self.key_sizes[2])
        process = self.recall_process(key) or self.teacher.processes.learn(key, body)
        if not (workload.weight and rule.weight and process.weight):
            return None
        unix_nano = self._unix_nano()
        if unix_nano == 0:
            return None
        detail = self._detail(rule)
        if detail is None or not self._entries_are_known(detail):
            return None
        return self._write(workload, rule, process, detail, unix_nano, received_unix_nano)

    # --- reading ---

    cdef bint _walk(self, const uint8_t* at, Py_ssize_t size) noexcept:
        """Finds every field of the event; False where one is unknown, malformed, too large or there twice."""
        cdef const uint8_t* end = at + size
        cdef const uint8_t* start
        cdef uint64_t number, value
        cdef int use, slot, group, shift, wire_type
        cdef Py_ssize_t taken
        self.present = 0
        self.entry_count = 0
        self.key_sizes[0] = self.key_sizes[1] = self.key_sizes[2] = 0
        for slot in range(NUMBERS):
            self.numbers[slot] = 0
        for slot in range(NUMBERS, SLOTS):
            self.texts[slot].start = at
            self.texts[slot].size = 0
        while at < end:
            start = at
            number = at[0]
            at += 1
            if number > 0x7F:  # tags of one or two bytes; there are no longer ones below FIELDS
                if at >= end or at[0] > 0x7F:
                    return False
                number = number & 0x7F | <uint64_t>at[0] << 7
                at += 1
            wire_type = number & 7
            number >>= 3
            if number >= FIELDS:
                return False
            use = self.table[number]
            if use == UNKNOWN or (wire_type != 0 and wire_type != 2):
                return False
            value = 0
            shift = 0
            while True:
                if at >= end or shift >= 7 * VARINT_BYTES:
                    return False
                value |= <uint64_t>(at[0] & 0x7F) << shift if shift < 64 else 0
                shift += 7
                at += 1
                if (at - 1)[0] <= 0x7F:
                    break
            if wire_type == 2:
                if value > <uint64_t>(end - at):
                    return False
                at += value
            if use < SLOT:
                taken = at - start
                for group in range(3):
                    if use & 1 << group:
                        if self.key_sizes[group] + taken > KEY_BYTES:
                            return False
                        memcpy(self.keys[group] + self.key_sizes[group], start, taken)
                        self.key_sizes[group] += taken
                continue
            slot = use - SLOT
            if slot < NUMBERS:
                if wire_type != 0 or value > 0x7FFFFFFF or self.present >> slot & 1:
                    return False
                self.numbers[slot] = value
            else:
                if wire_type != 2:
                    return False
                if slot == EVENT_DATA:
                    if self.entry_count == ENTRIES:
                        return False
                    self.entries[self.entry_count].start = at - value
                    self.entries[self.entry_count].size = value
                    self.entry_count += 1
                    continue
                if self.present >> slot & 1 or value > <uint64_t>self.max_value:
                    return False
                self.texts[slot].start = at - value
                self.texts[slot].size = value
            self.present |= 1 << slot
        return True

    cdef uint64_t _unix_nano(self) except? 0:
        """The time, where both fields tell the same one; else 0."""
        cdef const uint8_t* text = self.texts[UPDATED].start
        cdef uint64_t micros = 0
        cdef int place
        if self.texts[UPDATED].size != UPDATED_BYTES or text[UPDATED_BYTES - 1] != c"Z":
            return 0
        for place in range(SECOND_BYTES, UPDATED_BYTES - 1):
            if not c"0" <= text[place] <= c"9":
                return 0
            micros = micros * 10 + text[place] - c"0"
        if PyBytes_GET_SIZE(self.second) == 0 or memcmp(PyBytes_AS_STRING(self.second), text, SECOND_BYTES) != 0:
            second = PyBytes_FromStringAndSize(<char*>text, SECOND_BYTES)
            parsed = self.teacher.second_unix(second)
            if parsed is None:
                return 0
            self.second, self.second_unix = second, parsed
            self.second_unix_nano = self.second_unix * 1_000_000_000
        if micros == 0 or <int64_t>self.numbers[TIMESTAMP] != self.second_unix:
            return 0
        return self.second_unix_nano + micros * 1_000

    cdef Taught _detail(self, Taught rule):
        """What Data says; and Resource, where the two say something only together."""
        cdef Taught detail
        cdef bytes data = to_bytes(self.texts[DATA])
        if rule.network:
            detail = self._form(data)
            if detail is not None:
                return detail
        else:
            key = rule.operation + b"\0" + data
            detail = self.recall_detail(key) or self.teacher.details.learn(key)
            if detail.role != PARSED_ROLE:
                return detail if detail.weight else None
        key = b"\0".join((rule.operation, data, to_bytes(self.texts[RESOURCE])))
        detail = self.recall_parsed(key) or self.teacher.parsed.learn(key)
        return detail if detail.weight else None

    cdef Taught _form(self, bytes data):
        """What a Network event of a known form says beside its one new word, which is then in `self.word`; or None."""
        cdef Form form
        cdef Taught taught
        cdef Slice text
        for form in self.forms:
            if not begins(self.texts[DATA], form.beginning):
                continue
            text = self.texts[DATA if form.in_data else RESOURCE]
            if not find_word(text, form.marker, &self.word) or (form.ipv4 and not is_ipv4(self.word)):
                return None
            before = PyBytes_FromStringAndSize(<char*>text.start, self.word.start - text.start)
            after = PyBytes_FromStringAndSize(
                <char*>self.word.start + self.word.size, text.start + text.size - self.word.start - self.word.size
            )
            rest = before + form.stand_in + after
            key = (form.number, rest, to_bytes(self.texts[RESOURCE])) if form.in_data else (form.number, data, rest)
            taught = self.recall_form(key) or self.teacher.forms_taught.learn(key)
            return taught if taught.weight else None
        return None

    cdef bint _entries_are_known(self, Taught detail) except -1:
        """Whether EventData says nothing beyond Data and Resource."""
        cdef int at
        for at in range(self.entry_count):
            if to_bytes(self.entries[at]) not in detail.known and not self._is_the_word(self.entries[at], detail):
                return False
        return True

    cdef bint _is_the_word(self, Slice entry, Taught detail) noexcept:
        """Whether an entry is the word of a form, under its key: {key = 1, value = 2}."""
        cdef uint8_t head[2 * VARINT_BYTES]
        cdef uint8_t* end
        cdef Py_ssize_t size
        if detail.role != FORM_ROLE:
            return False
        if not begins(entry, detail.form.entry_key):
            return False
        size = PyBytes_GET_SIZE(detail.form.entry_key)
        entry.start += size
        entry.size -= size
        head[0] = 0x12
        end = put_varint(head + 1, self.word.size)
        size = end - head
        return (
            entry.size == size + self.word.size
            and memcmp(entry.start, head, size) == 0
            and memcmp(entry.start + size, self.word.start, self.word.size) == 0
        )

    # --- writing ---

    cdef uint8_t* _room(self, Py_ssize_t size) except NULL:
        cdef uint8_t* grown
        if size > self.capacity:
            grown = <uint8_t*>realloc(self.out, 2 * size)
            if grown is NULL:
                raise MemoryError
            self.out = grown
            self.capacity = 2 * size
        return self.out

    cdef object _write(
        self, Taught workload, Taught rule, Taught process, Taught detail, uint64_t unix_nano, uint64_t received_unix_nano
    ):
        cdef Slice source = self.texts[SOURCE], resource = self.texts[RESOURCE]
        cdef Slice subject = resource if resource.size else self.texts[DATA]
        cdef bint is_command = detail.role == COMMAND_ROLE
        cdef bytes by = process.by_parent if is_command else process.by_executable
        cdef Py_ssize_t by_size = PyBytes_GET_SIZE(by)
        cdef bint by_source = by_size == 0 and source.size > 0
        if by_source:
            by_size = 4 + source.size
        cdef Py_ssize_t line = (
            PyBytes_GET_SIZE(rule.before) + subject.size + by_size + PyBytes_GET_SIZE(workload.where)
            + PyBytes_GET_SIZE(rule.after)
        )
        if line > self.max_body:
            return None
        cdef uint8_t* out = self._room(
            FRAME_BYTES + PyBytes_GET_SIZE(rule.head) + PyBytes_GET_SIZE(workload.attributes)
            + PyBytes_GET_SIZE(rule.attributes) + PyBytes_GET_SIZE(process.attributes)
            + PyBytes_GET_SIZE(detail.attributes) + PyBytes_GET_SIZE(detail.what) + 3 * resource.size
            + 2 * self.texts[DATA].size + source.size
            + PyBytes_GET_SIZE(self.uid_head) + line
        )
        cdef uint8_t* at = out
        at[0] = 0x09  # time_unix_nano = 1, fixed64
        memcpy(at + 1, &unix_nano, 8)
        at[9] = 0x59  # observed_time_unix_nano = 11, fixed64
        memcpy(at + 10, &received_unix_nano, 8)
        at = put(at + 18, rule.head)
        at = put(at, workload.attributes)
        at = put(at, rule.attributes)
        at = put(at, process.attributes)
        at = put(at, detail.attributes)
        # What was touched, as far as it identifies the event, and the rest of it.
        cdef uint8_t* what = at
        cdef uint8_t* end_of_what
        if detail.role == FORM_ROLE:
            at = put_text(at, detail.form.word_key, self.word)
            end_of_what = at
            at = put_text(at, detail.form.raw_key, self.texts[DATA if detail.form.in_data else RESOURCE])
        else:
            at = self._put_what(at, detail, resource)
            end_of_what = what if detail.role == PARSED_ROLE else at
        cdef uint8_t* who = at
        if source.size:
            if not is_command:
                at = put_text(at, self.command_line_key, source)
            elif not same(source, process.parent):
                at = put_text(at, self.source_key, source)
        at = self._put_numbers(at)
        cdef uint8_t* end_of_new = at

        # The identity, in the order in which `lane.py` joins it.
        digest = self.new_digest()
        digest.update(b"".join((
            self.salt, workload.digest, rule.digest, process.digest,
            PyBytes_FromStringAndSize(<char*>&unix_nano, 8), detail.digest,
            PyBytes_FromStringAndSize(<char*>what, end_of_what - what),
            PyBytes_FromStringAndSize(<char*>who, end_of_new - who),
        )))
        at = put(at, self.uid_head)
        at = put_uid(at, digest.digest())

        at[0] = 0x2A  # body = 5: AnyValue{string_value = 1}
        at = put_varint(at + 1, 1 + digits(line) + line)
        at[0] = 0x0A
        at = put_varint(at + 1, line)
        at = put(at, rule.before)
        at = put_slice(at, subject)
        if by_source:
            memcpy(at, b" by ", 4)
            at = put_slice(at + 4, source)
        else:
            at = put(at, by)
        at = put(at, workload.where)
        at = put(at, rule.after)

        self.nodes[workload.node] = received_unix_nano
        if self.is_alerts:
            if workload.namespace in rule.counts:
                rule.counts[workload.namespace] += 1
            else:
                self.tally.count_alert(workload.namespace, rule.kind)
        encoded = PyBytes_FromStringAndSize(<char*>out, at - out)
        return tuple.__new__(self.record_class, (self.stream, workload.resource, encoded, unix_nano))

    cdef uint8_t* _put_what(self, uint8_t* at, Taught detail, Slice resource) noexcept:
        """Resource by the role that it plays, and raw."""
        cdef Slice name
        if detail.role == PARSED_ROLE:
            return put(at, detail.what)
        if resource.size == 0:
            return at
        if detail.role == OTHER_ROLE:
            return put_text(at, self.resource_key, resource)
        at = put_text(at, self.path_key if detail.role == FILE_ROLE else self.command_line_key, resource)
        at = put_text(at, self.resource_key, resource)
        if detail.role == FILE_ROLE:
            name.size = 0
            while name.size < resource.size and resource.start[resource.size - name.size - 1] != c"/":
                name.size += 1
            name.start = resource.start + resource.size - name.size
            if name.size:
                at = put_text(at, self.name_key, name)
        return at

    cdef uint8_t* _put_numbers(self, uint8_t* at) noexcept:
        """HostPID, HostPPID, PID, PPID and UID. 0 means unknown, but for the UID of a known process: that is root."""
        cdef int slot
        for slot in range(HOST_PID, NUMBERS):
            if self.numbers[slot]:
                at = put_int(at, <bytes>self.number_keys[slot - HOST_PID], self.numbers[slot])
            elif slot == UID and self.numbers[HOST_PID]:
                at = put(at, self.root)
        return at
