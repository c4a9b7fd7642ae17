"""What Data and Resource say, operation by operation."""

from __future__ import annotations

from typing import Any

import pytest

from otelbridge.event import Stream
from otelbridge.mapping.decode import decode
from otelbridge.mapping.details import detail, event_data_of
from otelbridge.mapping.fields import COMMAND, FILE, OTHER, PARSED
from otelbridge.mapping.mapper import Mapper
from otelbridge.mapping.settings import MappingSettings
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping.samples import RECEIVED, Seen, alert, log, sample, see, seen


def network(resource: str, data: str) -> dict[str, Any]:
    return seen(log(Operation="Network", Resource=resource, Data=data)).attributes


def test_tcp_connect_names_the_peer() -> None:
    found = network("remoteip=10.43.12.7 port=80 protocol=TCP", "kprobe=tcp_connect domain=AF_INET")
    assert found["network.peer.address"] == "10.43.12.7"
    assert found["network.peer.port"] == 80
    assert found["network.transport"] == "tcp"
    assert found["network.type"] == "ipv4"
    assert found["kubearmor.network.direction"] == "egress"
    assert found["kubearmor.kprobe"] == "tcp_connect"
    assert "network.local.port" not in found


def test_tcp_accept_gives_the_local_port_and_never_the_peers() -> None:
    found = network("remoteip=10.0.0.9 port=8080 protocol=TCP", "kprobe=tcp_accept domain=AF_INET6")
    assert found["network.local.port"] == 8080
    assert "network.peer.port" not in found
    assert found["network.peer.address"] == "10.0.0.9"
    assert found["network.type"] == "ipv4", "from the address, not from the socket's domain"
    assert found["kubearmor.network.direction"] == "ingress"


def test_ipv6_and_its_protocol_name() -> None:
    found = network("remoteip=2001:db8::7 port=443 protocol=TCPv6", "kprobe=tcp_connect domain=AF_INET6")
    assert (found["network.type"], found["network.transport"]) == ("ipv6", "tcp")
    assert found["network.peer.address"] == "2001:db8::7"


def test_what_the_relay_knows_of_the_other_end() -> None:
    found = seen(sample("constructed", 7)).attributes
    assert found["kubearmor.network.peer.kind"] == "svc"
    assert found["kubearmor.network.peer.namespace"] == "default"
    assert found["kubearmor.network.peer.name"] == "web"
    assert found["network.peer.port"] == 80


@pytest.mark.parametrize(
    "resource",
    [
        "sa_family=AF_INET sin_addr=10.1.2.3 sin_port=5432",
        "sin_port=5432 sa_family=AF_INET sin_addr=10.1.2.3",
        "sin_addr=10.1.2.3 sin_port=5432 sa_family=AF_INET",
    ],
)
@pytest.mark.parametrize(("syscall", "end"), [("SYS_CONNECT", "peer"), ("SYS_BIND", "local")])
def test_a_socket_address_in_any_order(resource: str, syscall: str, end: str) -> None:
    found = network(resource, f"syscall={syscall} fd=10")
    assert found[f"network.{end}.address"] == "10.1.2.3"
    assert found[f"network.{end}.port"] == 5432


@pytest.mark.parametrize("path", ["/run/a b c", "\\x00abstract", "x sa_family=AF_INET sin_addr=6.6.6.6", "line\nbreak"])
@pytest.mark.parametrize("form", ["sa_family=AF_UNIX sun_path={}", "sun_path={} sa_family=AF_UNIX"])
def test_a_unix_socket_path_may_hold_anything(path: str, form: str) -> None:
    found = network(form.format(path), "syscall=SYS_CONNECT fd=3")
    assert found["network.peer.address"] == path
    assert found["network.transport"] == "unix"
    assert "network.peer.port" not in found


@pytest.mark.parametrize(
    "data",
    [
        "kfunc=UDP_SENDMSG,domain=google.com,daddr=10.43.0.10,qtype=AAAA",
        "kfunc=UDP_SENDMSG domain=google.com daddr=10.43.0.10 qtype=AAAA",
        "kfunc=UDP_SENDSKB domain=google.com daddr=10.43.0.10 qtype=AAAA",
    ],
)
def test_a_dns_query_in_each_of_its_forms(data: str) -> None:
    found = network("sa_family=AF_INET sin_port=53", data)
    assert found["dns.question.name"] == "google.com"
    assert found["kubearmor.dns.question.type"] == "AAAA"
    assert (found["network.peer.address"], found["network.peer.port"]) == ("10.43.0.10", 53)
    assert (found["network.transport"], found["network.type"]) == ("udp", "ipv4")
    assert found["kubearmor.kfunc"] in {"udp_sendmsg", "udp_sendskb"}


def test_a_dns_query_of_another_type_has_none() -> None:
    found = network("sa_family=AF_INET sin_port=53", "kfunc=UDP_SENDSKB domain=a.b daddr=1.1.1.1 qtype=")
    assert "kubearmor.dns.question.type" not in found


def test_a_dns_block_by_policy() -> None:
    found = seen(alert(Operation="Network", Resource="google.com", Data="lsm=SOCKET_SENDMSG domain=www.google.com"))
    assert found.attributes["dns.question.name"] == "www.google.com"
    assert found.attributes["kubearmor.resource"] == "google.com"
    assert found.attributes["kubearmor.lsm.hook"] == "socket_sendmsg"


@pytest.mark.parametrize(
    ("resource", "transport"),
    [
        ("domain=AF_INET type=SOCK_STREAM|SOCK_CLOEXEC protocol=TCP", "tcp"),
        ("domain=AF_INET6 type=SOCK_STREAM protocol=0", "tcp"),
        ("domain=AF_INET type=SOCK_DGRAM protocol=HOPOPT", "udp"),
        ("domain=AF_UNIX type=SOCK_STREAM|SOCK_NONBLOCK protocol=0", "unix"),
        ("domain=AF_NETLINK type=SOCK_RAW protocol=15", None),
        ("domain=AF_INET type=SOCK_RAW protocol=ICMP", None),
    ],
)
def test_a_socket_names_its_transport(resource: str, transport: str | None) -> None:
    found = network(resource, "syscall=SYS_SOCKET")
    assert found.get("network.transport") == transport
    assert isinstance(found["kubearmor.socket.type"], list)


def test_a_block_by_bpf_lsm_has_no_peer() -> None:
    found = seen(sample("constructed", 9)).attributes
    assert found["network.transport"] == "tcp"
    assert not [key for key in found if key.startswith("network.peer")]


def test_a_garbled_protocol_is_kept() -> None:
    found = seen(sample("odd", 1)).attributes
    assert "network.transport" not in found
    assert found["kubearmor.socket.protocol"].startswith("8")


def test_a_firewall_match() -> None:
    found = seen(sample("constructed", 12))
    assert found.attributes["source.address"] == "192.168.29.42"
    assert found.attributes["source.port"] == 53262
    assert found.attributes["destination.port"] == 22
    assert found.attributes["kubearmor.network.direction"] == "ingress"
    assert found.attributes["security_rule.ruleset.name"] == "DefaultPosture"
    assert found.record.event_name == "kubearmor.telemetry.firewall"
    assert "process.pid" not in found.attributes
    assert "process.real_user.id" not in found.attributes


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1e3", "٨", "99999999999999999999", ""])  # a digit elsewhere
def test_what_is_no_port_is_left_out(port: str) -> None:
    found = seen(
        log(Operation="NetworkFirewall", Resource="EGRESS", Data=f"SourceIP=1.1.1.1 SourcePort={port} QuotaLimit=2MB")
    ).attributes
    assert "source.port" not in found
    assert found["kubearmor.quota.limit"] == "2MB"


def test_a_device() -> None:
    data = "Class=8 SubClass=6 Protocol=80 Level=-1 SysPath=/sys/bus/usb/1"
    found = seen(alert(Operation="Device", Resource="USB MASS-STORAGE", Data=data, HostPID=0, Result="Removed"))
    assert found.attributes["kubearmor.device.class"] == 8
    assert found.attributes["kubearmor.device.sys_path"] == "/sys/bus/usb/1"
    assert "kubearmor.device.level" not in found.attributes, "-1 means any"
    assert found.attributes["kubearmor.outcome"] == "denied"
    assert found.record.event_name == "kubearmor.alert.device"


def test_capabilities_with_and_without_a_name() -> None:
    assert seen(sample("constructed", 1)).attributes["kubearmor.capability"] == "CAP_NET_RAW"
    assert "kubearmor.capability" not in seen(sample("constructed", 2)).attributes


def test_an_execution_names_the_command_and_the_parent() -> None:
    found = seen(alert()).attributes
    assert found["process.command_line"] == "/usr/bin/apt update"
    assert found["kubearmor.process.parent.executable.path"] == "/bin/bash"
    assert "kubearmor.source" not in found, "it says the same as the parent"
    assert seen(alert(Source="bash")).attributes["kubearmor.source"] == "bash"


def test_ptrace_is_no_execution() -> None:
    found = seen(sample("constructed", 11)).attributes
    assert found["process.command_line"] == "/usr/bin/gdb -p 1"
    assert found["kubearmor.resource"] == "/bin/sleep"
    assert found["kubearmor.syscall.name"] == "ptrace"


def test_a_file_and_its_open_flags() -> None:
    found = seen(log()).attributes
    assert (found["file.path"], found["file.name"]) == ("/etc/passwd", "passwd")
    assert found["kubearmor.file.open_flags"] == ["O_RDONLY", "O_CLOEXEC"]
    assert found["kubearmor.syscall.name"] == "openat"
    assert found["process.command_line"] == "/bin/cat /etc/passwd"


def test_a_change_of_ownership() -> None:
    found = seen(log(Operation="Syscall", Resource="/etc/x", Data="syscall=SYS_FCHOWNAT userid=1 group=2 mode=644"))
    assert found.attributes["file.path"] == "/etc/x"
    assert [found.attributes[f"file.{part}"] for part in ("owner.id", "group.id", "mode")] == ["1", "2", "644"]


def test_mount_keeps_its_arguments_raw() -> None:
    found = seen(sample("constructed", 10)).attributes
    assert found["kubearmor.syscall.name"] == "mount"
    assert found["kubearmor.data"].startswith("syscall=SYS_MOUNT source=none")
    assert not [key for key in found if key.startswith("kubearmor.event_data")], "Data says it all"


def test_event_data_is_kept_where_it_says_more() -> None:
    message = log(Operation="File", Data="syscall=SYS_OPENAT fd=-100")
    message.EventData.update({"Syscall": "SYS_OPENAT", "Fd": "-101", "SourceIP": "1.2.3.4", "naïve key": "x"})
    found = {key: value for key, value in seen(message).attributes.items() if "event_data" in key}
    assert found == {
        "kubearmor.event_data.fd": "-101",
        "kubearmor.event_data.source_ip": "1.2.3.4",
        "kubearmor.event_data.other": ["naïve key=x"],
    }


def test_names_that_kubearmor_does_not_make_stay_together_under_one_key() -> None:
    message = log()
    message.EventData.update({f"K{number:03}\n.x": "v" for number in range(200)} | {"": "no name"})
    found = {key: value for key, value in seen(message).attributes.items() if "event_data" in key}
    assert found == {"kubearmor.event_data.other": ["=no name", *(f"K{number:03}\n.x=v" for number in range(200))]}


def test_event_data_is_cut_where_go_cuts_it() -> None:
    white = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
    for blank in white:
        assert event_data_of(f"a=1{blank}b=2{blank}{blank}c") == {"A": "1", "B": "2"}
    for letter in "\x1c\x1d\x1e\x1f\u200b\u180e\ufeff":
        assert event_data_of(f"a=1{letter}b=2") == {"A": f"1{letter}b=2"}


def test_what_go_made_of_a_socket_path_with_line_breaks_says_nothing_new() -> None:
    path = "\0x\ny=1\u2003z=2"
    message = log(Operation="Network", Data="syscall=SYS_CONNECT fd=3", Resource=f"sun_path={path} sa_family=AF_UNIX")
    message.EventData.update({"Syscall": "SYS_CONNECT", "Fd": "3", "Sun_path": "\0x", "Y": "1", "Z": "2"})
    message.EventData["Sa_family"] = "AF_UNIX"
    assert not [key for key in seen(message).attributes if "event_data" in key]


def test_without_the_raw_texts_event_data_stays_whole() -> None:
    message = log(Data="syscall=SYS_OPENAT fd=-100 flags=O_RDONLY")
    message.EventData.update({"Syscall": "SYS_OPENAT", "Fd": "-100", "Flags": "O_RDONLY"})
    found = seen(message, keep_raw=False).attributes
    assert "kubearmor.data" not in found
    assert "kubearmor.resource" not in found
    assert found["kubearmor.event_data.fd"] == "-100"
    assert seen(log(Operation="Novelty", Resource="x", Data=""), keep_raw=False).attributes["kubearmor.resource"] == "x"


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("Process", "process"), ("File", "file"), ("Network", "network"), ("Capabilities", "capability"),
        ("Syscall", "syscall"), ("Device", "device"), ("NetworkFirewall", "firewall"), ("Novelty", "other"),
        ("", "other"),
    ],
)  # fmt: skip
def test_event_names_are_few_and_fixed(operation: str, name: str) -> None:
    assert seen(alert(Operation=operation)).record.event_name == f"kubearmor.alert.{name}"
    found = seen(log(Operation=operation))
    assert found.record.event_name == f"kubearmor.telemetry.{name}"
    assert found.attributes.get("kubearmor.operation", "") == operation.lower()


def test_the_event_name_as_an_attribute_by_opt_in() -> None:
    assert "event.name" not in seen(alert()).attributes
    assert seen(alert(), event_name_attribute=True).attributes["event.name"] == "kubearmor.alert.process"


@pytest.mark.parametrize(
    ("result", "outcome"),
    [("Passed", "allowed"), ("Permission denied", "denied"), ("Operation not permitted", "denied"),
     ("No such file or directory", "failed"), ("Unknown error", "failed")],
)  # fmt: skip
def test_the_outcome_is_the_results_and_not_the_actions(result: str, outcome: str) -> None:
    assert seen(alert(Action="Allow", Result=result)).attributes["kubearmor.outcome"] == outcome


def test_no_result_gives_no_outcome() -> None:
    assert "kubearmor.outcome" not in seen(alert(Result="")).attributes


def without_forms(message: pb.Log) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otelbridge.mapping.record_encoder.find", lambda *_: None)
        return seen(message)


NETWORK_EVENTS = [
    (f"kprobe={probe} domain={domain}", f"remoteip={address} port={port} protocol={protocol}{remote}")
    for probe in ("tcp_connect", "tcp_accept", "tcp_new")
    for domain in ("AF_INET", "AF_INET6")
    for address in ("10.0.0.1", "999.1.1.1", "2001:db8::1", "", "0.0.0.0")
    for port in ("80", "0", "x")
    for protocol in ("TCP", "TCPv6", "8\ufffd", "")
    for remote in ("", " remotehost=svc/default/web", " remotehost=odd", " remoteip=6.6.6.6")
] + [
    (f"kfunc={function} domain={name} daddr={address} qtype={kind}{more}", resource)
    for function in ("UDP_SENDMSG", "UDP_SENDSKB")
    for name in ("a.b", "", "x=y", "name.invalid", "ü.example")
    for address in ("10.43.0.10", "", "fe80::1")
    for kind in ("A", "")
    for more in ("", " seq=1;", " domain=c.d")
    for resource in ("sa_family=AF_INET sin_port=53", "sin_port=53 sa_family=AF_INET", "")
]


def test_network_events_by_the_short_way_are_those_by_the_long_way() -> None:
    mapper = Mapper(MappingSettings(), version="1")
    for data, resource in NETWORK_EVENTS:
        message = log(Operation="Network", Data=data, Resource=resource)
        message.EventData.update(
            {key: text for text in (data, resource) for key, text in event_data_of(text).items()} | {"Extra": "x"}
        )
        decoded = decode(Stream.LOGS, message.SerializeToString())
        short, long = see(mapper.map(Stream.LOGS, decoded, RECEIVED)), without_forms(message)
        for found in (short, long):
            del found.attributes["log.record.uid"]
        assert short.attributes == long.attributes, (data, resource)


@pytest.mark.parametrize(
    ("data", "resource", "other"),
    [
        (
            "kprobe=tcp_connect domain=AF_INET",
            "remoteip=10.0.0.1 port=1 protocol=TCP",
            "remoteip=10.0.0.2 port=1 protocol=TCP",
        ),
        (
            "kprobe=tcp_connect domain=AF_INET",
            "remoteip=10.0.0.1 port=1 protocol=TCP",
            "remoteip=10.0.0.1 port=2 protocol=TCP",
        ),
    ],
)
def test_two_peers_are_two_events(data: str, resource: str, other: str) -> None:
    uids = {
        seen(log(Operation="Network", Data=data, Resource=text)).attributes["log.record.uid"]
        for text in (resource, other, f"{resource} remotehost=svc/a/b")
    }
    assert len(uids) == 2


@pytest.mark.parametrize(
    ("operation", "data", "role"),
    [
        ("Process", "", COMMAND),
        ("Process", "syscall=SYS_EXECVE", COMMAND),
        ("Process", "syscall=SYS_SETUID", COMMAND),
        ("Process", "syscall=SYS_PTRACE", OTHER),
        ("Syscall", "syscall=SYS_EXECVEAT", COMMAND),
        ("File", "", FILE),
        ("File", "syscall=SYS_OPENAT", FILE),
        ("Syscall", "syscall=SYS_UNLINK", FILE),
        ("Syscall", "syscall=SYS_SETUID", OTHER),
        ("Network", "", PARSED),
        ("NetworkFirewall", "", PARSED),
        ("Capabilities", "", PARSED),
        ("Device", "", OTHER),
        ("Zzz", "", OTHER),
        ("", "", OTHER),
    ],
)
def test_operation_and_system_call_tell_what_resource_is(operation: str, data: str, role: str) -> None:
    assert detail(operation, data).role == role
