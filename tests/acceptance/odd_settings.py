"""Draws odd values for settings and variables; each draw is refused with place and cure, or a bridge works with it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from otelbridge.event import Stream
from otelbridge.pb import kubearmor_pb2 as pb
from otelbridge.setting import Setting, is_section, without_none
from otelbridge.settings.environment import SDK_VARIABLES, STANDARD_VARIABLES
from otelbridge.settings.load import load
from otelbridge.settings.tree import SettingsError, leaves
from otelbridge.simulator.endpoint import OtlpEndpoint
from otelbridge.simulator.upstream import Relay
from tests.peers.bridge import running_bridge
from tests.waiting import eventually

TEXTS = (
    "", " ", "\t", "a", "A" * 10_000, "a\nb", "a\r\nb", "\x1b[31m", "\x7f", "\u202e", "\ufeff", "ä", "\U0001f600", "\0",
    "\udc80", "null", "true", "~", "{}", "[]", "${env:HOME}", "%", "%00", "%zz", "a=b", "=", ",", ",,", "a=b,c", "../x",
    "/dev/zero", "/dev/null", "/proc/self/mem", "/", ".", "/nonexistent/x", "http://", "http://[::1", "://x", "http://a:99999",
    "http://u:p@h", "unix:///tmp/x", "dns:///h", "[::1%eth0]:1", "h:0", "h:-1", "h:65536", "localhost", "*", "0", "-1",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    "", "nan", "inf", "-inf", "1e400", "1e-400", "-0", "0", "1", "00", "0x10", "1_000", "\uff11", "\u0663", "1,5",
    "1 000", "30s", "5m", "9" * 5_000, "-" + "9" * 30, "1e18", "2147483648", "9223372036854775808", "true", "null",
    "1.0", "1.5", ".5", "+1",
)  # fmt: skip
_RULE = {"name": "x", "action": "drop"}
RULES: tuple[Any, ...] = (
    [], [{}], "x", [1], [[]], [None], {"a": 1}, [{"name": "x"}], [_RULE], [_RULE, _RULE],
    [{**_RULE, "namespace": ["a*"]}], [{**_RULE, "pod": "[" * 999}], [{**_RULE, "pod": ["[" * 999, "**", ""]}],
    [{**_RULE, "min_severity": 11}], [{**_RULE, "min_severity": 10, "max_severity": 1}], [{**_RULE, "label": {"": ""}}],
    *([{"name": "w", "pattern": text}] for text in ("(", "", "a*" * 500, "(a+)+$", "b+", "(?P<secret>)", "\\ud800")),
)  # fmt: skip
_DRAWN: dict[Any, tuple[Any, ...]] = {
    bool: (True, False, "yes", "maybe", 1, 2, None, []),
    tuple: ([], *([text] for text in TEXTS), list(TEXTS[:9]), ["a"] * 50, "a", {}, [1], [[]]),
    dict: (
        {},
        *({text: text} for text in TEXTS),
        {1: 2},
        {"a": None},
        {"a": {"b": "c"}},
        dict.fromkeys(map(str, range(300)), "v"),
        [],
        "a=b",
    ),
}
"""By type: what is drawn for it."""

WHERE = (
    "feed.endpoints", "feed.tls", "feed.proxy", "feed.streams", "feed.resolve", "send.endpoint", "send.protocol",
    "send.proxy", "send.insecure", "send.ca_file", "send.cert_file", "send.key_file", "send.server_name",
    "send.token_file", "send.headers_file", "queue.directory", "status.host", "status.port",
    "status.enabled", "status.page",
)  # fmt: skip
"""Beginnings of what says where events come from and go to, and where that is seen: nothing is delivered elsewhere."""
WAITS = (
    "bridge.drain_seconds",
    "feed.retry.initial_spread_seconds",
    "send.linger_seconds",
    "send.alert_linger_seconds",
)
"""What somebody would wait for; tests/acceptance/test_extremes.py has their ends."""
DELIVERED_SECONDS = 60.0


@dataclass
class Draw:
    """Settings and variables of one life."""

    settings: dict[str, Any] = field(default_factory=dict)
    """By dotted path."""
    environment: dict[str, str] = field(default_factory=dict)

    def paths(self) -> set[str]:
        """All that it sets or may set."""
        by_variable: dict[str, tuple[str, ...]] = {leaf.environment_name: (leaf.path,) for leaf in leaves()}
        by_variable |= {row.name: row.paths for row in STANDARD_VARIABLES}
        return {*self.settings, *(path for name in self.environment for path in by_variable.get(name, ()))}

    def sections(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """The tree for a settings file; what is drawn wins."""
        tree: dict[str, Any] = {name: dict(section) for name, section in base.items()}
        for path, value in self.settings.items():
            *sections, name = path.split(".")
            node = tree
            for one in sections:
                node = node.setdefault(one, {})
            node[name] = value
        return tree


def draw(chance: random.Random) -> Draw:
    """One to four settings and up to three variables, with values at their bounds, just outside, or odd."""
    made = Draw()
    known = list(leaves())
    for leaf in chance.sample(known, chance.randint(0, 4)):
        made.settings[leaf.path] = _value(chance, leaf.setting)
    variables = [row.name for row in (*STANDARD_VARIABLES, *SDK_VARIABLES)]
    variables += [leaf.environment_name for leaf in known]
    for name in chance.sample(variables, chance.randint(0, 3)):
        text = chance.choice(chance.choice((TEXTS, NUMBERS)))
        made.environment[name] = text.replace("\0", "")  # no environment holds one
    return made


def _value(chance: random.Random, setting: Setting) -> Any:
    kind, optional = without_none(setting.type)
    shape = get_origin(kind) or kind
    drawn = _DRAWN.get(shape, TEXTS)
    if shape is Literal:
        drawn = (*map(str, get_args(kind)), *TEXTS[:4])
    elif shape is tuple and is_section(get_args(kind)[0]):
        drawn = RULES
    elif kind in (int, float):
        least, most = kind(setting.limits.ge), kind(setting.limits.le)
        drawn = chance.choice(((least, most), (least - 1, most + 1, (least + most) / 2), NUMBERS))
    return chance.choice((*drawn, None) if optional else drawn)


@dataclass
class Found:
    """What became of the draws."""

    refused: int = 0
    accepted: int = 0
    """By the check; those that say where events go are not started."""
    delivered: int = 0
    faults: list[str] = field(default_factory=list)
    refused_for: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, object]:
        """For torture.json."""
        return {
            "refused": self.refused,
            "accepted": self.accepted,
            "delivered": self.delivered,
            "settings_refused": len(self.refused_for),
            "faults": self.faults[:20],
        }


def odd_lives(
    folder: Path, relay: Relay, endpoint: OtlpEndpoint, chance: random.Random, *, until: Callable[[Found], bool]
) -> Found:
    """Draws until told to stop."""
    found, number = Found(), 0
    while not until(found):
        number += 1
        _try_one(folder / str(number), draw(chance), found, relay, endpoint)
        shutil.rmtree(folder / str(number))
    return found


def _try_one(folder: Path, made: Draw, found: Found, relay: Relay, endpoint: OtlpEndpoint) -> None:
    """Checks one draw, and lets a bridge live with it if it is accepted."""
    base: dict[str, Any] = {
        "feed": {"endpoints": [relay.endpoint]},
        "send": {"endpoint": endpoint.grpc_endpoint},
        "telemetry": {"disabled": False},
    }
    folder.mkdir()
    sections = made.sections(base)
    file = folder / "checked.yaml"
    try:
        file.write_text(yaml.safe_dump(sections), encoding="utf-8")
        load(file=file, environment=made.environment)
    except UnicodeEncodeError:
        return  # no file holds such text
    except SettingsError as refused:
        found.refused += 1
        for problem in refused.problems:
            found.refused_for[problem.path.partition("[")[0]] += 1
            if not (problem.path and problem.wrong and problem.cure and (problem.origin or "/" in problem.path)):
                found.faults.append(f"without place or cure: {problem}")
        return
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a fault
        found.faults.append(f"{made}: {error!r}")
        return
    found.accepted += 1
    if any(path.startswith((*WHERE, *WAITS)) for path in made.paths()):
        return
    try:
        _live(folder / "life", made, sections, relay)
        found.delivered += 1
    except Exception as error:  # noqa: BLE001  # as above
        found.faults.append(f"{made}: {error!r} {getattr(error, '__notes__', '')}")


def _live(folder: Path, made: Draw, sections: dict[str, Any], relay: Relay) -> None:
    with running_bridge(folder, env=made.environment, **sections) as bridge:
        bridge.wait_until_watching(within_seconds=30)

        def received() -> bool:  # a stream that is opened may not be served yet
            relay.publish(Stream.ALERTS, pb.Alert(PodName="a", Timestamp=1_700_000_000))
            return bridge.balance("alerts")["received"] > 0

        eventually(received, within_seconds=30, why="it is received")
        bridge.wait_until_delivered(within_seconds=DELIVERED_SECONDS)
        assert bridge.stop() == 0
    said = (folder / "bridge.log").read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in said, said
