"""Works out what Data, Resource and EventData say, by operation.

Every connection has another peer and every query another name, so remembering whole Network events would not help.
With the address or the name taken out they are a few hundred templates; what the rest says is worked out as for any
event, with a stand-in for the word.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from otelbridge.mapping.fields import COMMAND, FILE, OTHER, PARSED, RAW_DATA, RAW_RESOURCE
from otelbridge.mapping.wire import Attribute

MAX_PORT = 65_535
MAX_PORT_DIGITS = 5
REMOTE_HOST = " remotehost="
_REMOTE_HOST = re.compile(r" remotehost=([^/ ]+)/([^/ ]*)/([^/ ]+)$")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")  # ipaddress takes ten times as long
_SUN_PATH = re.compile(r"(?s)(?:^|.* )sun_path=(.*)")
_TRANSPORTS = {"TCP": "tcp", "TCPV6": "tcp", "UDP": "udp", "UDPV6": "udp"}
_SOCKET_TRANSPORTS = {"SOCK_STREAM": "tcp", "SOCK_DGRAM": "udp"}
_INTERNET = frozenset({"AF_INET", "AF_INET6"})


def without_remote_host(resource: str) -> str:
    """The Resource as KubeArmor wrote it: two relays append different things, or nothing."""
    return resource.partition(REMOTE_HOST)[0]


def network_attributes(data: Mapping[str, str], resource: str) -> Iterator[Attribute]:
    """Attributes of a Network event, by the pairs of its Data and its Resource as it came."""
    remote = _REMOTE_HOST.search(resource) if REMOTE_HOST in resource else None
    if remote:
        yield "kubearmor.network.peer.kind", remote[1]
        yield "kubearmor.network.peer.namespace", remote[2]
        yield "kubearmor.network.peer.name", remote[3]
        resource = resource[: remote.start()]
    kernel_function = data.get("kfunc", "")
    if kernel_function.startswith("UDP_SEND") or data.get("lsm") == "SOCKET_SENDMSG":
        yield from _lookup(data, _pairs(resource))
    elif "kprobe" in data:
        yield from _connection(data["kprobe"], _pairs(resource))
    elif "sa_family=" in resource or "sun_path=" in resource:
        yield from _socket_address(data.get("syscall", ""), resource)
    else:
        yield from _socket(_pairs(resource))


def firewall_attributes(data: Mapping[str, str], resource: str) -> Iterator[Attribute]:
    """Attributes of a NetworkFirewall event, whose Resource is `INGRESS` or `EGRESS`."""
    if resource in {"INGRESS", "EGRESS"}:
        yield "kubearmor.network.direction", resource.lower()
    for side, prefix in (("source", "Source"), ("destination", "Destination")):
        yield f"{side}.address", data.get(f"{prefix}IP", "")
        yield from _port(f"{side}.port", data.get(f"{prefix}Port", ""))
    yield from _protocol(data.get("Protocol", ""))
    yield from _address_type(data.get("SourceIP", ""))
    yield "kubearmor.quota.level", data.get("QuotaLevel", "")
    yield "kubearmor.quota.limit", data.get("QuotaLimit", "")


def _lookup(data: Mapping[str, str], resource: Mapping[str, str]) -> Iterator[Attribute]:
    """A DNS query, seen on its way out (kfunc) or by a policy (lsm)."""
    yield "dns.question.name", data.get("domain", "")
    yield "kubearmor.dns.question.type", data.get("qtype", "")
    if "kfunc" in data:
        yield "network.peer.address", data.get("daddr", "")
        yield from _port("network.peer.port", resource.get("sin_port", ""))
        yield from _address_type(data.get("daddr", ""))
        yield "network.transport", "udp"
        yield "network.protocol.name", "dns"
        yield "kubearmor.network.direction", "egress"


def _connection(probe: str, resource: Mapping[str, str]) -> Iterator[Attribute]:
    """kprobes: the address is the peer's, but on accept the port is the local, listening one."""
    yield "network.peer.address", resource.get("remoteip", "")
    accepted = probe == "tcp_accept"
    yield from _port("network.local.port" if accepted else "network.peer.port", resource.get("port", ""))
    yield from _address_type(resource.get("remoteip", ""))
    yield from _protocol(resource.get("protocol", ""))
    if probe in {"tcp_accept", "tcp_connect"}:
        yield "kubearmor.network.direction", "ingress" if accepted else "egress"


def _socket_address(syscall: str, resource: str) -> Iterator[Attribute]:
    """connect, bind and accept: KubeArmor writes the parts of the address in random order."""
    end = "local" if syscall == "SYS_BIND" else "peer"
    path = _sun_path(resource)
    if path is not None:
        yield f"network.{end}.address", path
        yield "network.transport", "unix"
        yield "kubearmor.socket.domain", "AF_UNIX"
    else:
        pairs = _pairs(resource)
        address = pairs.get("sin_addr") or pairs.get("sin6_addr", "")
        yield f"network.{end}.address", address
        yield from _port(f"network.{end}.port", pairs.get("sin_port") or pairs.get("sin6_port", ""))
        yield from _address_type(address)
        yield "kubearmor.socket.domain", pairs.get("sa_family", "")
    if syscall in {"SYS_CONNECT", "SYS_ACCEPT", "SYS_ACCEPT4"}:
        yield "kubearmor.network.direction", "egress" if syscall == "SYS_CONNECT" else "ingress"


def _sun_path(resource: str) -> str | None:
    """The path of a Unix socket: it may hold blanks and anything else, so all that is not the family belongs to it."""
    for family in ("sa_family=AF_UNIX ", "sa_family=AF_LOCAL "):
        resource = resource.removeprefix(family)
        if resource.endswith(" " + family.rstrip()):
            resource = resource[: -len(family)]
    found = _SUN_PATH.fullmatch(resource) if resource.startswith("sun_path=") else None
    return found[1] if found else None


def _socket(resource: Mapping[str, str]) -> Iterator[Attribute]:
    """socket() and the BPF LSM's hooks: kinds, no address."""
    domain, kinds, protocol = (resource.get(key, "") for key in ("domain", "type", "protocol"))
    types = [kind for kind in kinds.split("|") if kind]
    yield "kubearmor.socket.domain", domain
    yield "kubearmor.socket.type", types
    yield "kubearmor.socket.protocol", protocol
    transport = _TRANSPORTS.get(protocol.upper(), "")
    if domain == "AF_UNIX":
        transport = "unix"
    elif not transport and domain in _INTERNET and protocol in {"", "0", "HOPOPT", "IP"}:
        transport = next((_SOCKET_TRANSPORTS[kind] for kind in types if kind in _SOCKET_TRANSPORTS), "")
    yield "network.transport", transport


def _protocol(protocol: str) -> Iterator[Attribute]:
    transport = _TRANSPORTS.get(protocol.upper(), "")
    yield "network.transport", transport
    yield "kubearmor.socket.protocol", "" if transport else protocol


def _port(key: str, text: str) -> Iterator[Attribute]:
    """0 means that there is none."""
    if len(text) <= MAX_PORT_DIGITS and text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT:
        yield key, int(text)


def _address_type(address: str) -> Iterator[Attribute]:
    """From the address, not from the socket's domain: IPv4 peers of AF_INET6 sockets print as dotted quads."""
    if _IPV4.fullmatch(address):
        yield "network.type", "ipv4"
    elif ":" in address:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return
        yield "network.type", "ipv6"


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in text.split(" "):
        key, equals, value = word.partition("=")
        if equals:
            pairs.setdefault(key, value)
    return pairs


FILE_SYSCALLS = frozenset({
    "open", "openat", "close", "unlink", "unlinkat", "rmdir", "mkdir", "chown", "lchown", "fchownat", "rename",
    "truncate",
})  # fmt: skip
EXEC_SYSCALLS = frozenset({"execve", "execveat"})
OPENING_SYSCALLS = frozenset({"open", "openat"})
OWNERSHIP_SYSCALLS = frozenset({"chown", "fchown", "lchown", "fchownat"})
MAX_DEVICE_DIGITS = 9
UINT32 = 0xFFFF_FFFF
_INT32 = re.compile(r"-?[0-9]{1,10}")
# What Go's unicode.IsSpace knows, which is where strings.Fields cuts; Python's split() cuts at four more.
_GO_SPACE = re.compile("[\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
# The names that KubeArmor's monitor, enforcers and handlers write into Data, and into Resource of Network events.
EVENT_DATA_NAMES = (
    "Syscall", "Fd", "Flags", "Flag", "Userid", "Group", "Mode", "Source", "Target", "Filesystem", "Mountflag", "Data",
    "Request", "Pid", "Process", "Lsm", "Kprobe", "Kfunc", "Domain", "Daddr", "Qtype", "Type", "Protocol", "Remoteip",
    "Port", "Sa_family", "Sin_addr", "Sin_port", "Sin6_addr", "Sin6_port", "Sun_path", "SourceIP", "SourcePort",
    "DestinationIP", "DestinationPort", "QuotaLevel", "QuotaLimit", "Class", "SubClass", "Level", "VendorID",
    "ProductID", "USB", "Speed", "PortNumber", "SysPath",
)  # fmt: skip
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
EVENT_DATA_KEYS = {name: "kubearmor.event_data." + _HUMP.sub("_", name).lower() for name in EVENT_DATA_NAMES}
OTHER_EVENT_DATA = "kubearmor.event_data.other"
_SEEN_BY = {"lsm": "kubearmor.lsm.hook", "kprobe": "kubearmor.kprobe", "kfunc": "kubearmor.kfunc"}
_DEVICE_KEYS = {
    "Class": "kubearmor.device.class",
    "SubClass": "kubearmor.device.subclass",
    "Protocol": "kubearmor.device.protocol",
    "Level": "kubearmor.device.level",
}


class Detail(NamedTuple):
    """What Data says by itself: attributes, the role of the Resource, and its `key=value` pairs."""

    attributes: list[Attribute]
    role: str
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
    pairs: dict[str, list[str]] = {}
    last = ""
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            last = key
            pairs.setdefault(key, [value])
        elif last and last != "lsm":
            pairs[last].append(word)
    return {key: " ".join(words) for key, words in pairs.items()}


def event_data_of(text: str) -> dict[str, str]:
    """The EventData that KubeArmor (1.6.4 and later) makes of Data, and of a Network event's Resource.

    What is in it says nothing new.
    """
    made: dict[str, str] = {}
    for word in _GO_SPACE.split(text):
        key, equals, value = word.partition("=")
        if equals:
            made[key[:1].upper() + key[1:]] = value
    return made


def event_data_attributes(entries: Sequence[tuple[str, str]]) -> list[Attribute]:
    """Entries of EventData as attributes: those that KubeArmor names by themselves, the rest together under one key.

    Names are taken from KubeArmor's sources only: a socket's path with blanks and `=` in it makes names, too.
    """
    named: list[Attribute] = []
    others: list[str] = []
    for key, text in entries:
        if key in EVENT_DATA_KEYS:
            named.append((EVENT_DATA_KEYS[key], text))
        else:
            others.append(f"{key}={text}")
    return [*named, (OTHER_EVENT_DATA, others)]


def _role(operation: str, syscall: str) -> str:
    if (operation == "Process" and syscall != "ptrace") or syscall in EXEC_SYSCALLS:
        return COMMAND
    if operation == "File" or syscall in FILE_SYSCALLS:
        return FILE
    if operation in {"Network", "NetworkFirewall", "Capabilities"}:
        return PARSED
    return OTHER


def _syscall_arguments(syscall: str, pairs: Mapping[str, str]) -> Iterator[Attribute]:
    if syscall in OPENING_SYSCALLS:
        yield "kubearmor.file.open_flags", [flag for flag in pairs.get("flags", "").split("|") if flag]
    elif syscall in OWNERSHIP_SYSCALLS:
        yield "file.owner.id", _owner_id(pairs.get("userid", ""))
        yield "file.group.id", _owner_id(pairs.get("group", ""))
        yield "file.mode", pairs.get("mode", "")


def _owner_id(text: str) -> str:
    """A user's or group's id, which KubeArmor prints as a signed number; -1 means that it stays as it is."""
    if not _INT32.fullmatch(text):
        return text
    number = int(text) & UINT32
    return "" if number == UINT32 else str(number)


def _device(pairs: Mapping[str, str]) -> Iterator[Attribute]:
    for name, key in _DEVICE_KEYS.items():
        text = pairs.get(name, "")
        if len(text) <= MAX_DEVICE_DIGITS and text.isascii() and text.isdigit():  # -1 means any
            yield key, int(text)
    yield "kubearmor.device.sys_path", pairs.get("SysPath", "")


def _bare_word(data: str) -> str:
    return next((word for word in data.split(" ") if word and "=" not in word), "")


NETWORK = "Network"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # told apart, and hashed, by identity
class Template:
    """A kind of event that differs in one word."""

    beginning: str
    """Of Data."""
    in_data: bool
    """Whether the word stands in Data; else in Resource."""
    marker: str
    """What the word stands behind."""
    pattern: re.Pattern[str]
    """What stands before the word, the word, and what stands after it."""
    stand_in: str
    is_ipv4: bool
    """Whether the word is an IPv4 address; else it is anything without a blank or `=`."""
    key: str
    """The attribute that the word becomes."""
    raw_key: str
    """The attribute that keeps the whole text."""
    event_data_key: str
    """Under which KubeArmor repeats the word."""


TEMPLATES = (
    Template(
        beginning="kprobe=tcp_",
        in_data=False,
        marker="remoteip=",
        pattern=re.compile(
            r"(remoteip=)([0-9]{1,3}(?:\.[0-9]{1,3}){3})( port=[^ =]* protocol=[^ =]*(?: remotehost=[^ =]*)?)"
        ),
        stand_in="192.0.2.1",
        is_ipv4=True,
        key="network.peer.address",
        raw_key=RAW_RESOURCE,
        event_data_key="Remoteip",
    ),
    Template(
        beginning="kfunc=UDP_SEND",
        in_data=True,
        marker=" domain=",
        pattern=re.compile(r"(kfunc=[^ =]* domain=)([^ =]+)( daddr=[^ =]* qtype=[^ =]*)"),
        stand_in="name.invalid",
        is_ipv4=False,
        key="dns.question.name",
        raw_key=RAW_DATA,
        event_data_key="Domain",
    ),
)

TemplateKey = tuple[Template, str, str]
"""The template, and Data and Resource with the stand-in."""


class Found(NamedTuple):
    """A Network event that fits a template."""

    key: TemplateKey
    word: str
    text: str
    """The whole text that the word stands in."""


class TemplateFacts(NamedTuple):
    """The attributes that all events of a template with the same rest share."""

    attributes: list[Attribute]
    """All but the word's and the raw text's."""
    known: dict[str, str]
    """The EventData that says nothing new; the word's is the stand-in."""


def find(data: str, resource: str) -> Found | None:
    """The template that a Network event fits, if any."""
    for template in TEMPLATES:
        if data.startswith(template.beginning):
            text = data if template.in_data else resource
            found = template.pattern.fullmatch(text)
            if found is None:
                return None
            before, word, after = found.groups()
            rest = before + template.stand_in + after
            return Found((template, rest, resource) if template.in_data else (template, data, rest), word, text)
    return None


def facts(key: TemplateKey) -> TemplateFacts:
    """The attributes of the rest, without the word that differs."""
    template, data, resource = key
    seen = detail(NETWORK, data)
    pairs = [
        *seen.attributes,
        *detail_with_resource(NETWORK, seen.pairs, data, resource),
        (RAW_DATA, data),
        (RAW_RESOURCE, resource),
    ]
    return TemplateFacts(
        [pair for pair in pairs if pair[0] not in {template.key, template.raw_key}],
        {**event_data_of(data), **event_data_of(without_remote_host(resource))},
    )
