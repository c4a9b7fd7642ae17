"""Network events whose one new word is taken out, so that the rest of them repeats and can be remembered.

Every connection has another peer and every query another name, so remembering whole events would not help: a third of
all logs would be worked out anew. With the address or the name taken out they are a few hundred forms. What the rest
comes to is worked out by `detail.py` and `network.py` as for any event, with a stand-in for the word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from otelbridge.mapping.detail import detail, detail_with_resource, event_data_of
from otelbridge.mapping.network import without_remote_host
from otelbridge.mapping.wire import Attribute

NETWORK = "Network"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # told apart, and hashed, by identity
class Form:
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


FORMS = (
    Form(
        beginning="kprobe=tcp_",
        in_data=False,
        marker="remoteip=",
        pattern=re.compile(
            r"(remoteip=)([0-9]{1,3}(?:\.[0-9]{1,3}){3})( port=[^ =]* protocol=[^ =]*(?: remotehost=[^ =]*)?)"
        ),
        stand_in="192.0.2.1",
        is_ipv4=True,
        key="network.peer.address",
        raw_key="kubearmor.resource",
        event_data_key="Remoteip",
    ),
    Form(
        beginning="kfunc=UDP_SEND",
        in_data=True,
        marker=" domain=",
        pattern=re.compile(r"(kfunc=[^ =]* domain=)([^ =]+)( daddr=[^ =]* qtype=[^ =]*)"),
        stand_in="name.invalid",
        is_ipv4=False,
        key="dns.question.name",
        raw_key="kubearmor.data",
        event_data_key="Domain",
    ),
)

FormKey = tuple[Form, str, str]
"""The form, and Data and Resource with the stand-in."""


class Found(NamedTuple):
    """An event of a form."""

    key: FormKey
    word: str
    text: str
    """The whole text that the word stands in."""


class FormFacts(NamedTuple):
    """What all events of a form with the same rest come to."""

    attributes: list[Attribute]
    """All but the word's and the raw text's."""
    known: dict[str, str]
    """The EventData that says nothing new; the word's is the stand-in."""
    identifying: tuple[str, str]


def find(data: str, resource: str) -> Found | None:
    """The form of a Network event, if it has one."""
    for form in FORMS:
        if data.startswith(form.beginning):
            text = data if form.in_data else resource
            found = form.pattern.fullmatch(text)
            if found is None:
                return None
            before, word, after = found.groups()
            rest = before + form.stand_in + after
            return Found((form, rest, resource) if form.in_data else (form, data, rest), word, text)
    return None


def facts(key: FormKey) -> FormFacts:
    """What the rest comes to."""
    form, data, resource = key
    seen = detail(NETWORK, data)
    pairs = [
        *seen.attributes,
        *detail_with_resource(NETWORK, seen.pairs, data, resource),
        ("kubearmor.data", data),
        ("kubearmor.resource", resource),
    ]
    identifying = without_remote_host(resource)
    return FormFacts(
        [pair for pair in pairs if pair[0] not in {form.key, form.raw_key}],
        {**event_data_of(data), **event_data_of(identifying)},
        (data, identifying),
    )
