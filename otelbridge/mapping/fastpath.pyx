# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The fast path: an event's bytes in, its record out; or None, where anything about the event is unusual.

Compiled, and optional. It joins a usual event's record from parts that `record_encoder.py` worked out before (they come
through `fastpath_cache.py`) and from what is new in it, as `fields.py` says. It walks the event's bytes once, finds
the parts by the bytes of their fields, and writes the record. Whatever is unusual (an unknown field, a text that is not
printable ASCII, a value too long, EventData that says something new) it hands back for `record_encoder.py` to map. So
what an event becomes is said in one place, in Python, and this file is tested to agree with it.

Memory: the event is only read between its first and its last byte (`_walk` checks every length against what is left);
what is written goes through `_room`, which knows the size beforehand. Numbers are written as a little-endian machine
holds them; on others this file is not used.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from otelbridge.flood_window cimport FloodWindow
from otelbridge.mapping.fastpath_wire cimport (
    Slice, begins, digits, find, find_word, hash_of, is_entry, is_ipv4, mixed, printable, put, put_int, put_slice, put_text, put_uid,
    put_varint, same, to_bytes, to_text,
)

from otelbridge.flood_window import EXAMPLES

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
    DIGEST_BYTES = 16
    FIELDS = 128  # field numbers below this are known; KubeArmor's end at 44
    KEY_BYTES = 8192  # of one group's fields in an event
    ENTRIES = 64  # of EventData
    UPDATED_BYTES = 27  # 2006-01-02T15:04:05.000000Z
    SECOND_BYTES = 20  # of it, with the dot
    VARINT_BYTES = 10
    MAX_VERDICTS = 4096
    MAX_PARTS = 16
    FRAME_BYTES = 1024  # more than all tags, lengths, keys and numbers of a record that stand outside its parts

cdef enum:
    COMMAND_ROLE, FILE_ROLE, OTHER_ROLE, PARSED_ROLE, TEMPLATE_ROLE

ROLES = {"command": COMMAND_ROLE, "file": FILE_ROLE, "other": OTHER_ROLE, "parsed": PARSED_ROLE}

cdef enum:
    # The parts of a record; those that only unusual events have are left out.
    TIMES, HEAD, OF_WORKLOAD, OF_RULE, OF_PROCESS, OF_DATA, OF_RESOURCE, OF_SOURCE, OF_NUMBERS, OF_UID, OF_BODY

PARTS = {
    "times": TIMES, "head": HEAD, "workload": OF_WORKLOAD, "rule": OF_RULE, "process": OF_PROCESS, "detail": OF_DATA,
    "resource": OF_RESOURCE, "source": OF_SOURCE, "numbers": OF_NUMBERS, "uid": OF_UID, "body": OF_BODY,
}
GROUP_BITS = {"workload": WORKLOAD, "rule": RULE, "process": PROCESS}
SLOT_BIT = SLOT
TEMPLATE_ROLE_NUMBER = TEMPLATE_ROLE


cdef enum:
    # What is said of an event where floods are counted.
    OPEN, PASSES, COUNTED
    PLACES = 8192  # for entries of each group
    PAIRS = 16384  # of a workload and a rule
    COUNTED_BYTES = 8192  # of an event
    PLACES_BYTES = 8 << 20  # of the entries in all places

cdef Py_ssize_t MAX_EXAMPLES = EXAMPLES


cdef class Template:
    """A kind of Network event that differs in one word, see `details.py`."""

    cdef bytes beginning, marker, stand_in, word_key, raw_key, entry_key
    cdef bint in_data, ipv4
    cdef int number

    def __init__(self, int number, **said):
        self.number = number
        self.beginning, self.marker, self.stand_in = said["beginning"], said["marker"], said["stand_in"]
        self.word_key, self.raw_key, self.entry_key = said["word_key"], said["raw_key"], said["entry_key"]
        self.in_data, self.ipv4 = said["in_data"], said["ipv4"]


cdef class Entry:
    """A part that `record_encoder.py` worked out, or the news that there is something unusual about it."""

    cdef public int weight
    cdef bytes attributes, digest, resource, where, head, before, after, by_executable, by_parent, parent, operation, what
    cdef str node, place, executable
    cdef uint64_t executable_hash
    cdef bytes key  # where floods are counted: of its group of fields
    cdef uint64_t number
    cdef object workload, kind, known, held, told
    cdef dict counts
    cdef Template template
    cdef int role
    cdef bint network

    def __init__(
        self, int weight=0, *, bytes attributes=None, bytes digest=None, bytes resource=None, bytes where=None,
        str node=None, workload=None, bytes head=None, bytes before=None, bytes after=None, bytes operation=None,
        bint network=False, counts=None, kind=None, bytes by_executable=None, bytes by_parent=None, bytes parent=None,
        Template template=None, held=0, int role=OTHER_ROLE, known=None, bytes what=b"", told=None, str place="",
        str executable="",
    ):
        self.weight, self.attributes, self.digest, self.resource = weight, attributes, digest, resource
        self.where, self.node, self.workload, self.head = where, node, workload, head
        self.before, self.after, self.operation, self.network = before, after, operation, network
        self.counts, self.kind, self.by_executable, self.by_parent = counts, kind, by_executable, by_parent
        self.parent, self.template, self.held, self.role = parent, template, held, role
        self.known, self.what, self.told, self.place, self.executable = known, what, told, place, executable
        raw = executable.encode()
        self.executable_hash = hash_of(Slice(<const uint8_t*>PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw)))


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
    cdef object cache, stream, record_class, new_digest, tally, screen, tracing
    cdef object recall_workload, recall_rule, recall_process, recall_detail, recall_parsed, recall_template
    cdef list templates
    cdef Slice word  # of an event that fits a template
    cdef dict nodes, verdicts
    # The plan.
    cdef int order[MAX_PARTS]
    cdef int identity_numbers[MAX_PARTS]
    cdef int identity_texts[MAX_PARTS]
    cdef int parts, identity_number_count, identity_text_count
    cdef list resource_keys  # by role: encoded key, whether it holds the last name only
    cdef bint is_alerts, keeps_last
    cdef bytes salt, uid_head, root, source_key, parent_key, remote_host
    cdef list number_keys
    cdef Py_ssize_t max_value, max_body
    # Of a turn with floods.
    cdef object floods
    cdef list touched, places, memos, pairs
    cdef uint64_t pair_keys[PLACES]
    cdef dict flows
    cdef long generation, numbered, place_bytes
    cdef double now, interval, tolerance

    def __cinit__(self):
        self.out = NULL
        self.capacity = 0

    def __dealloc__(self):
        free(self.out)

    def __init__(self, cache):
        """Everything that it knows comes from its cache."""
        for number in range(FIELDS):
            self.table[number] = UNKNOWN
        for number, use in cache.fields.items():
            self.table[<int>number] = use
        self.cache = cache
        self.stream, self.record_class, self.tally = cache.stream, cache.record_class, cache.tally
        self.new_digest, self.nodes, self.is_alerts = cache.new_digest, cache.tally.nodes, cache.is_alerts
        self.keeps_last = cache.tally.keeps_last
        self.recall_workload, self.recall_rule = cache.workloads.recall, cache.rules.recall
        self.recall_process, self.recall_detail = cache.processes.recall, cache.details.recall
        self.recall_parsed, self.recall_template = cache.parsed.recall, cache.template_entries.recall
        self.templates, self.screen, self.verdicts = cache.templates, cache.screen, {}
        self.tracing = cache.tracing
        self.salt, self.uid_head, self.root = cache.salt, cache.uid_head, cache.root
        self.source_key, self.parent_key, self.remote_host = cache.source_key, cache.parent_key, cache.remote_host
        self.number_keys, self.resource_keys = cache.number_keys, cache.resource_keys
        self.max_value, self.max_body = cache.max_value_bytes, cache.max_body_bytes
        self.second, self.second_unix, self.second_unix_nano = b"", 0, 0
        self.memos = [cache.workloads, cache.rules, cache.processes]
        self._forget_places()
        self.flows, self.pairs, self.generation, self.numbered = {}, [None] * PLACES, 0, 0
        self.parts = self.identity_number_count = self.identity_text_count = 0
        for part in cache.order:
            self.order[self.parts] = part
            self.parts += 1
        for slot in cache.identity_numbers:
            self.identity_numbers[self.identity_number_count] = slot
            self.identity_number_count += 1
        for slot in cache.identity_texts:
            self.identity_texts[self.identity_text_count] = slot
            self.identity_text_count += 1

    def map(self, bytes body, uint64_t received_unix_nano):
        """Maps one event.

        Args:
            body: the encoded event.
            received_unix_nano: when the bridge received it.

        Returns:
            Its `Record`; or None: the event is not usual, and nothing has been counted; or the name of the rule that
            drops it.
        """
        cdef Entry workload, rule, process, detail
        cdef bytes key
        cdef uint64_t unix_nano
        if not self._walk(<const uint8_t*>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)):
            return None
        if not (printable(self.texts[SOURCE]) and printable(self.texts[RESOURCE]) and printable(self.texts[DATA])):
            return None
        # What is cheap to find out comes first: an event that is unusual after all is mapped anew by the reference.
        unix_nano = self._unix_nano()
        if unix_nano == 0:
            return None
        key = PyBytes_FromStringAndSize(<char*>self.keys[1], self.key_sizes[1])
        rule = self.recall_rule(key) or self.cache.rules.learn(key, body)
        if not rule.weight:
            return None
        detail = self._detail(rule)
        if detail is None or not self._entries_are_known(detail):
            return None
        key = PyBytes_FromStringAndSize(<char*>self.keys[0], self.key_sizes[0])
        workload = self.recall_workload(key) or self.cache.workloads.learn(key, body)
        key = PyBytes_FromStringAndSize(<char*>self.keys[2], self.key_sizes[2])
        process = self.recall_process(key) or self.cache.processes.learn(key, body)
        if not (workload.weight and process.weight):
            return None
        if self.screen is not None:
            held = workload.held & rule.held
            if held:
                dropped_by = self._verdict(held)
                if dropped_by is not None:
                    return dropped_by
        return self._write(workload, rule, process, detail, unix_nano, received_unix_nano)

    # --- floods ---

    def attend(self, floods):
        """Judges by these floods from now on; to be called before each `sift`."""
        self.floods, self.touched = floods, floods.touched
        self.now, self.interval, self.tolerance = floods.now, floods.interval, floods.tolerance
        if self.generation != floods.generation or len(self.flows) > PAIRS:
            self.flows, self.pairs, self.generation = {}, [None] * PLACES, floods.generation

    cdef int _judge(self, tuple event, bint mapped) except -1:
        """Counts an event of a flood; what it has not looked at enough to say is for others to judge.

        The event is read as `map` does, as far as to know that it is usual, and nothing of it is mapped.
        """
        cdef Entry workload, rule, process
        cdef FloodWindow flow
        cdef bytes body = <bytes>PyTuple_GET_ITEM(event, 1)
        cdef uint64_t unix_nano
        received = <object>PyTuple_GET_ITEM(event, 2)
        cdef double due
        cdef int place
        if <int64_t>received < 0 or PyBytes_GET_SIZE(body) > COUNTED_BYTES:
            return OPEN
        if not self._walk(<const uint8_t*>PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)):
            return OPEN
        if not (printable(self.texts[SOURCE]) and printable(self.texts[RESOURCE]) and printable(self.texts[DATA])):
            return OPEN
        unix_nano = self._unix_nano()
        if unix_nano == 0:
            return OPEN
        for place in range(self.entry_count):
            if not is_entry(self.entries[place]):
                return OPEN
        rule, workload, process = self._known(1, body), self._known(0, body), self._known(2, body)
        if not (rule.weight and workload.weight and process.weight):
            return OPEN
        if self.screen is not None:
            held = workload.held & rule.held
            if held and self._verdict(held) is not None:
                return OPEN
        flow = self._flow(workload, rule)
        if not flow.events:  # a turn's time stands still: once it has counted one event, it counts the others too
            due = flow.due if flow.due > self.now else self.now
            if due - self.now <= self.tolerance:
                flow.due = due + self.interval
                return PASSES
            if not flow.number:
                if self.floods.full:
                    return PASSES
                self.floods.open(flow, self.cache.sample(body), unix_nano)
        if process.executable and flow.processes.is_new(process.executable_hash):
            flow.processes.show(process.executable)
        if self.texts[RESOURCE].size and flow.resources.is_new(hash_of(self.texts[RESOURCE])):
            if len(flow.resources.examples) < MAX_EXAMPLES:
                flow.resources.show(to_text(self.texts[RESOURCE]))
        flow.kept.append(event)
        if not flow.events:
            self.touched.append(flow)
        flow.events += 1
        if unix_nano < flow.first:
            flow.first = unix_nano
        if unix_nano > flow.last:
            flow.last = unix_nano
        if not mapped:
            self.nodes[workload.node] = received
            if self.is_alerts:
                alerts = rule.counts.get(workload.workload)
                if alerts is not None:
                    rule.counts[workload.workload] = alerts + 1
                else:
                    self.tally.count_alert(workload.workload, rule.kind)
        return COUNTED

    cdef FloodWindow _flow(self, Entry workload, Entry rule):
        """What is known of their kind."""
        cdef uint64_t pair = workload.number << 32 | rule.number
        cdef uint64_t place = (pair * <uint64_t>0x9E3779B97F4A7C15 >> 32) & PLACES - 1
        cdef FloodWindow flow = <FloodWindow>self.pairs[place]
        if flow is None or self.pair_keys[place] != pair:
            flow = self.flows.get(pair)
            if flow is None:
                flow = self.flows[pair] = self.floods.meet(self.stream, workload.place, rule.place)
            self.pairs[place], self.pair_keys[place] = flow, pair
        return flow

    cdef Entry _known(self, int group, bytes body):
        """The entry of a group of fields of the event that was walked, by their bytes."""
        cdef uint64_t place = mixed(self.keys[group], self.key_sizes[group]) & PLACES - 1
        cdef list places = self.places[group]
        cdef Entry found = <Entry>places[place]
        if (
            found is not None
            and PyBytes_GET_SIZE(found.key) == self.key_sizes[group]
            and memcmp(PyBytes_AS_STRING(found.key), self.keys[group], self.key_sizes[group]) == 0
        ):
            return found
        key = PyBytes_FromStringAndSize(<char*>self.keys[group], self.key_sizes[group])
        memo = self.memos[group]
        found = memo.recall(key) or memo.learn(key, body)
        if found.weight:
            if found.key is None:
                self.numbered += 1
                found.key, found.number = key, self.numbered
            self.place_bytes += found.weight
            if self.place_bytes > PLACES_BYTES:  # the memos have their own bounds, and may have let go of them
                places = self._forget_places()[group]
            places[place] = found
        return found

    cdef list _forget_places(self):
        self.places, self.place_bytes = [[None] * PLACES for _ in range(3)], 0
        return self.places

    cdef object _verdict(self, object held):
        """The name of the rule that drops an event for which these rules hold, or None; rules are bits."""
        try:
            return self.verdicts[held]
        except KeyError:
            pass
        if len(self.verdicts) >= MAX_VERDICTS:
            self.verdicts.clear()
        found = self.verdicts[held] = self.screen.dropped_by(held)
        return found

    # --- reading ---

    cdef bint _walk(self, const uint8_t* at, Py_ssize_t size) noexcept:
        """Finds every field of the event; False where one is unknown, malformed, too large or there twice."""
        cdef const uint8_t* end = at + size
        cdef const uint8_t* start
        cdef uint64_t number, value
        cdef int use, slot, shift, wire_type
        cdef int run_use = 0
        cdef const uint8_t* run = at
        cdef Py_ssize_t run_size = 0
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
            if at < end and at[0] <= 0x7F:
                value = at[0]
                at += 1
                shift = -1
            else:
                value = 0
                shift = 0
            while shift >= 0:
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
                if use == run_use and start == run + run_size:
                    run_size = at - run
                    continue
                if not self._keep(run_use, run, run_size):
                    return False
                run_use, run, run_size = use, start, at - start
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
        return self._keep(run_use, run, run_size)

    cdef inline bint _keep(self, int use, const uint8_t* run, Py_ssize_t size) noexcept:
        """Adds fields that follow one another to the keys of their groups; False where they are too large."""
        cdef int group
        for group in range(3):
            if use & 1 << group:
                if self.key_sizes[group] + size > KEY_BYTES:
                    return False
                memcpy(self.keys[group] + self.key_sizes[group], run, size)
                self.key_sizes[group] += size
        return True

    cdef uint64_t _unix_nano(self) except? 0:
        """The time, where both fields tell the same one, or UpdatedTime alone does; else 0."""
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
            parsed = self.cache.second_unix(second)
            if parsed is None:
                return 0
            self.second, self.second_unix = second, parsed
            self.second_unix_nano = self.second_unix * 1_000_000_000
        if self.numbers[TIMESTAMP] != 0 and <int64_t>self.numbers[TIMESTAMP] != self.second_unix:
            return 0
        return self.second_unix_nano + micros * 1_000

    cdef Entry _detail(self, Entry rule):
        """What Data says; and Resource, where the two say something only together."""
        cdef Entry detail
        cdef bytes data = to_bytes(self.texts[DATA])
        if rule.network:
            detail = self._of_template(data)
            if detail is not None:
                return detail
        else:
            key = rule.operation + b"\0" + data
            detail = self.recall_detail(key) or self.cache.details.learn(key)
            if detail.role != PARSED_ROLE:
                return detail if detail.weight else None
        key = b"\0".join((rule.operation, data, to_bytes(self.texts[RESOURCE])))
        detail = self.recall_parsed(key) or self.cache.parsed.learn(key)
        return detail if detail.weight else None

    cdef Entry _of_template(self, bytes data):
        """What a Network event that fits a template says beside its one new word, which is then in `self.word`; or None."""
        cdef Template template
        cdef Entry entry
        cdef Slice text
        for template in self.templates:
            if not begins(self.texts[DATA], template.beginning):
                continue
            text = self.texts[DATA if template.in_data else RESOURCE]
            if not find_word(text, template.marker, &self.word) or (template.ipv4 and not is_ipv4(self.word)):
                return None
            before = PyBytes_FromStringAndSize(<char*>text.start, self.word.start - text.start)
            after = PyBytes_FromStringAndSize(
                <char*>self.word.start + self.word.size, text.start + text.size - self.word.start - self.word.size
            )
            rest = before + template.stand_in + after
            if template.in_data:
                key = (template.number, rest, to_bytes(self.texts[RESOURCE]))
            else:
                key = (template.number, data, rest)
            entry = self.recall_template(key) or self.cache.template_entries.learn(key)
            return entry if entry.weight else None
        return None

    cdef bint _entries_are_known(self, Entry detail) except -1:
        """Whether EventData says nothing beyond Data and Resource."""
        cdef int at
        for at in range(self.entry_count):
            if to_bytes(self.entries[at]) not in detail.known and not self._is_the_word(self.entries[at], detail):
                return False
        return True

    cdef bint _is_the_word(self, Slice entry, Entry detail) noexcept:
        """Whether an entry is the word of a template, under its key: {key = 1, value = 2}."""
        cdef uint8_t head[2 * VARINT_BYTES]
        cdef uint8_t* end
        cdef Py_ssize_t size
        if detail.role != TEMPLATE_ROLE:
            return False
        if not begins(entry, detail.template.entry_key):
            return False
        size = PyBytes_GET_SIZE(detail.template.entry_key)
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
        self, Entry workload, Entry rule, Entry process, Entry detail, uint64_t unix_nano, uint64_t received_unix_nano
    ):
        cdef Slice source = self.texts[SOURCE], resource = self.texts[RESOURCE]
        cdef Slice subject = resource if resource.size else self.texts[DATA]
        cdef bytes before = rule.before
        if subject.size == 0:
            before = before.rstrip()
            if not before:
                return None
        cdef bint is_command = detail.role == COMMAND_ROLE
        cdef bytes by = process.by_parent if is_command else process.by_executable
        cdef Py_ssize_t by_size = PyBytes_GET_SIZE(by)
        cdef bint by_source = by_size == 0 and source.size > 0
        if by_source:
            by_size = 4 + source.size
        cdef Py_ssize_t line = (
            PyBytes_GET_SIZE(before) + subject.size + by_size + PyBytes_GET_SIZE(workload.where)
            + PyBytes_GET_SIZE(rule.after)
        )
        if line > self.max_body:
            return None
        cdef Py_ssize_t largest = (
            FRAME_BYTES + PyBytes_GET_SIZE(rule.head) + PyBytes_GET_SIZE(workload.attributes)
            + PyBytes_GET_SIZE(rule.attributes) + PyBytes_GET_SIZE(process.attributes)
            + PyBytes_GET_SIZE(detail.attributes) + PyBytes_GET_SIZE(detail.what) + 3 * resource.size
            + 2 * self.texts[DATA].size + source.size
            + PyBytes_GET_SIZE(self.uid_head) + line
        )
        cdef uint8_t* out = self._room(largest + self._identity_size())
        cdef uint8_t* at = out
        cdef int place, part
        for place in range(self.parts):
            part = self.order[place]
            if part == TIMES:
                at[0] = 0x09  # time_unix_nano = 1, fixed64
                memcpy(at + 1, &unix_nano, 8)
                at[9] = 0x59  # observed_time_unix_nano = 11, fixed64
                memcpy(at + 10, &received_unix_nano, 8)
                at += 18
            elif part == HEAD:
                at = put(at, rule.head)
            elif part == OF_WORKLOAD:
                at = put(at, workload.attributes)
            elif part == OF_RULE:
                at = put(at, rule.attributes)
            elif part == OF_PROCESS:
                at = put(at, process.attributes)
            elif part == OF_DATA:
                at = put(at, detail.attributes)
            elif part == OF_RESOURCE:
                at = self._put_resource(at, detail, resource)
            elif part == OF_SOURCE:
                if source.size and not is_command:
                    at = put_text(at, self.source_key, source)
                elif source.size and not same(source, process.parent):
                    at = put_text(at, self.parent_key, source)
            elif part == OF_NUMBERS:
                at = self._put_numbers(at)
            elif part == OF_UID:
                at = put(at, self.uid_head)
                at = put_uid(at, self._digest(out + largest, workload, rule, process))
            else:
                at[0] = 0x2A  # body = 5: AnyValue{string_value = 1}
                at = put_varint(at + 1, 1 + digits(line) + line)
                at[0] = 0x0A
                at = put_varint(at + 1, line)
                at = put(at, before)
                at = put_slice(at, subject)
                if by_source:
                    memcpy(at, b" by ", 4)
                    at = put_slice(at + 4, source)
                else:
                    at = put(at, by)
                at = put(at, workload.where)
                at = put(at, rule.after)

        self.nodes[workload.node] = received_unix_nano
        if self.keeps_last:
            self.tally.last = (workload.node, workload.workload, rule.kind)
        if self.tracing is not None:
            self.tracing.told = (
                workload.told, process.told, rule.told, self.numbers[HOST_PID], self.numbers[HOST_PPID],
                self.numbers[PID], self.numbers[PPID], to_text(source), to_text(resource), to_text(self.texts[DATA]),
            )
        if self.is_alerts:
            if workload.workload in rule.counts:
                rule.counts[workload.workload] += 1
            else:
                self.tally.count_alert(workload.workload, rule.kind)
        encoded = PyBytes_FromStringAndSize(<char*>out, at - out)
        return tuple.__new__(self.record_class, (self.stream, workload.resource, encoded, unix_nano))

    cdef Py_ssize_t _identity_size(self) noexcept:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.salt) + 3 * DIGEST_BYTES + 8 * self.identity_number_count
        cdef int place
        for place in range(self.identity_text_count):
            size += 4
            if self.identity_texts[place] >= 0:
                size += self.texts[self.identity_texts[place]].size
        return size

    cdef bytes _digest(self, uint8_t* start, Entry workload, Entry rule, Entry process):
        """The digest of what identifies the event, in the plan's order."""
        cdef uint8_t* at = put(put(put(put(start, self.salt), workload.digest), rule.digest), process.digest)
        cdef Slice text
        cdef uint32_t size
        cdef int place, slot
        for place in range(self.identity_number_count):
            memcpy(at, &self.numbers[self.identity_numbers[place]], 8)
            at += 8
        cdef uint8_t* sizes = at
        at += 4 * self.identity_text_count
        for place in range(self.identity_text_count):
            slot = self.identity_texts[place]
            text.size = 0
            if slot >= 0:
                text = self.texts[slot]
                if slot == RESOURCE and rule.network:
                    text.size = find(text, self.remote_host)
            size = text.size
            memcpy(sizes + 4 * place, &size, 4)
            if size:
                at = put_slice(at, text)
        digest = self.new_digest()
        digest.update(PyBytes_FromStringAndSize(<char*>start, at - start))
        return digest.digest()

    cdef uint8_t* _put_resource(self, uint8_t* at, Entry detail, Slice resource):
        """Resource by the role that it plays, and raw."""
        cdef Slice name
        cdef bytes key
        cdef bint is_name
        if detail.role == TEMPLATE_ROLE:
            at = put_text(at, detail.template.word_key, self.word)
            return put_text(at, detail.template.raw_key, self.texts[DATA if detail.template.in_data else RESOURCE])
        if detail.role == PARSED_ROLE:
            return put(at, detail.what)
        if resource.size == 0:
            return at
        for key, is_name in <list>self.resource_keys[detail.role]:
            if not is_name:
                at = put_text(at, key, resource)
                continue
            name.size = 0
            while name.size < resource.size and resource.start[resource.size - name.size - 1] != c"/":
                name.size += 1
            name.start = resource.start + resource.size - name.size
            if name.size:
                at = put_text(at, key, name)
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


def sift(dict paths not None, list events not None, Py_ssize_t start=0, bint mapped=False):
    """Counts events of floods, up to the first one that it leaves to others to judge: in their order it matters.

    Args:
        paths: the fast path of each stream; all attend to the same floods.
        events: some, in their order.
        start: the place of the first one.
        mapped: they have been mapped before, so nodes and alerts are counted already.

    Returns:
        Those that are not counted, whether the last of them is such a one, and the place at which to go on.
    """
    cdef FastPath path = None
    cdef list left = []
    cdef object stream = None
    cdef int said = PASSES
    cdef tuple event
    while start < len(events) and said != OPEN:
        event = <tuple>events[start]
        start += 1
        if <object>PyTuple_GET_ITEM(event, 0) is not stream:
            stream = <object>PyTuple_GET_ITEM(event, 0)
            path = paths.get(stream)
        if path is None:
            left.append(event)
            continue
        try:
            said = path._judge(event, mapped)
        except BaseException:  # whoever judges it next meets the fault too, and says so
            said = OPEN
        if said != COUNTED:
            left.append(event)
    return left, said == OPEN, start
