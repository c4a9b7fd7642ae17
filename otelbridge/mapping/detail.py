"""How it was seen and what was touched: Data and Resource in; attributes, and the role that Resource plays, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from otelbridge.mapping.network import firewall_attributes, network_attributes
from otelbridge.mapping.wire import Attribute

FILE_SYSCALLS = frozenset(
    {"open", "openat", "close", "unlink", "unlinkat", "rmdir", "mkdir", "chown", "fchownat", "rename", "truncate"}
)
EXEC_SYSCALLS = frozenset({"execve", "execveat"})
OPENING_SYSCALLS = frozenset({"open", "openat"})
OWNERSHIP_SYSCALLS = frozenset({"chown", "fchownat"})
MAX_DEVICE_DIGITS = 9
_SEEN_BY = {"lsm": "kubearmor.lsm.hook", "kprobe": "kubearmor.kprobe", "kfunc": "kubearmor.kfunc"}
_DEVICE_KEYS = {
    "Class": "kubearmor.device.class",
    "SubClass": "kubearmor.device.subclass",
    "Protocol": "kubearmor.device.protocol",
    "Level": "kubearmor.device.level",
}


class Role(Enum):
    """What an event's Resource is."""

    COMMAND = "command"
    """The command line that was executed; Source is then the parent."""
    FILE = "file"
    PARSED = "parsed"
    """It says something only together with Data: a peer, a direction, a capability."""
    OTHER = "other"


class Detail(NamedTuple):
    """What Data comes to."""

    attributes: list[Attribute]
    role: Role
    pairs: dict[str, str]


def detail(operation: str, data: str) -> Detail:
    """What Data says by itself."""
    pairs = data_pairs(data)
    syscall = pairs.get("syscall", "").removeprefix("SYS_").lower()
    attributes: list[Attribute] = [(key, pairs[name].lower()) for name, key in _SEEN_BY.items() if name in pairs]
    if syscall:
        attributes.append(("kubearmor.syscall.name", syscall))
        attributes += _syscall_arguments(syscall, pairs)
    elif operation == "Device":
        attributes += _device(pairs)
    return Detail(attributes, _role(operation, syscall), pairs)


def detail_with_resource(operation: str, pairs: Mapping[str, str], data: str, resource: str) -> Iterator[Attribute]:
    """What Data and Resource say only together."""
    match operation:
        case "Network":
            return network_attributes(pairs, resource)
        case "NetworkFirewall":
            return firewall_attributes(pairs, resource)
        case _:
            return iter([("kubearmor.capability", resource or _bare_word(data))])


def data_pairs(data: str) -> dict[str, str]:
    """`key=value` pairs, parted by blanks; around KubeArmor 1.6.5, DNS events had commas there.

    A word without `=` belongs to the value before it, but for a capability's name.
    """
    words = data.split("," if data.startswith("kfunc=") and " " not in data else " ")
    pairs: dict[str, str] = {}
    last = ""
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            last = key
            pairs.setdefault(key, value)
        elif last and last != "lsm":
            pairs[last] += " " + word
    return pairs


def event_data_of(text: str) -> dict[str, str]:
    """The EventData that KubeArmor (1.6.4 and later) makes of Data, and of a Network event's Resource.

    What is in it says nothing new.
    """
    made: dict[str, str] = {}
    for word in text.split(" "):
        key, equals, value = word.partition("=")
        if equals:
            made[key[:1].upper() + key[1:]] = value
    return made


def _role(operation: str, syscall: str) -> Role:
    if (operation == "Process" and syscall != "ptrace") or syscall in EXEC_SYSCALLS:
        return Role.COMMAND
    if operation == "File" or syscall in FILE_SYSCALLS:
        return Role.FILE
    if operation in {"Network", "NetworkFirewall", "Capabilities"}:
        return Role.PARSED
    return Role.OTHER


def _syscall_arguments(syscall: str, pairs: Mapping[str, str]) -> Iterator[Attribute]:
    if syscall in OPENING_SYSCALLS:
        yield "kubearmor.file.open_flags", [flag for flag in pairs.get("flags", "").split("|") if flag]
    elif syscall in OWNERSHIP_SYSCALLS:
        yield "file.owner.id", pairs.get("userid", "")
        yield "file.group.id", pairs.get("group", "")
        yield "file.mode", pairs.get("mode", "")


def _device(pairs: Mapping[str, str]) -> Iterator[Attribute]:
    for name, key in _DEVICE_KEYS.items():
        text = pairs.get(name, "")
        if len(text) <= MAX_DEVICE_DIGITS and text.isascii() and text.isdigit():  # -1 means any
            yield key, int(text)
    yield "kubearmor.device.sys_path", pairs.get("SysPath", "")


def _bare_word(data: str) -> str:
    return next((word for word in data.split(" ") if word and "=" not in word), "")
