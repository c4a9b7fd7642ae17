"""The steps of `doctor` and what they find, the exit code of each failure, and the steps that lead to a server."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from otelbridge.cli.output import Exit
from otelbridge.event import NANOSECONDS
from otelbridge.net.address import is_ip
from otelbridge.net.handshake import server_certificate
from otelbridge.net.preflight import Route, dial, preflight
from otelbridge.net.secrets import without_credentials

STEP_SECONDS = 5.0
"""For each step to a server."""


class Step(StrEnum):
    """The steps, in the order in which they are taken."""

    SETTINGS = "settings"
    QUEUE = "queue"
    KUBEARMOR_DNS = "KubeArmor: DNS"
    KUBEARMOR_TCP = "KubeArmor: TCP"
    KUBEARMOR_TLS = "KubeArmor: TLS"
    KUBEARMOR_ANSWERS = "KubeArmor: answers"
    SUBSCRIPTION = "KubeArmor: subscription"
    FIRST_EVENT = "KubeArmor: first event"
    ENDPOINT_DNS = "endpoint: DNS"
    ENDPOINT_TCP = "endpoint: TCP"
    ENDPOINT_TLS = "endpoint: TLS"
    ENDPOINT_ANSWERS = "endpoint: answers"
    CREDENTIALS = "endpoint: credentials"
    TEST_RECORD = "endpoint: test record"


EXIT_CODES = dict(zip(Step, (int(Exit.WRONG_USAGE), *range(10, 17), *range(21, 27)), strict=True))
"""The first failed step decides; a script can tell them apart."""


class Mark(StrEnum):
    """How a step ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a step found."""

    step: Step
    subject: str
    """What was looked at: an address, a folder."""
    mark: Mark
    seconds: float
    finding: str
    """One sentence."""
    cure: str = ""


class StepError(Exception):
    """A step failed: what was found, and the cure."""

    def __init__(self, finding: str, cure: str) -> None:
        self.finding = finding
        self.cure = cure
        super().__init__(f"{finding} {cure}")


@dataclass(slots=True)
class Taken:
    """The finding of a step, filled in while it runs."""

    finding: str = ""
    cure: str = ""
    mark: Mark = Mark.OK


class Examination:
    """Collects the findings about one subject, step by step."""

    def __init__(self, subject: str) -> None:
        self.findings: list[Finding] = []
        self._subject = subject

    @contextmanager
    def step(self, step: Step) -> Iterator[Taken]:
        """Runs a step; a `StepError` raised in it becomes its finding."""
        taken, began = Taken(), monotonic()
        try:
            yield taken
        except StepError as error:
            taken = Taken(error.finding, error.cure, Mark.FAILED)
        self.add(step, taken.mark, seconds=monotonic() - began, finding=taken.finding, cure=taken.cure)

    def add(self, step: Step, mark: Mark, *, seconds: float, finding: str, cure: str = "") -> None:
        """Adds a finding; secrets in its URLs are hidden."""
        subject, finding, cure = map(without_credentials, (self._subject, finding, cure))
        self.findings.append(
            Finding(step=step, subject=subject, mark=mark, seconds=seconds, finding=finding, cure=cure)
        )

    def broken_off(self) -> bool:
        """Whether a step failed: the later ones depend on it."""
        return any(finding.mark is Mark.FAILED for finding in self.findings)


def examine_route(
    route: Route, examination: Examination, steps: Mapping[str, Step], *, silent: Collection[str]
) -> None:
    """Runs the preflight to a server, and adds a finding for each of its steps.

    Args:
        route: the way to it.
        examination: what is found is added to it.
        steps: the step of doctor's that each of the route's is.
        silent: steps of the route that are said only if they fail.
    """
    found = preflight(route, timeout_seconds=STEP_SECONDS)
    host, proxy, through = route.host, route.proxy, f" through the proxy {route.proxy}" if route.proxy else ""
    said = {
        "resolve": f"{host} is {', '.join(found.addresses)}.",
        "connect": f"Connected to {host if proxy else found.connected_to} port {route.port}{through}.",
    }
    if proxy is not None:
        said["resolve"] = f"The proxy {proxy} looks {host} up."
    elif is_ip(host):
        said["resolve"] = f"{host} is an address: there is no name to look up."
    if route.tls is not None and found.connected_to:
        said["tls"] = server_certificate(lambda: dial(route, found.connected_to, STEP_SECONDS), name=route.name)
    for taken in found.steps:
        if taken.name in silent and not taken.error:
            continue
        finding = said.get(taken.name) or "As it should."
        if taken.error:
            finding = f"{sentence(taken.error)} {said.get('tls', '') if taken.name == 'tls' else ''}".strip()
        examination.add(
            steps[taken.name],
            Mark.FAILED if taken.error else Mark.OK,
            seconds=(taken.ended_unix_nano - taken.started_unix_nano) / NANOSECONDS,
            finding=finding,
            cure=sentence(found.cure) if taken.error else "",
        )


def exit_code(findings: list[Finding]) -> int:
    """0, or that of the first failed step."""
    return next((EXIT_CODES[finding.step] for finding in findings if finding.mark is Mark.FAILED), int(Exit.DONE))


def sentence(words: str) -> str:
    """Words as a sentence: with a full stop, and a capital unless a setting's name begins it."""
    first = words.partition(" ")[0]
    return f"{words if '.' in first else words[:1].upper() + words[1:]}".rstrip(".") + "." if words else ""
