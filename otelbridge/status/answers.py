"""Judges the bridge by its components' state: the probes' yes or no, and the status page's three answers.

Liveness looks at the bridge's own threads only: a relay, a Collector or a disk that is away is no reason to be killed.
Readiness is for operators and rollouts, since no traffic is routed to a bridge: it says whether this one sees, and has
room for what it sees.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypedDict

from otelbridge.event import NANOSECONDS, Gap, Stream
from otelbridge.feed.model import StreamState, SubscriptionState, SubscriptionStatus
from otelbridge.queue.checkpoint import Account, Posting
from otelbridge.queue.model import Depth
from otelbridge.send.circuit_breaker import BreakerState, EndpointState
from otelbridge.telemetry.supervisor import Pulse

QUEUE_FULL_SHARE = 0.9
"""A queue filled so far is about to drop records."""
ENDING = frozenset({SubscriptionState.DRAINING, SubscriptionState.CLOSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question of a probe."""

    name: str
    ok: bool
    why: str
    """One sentence, also when it is ok."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The answer of a probe: yes if every check says so."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is ok."""
        return all(check.ok for check in self.checks)


def livez(pulses: Iterable[Pulse], *, max_silence_seconds: float) -> ProbeResult:
    """Alive: each thread of ours has turned lately, and does not fail again and again."""
    return ProbeResult(checks=tuple(_thread(pulse, max_silence_seconds) for pulse in pulses))


def _thread(pulse: Pulse, max_silence_seconds: float) -> Check:
    age = pulse.age_seconds()
    name, why = f"thread {pulse.name}", f"turned {age:.1f} s ago"
    if pulse.fails:
        return Check(name=name, ok=False, why=f"failed {pulse.faults_in_a_row} times in a row: {pulse.fault}")
    if age > max_silence_seconds:
        return Check(name=name, ok=False, why=f"{why}, allowed {max_silence_seconds:g} s")
    return Check(name=name, ok=True, why=why)


def readyz(
    subscriptions: Iterable[SubscriptionStatus],
    held_bytes: int,
    *,
    max_bytes: int,
    grace_seconds: float,
    clock: Callable[[], int] = time.time_ns,
) -> ProbeResult:
    """Ready: each stream is watched, or blind for no longer than the grace time, and the queue has room."""
    now = clock()
    watched = [_subscription(subscription, grace_seconds, now) for subscription in subscriptions]
    if not watched:
        watched = [Check(name="subscriptions", ok=False, why="there is none yet")]
    share = held_bytes / max_bytes
    full = share >= QUEUE_FULL_SHARE
    limit = f", ready below {QUEUE_FULL_SHARE:.0%}" if full else ""
    return ProbeResult(checks=(*watched, Check(name="queue", ok=not full, why=f"{share:.0%} full{limit}")))


def startupz(*, started: bool) -> ProbeResult:
    """Started: settings checked, queue recovered, every thread running."""
    why = "every component is open" if started else "components are still being opened"
    return ProbeResult(checks=(Check(name="bridge", ok=started, why=why),))


def _subscription(status: SubscriptionStatus, grace_seconds: float, now_unix_nano: int) -> Check:
    ok, why = _seeing(status, grace_seconds, now_unix_nano)
    return Check(name=f"subscription {status.upstream}", ok=ok, why=why)


def _seeing(status: SubscriptionStatus, grace_seconds: float, now_unix_nano: int) -> tuple[bool, str]:
    because = f": {status.last_error}" if status.last_error else ""
    if status.state in ENDING:
        return False, f"{status.state}"
    if status.covered_by:
        return True, f"{status.state}, but {status.covered_by}, a road to the same events, is watched{because}"
    if status.state is SubscriptionState.HOLDING:
        return False, f"holding, only an operator can cure it{because}"
    held = [f"{name}: {stream.error}" for name, stream in status.streams.items() if stream.state is StreamState.HOLDING]
    if held:
        return False, f"the server does not give us {'; '.join(held)}"
    if status.blind_since_unix_nano is None:
        return True, f"{status.state}{_unheard(status, now_unix_nano)}"
    blind_seconds = max(0.0, (now_unix_nano - status.blind_since_unix_nano) / NANOSECONDS)
    within = blind_seconds <= grace_seconds
    limit = f"{'within' if within else 'beyond'} the grace time of {grace_seconds:g} s"
    return within, f"{status.state}, blind for {blind_seconds:.0f} s, {limit}{because}"


def _unheard(status: SubscriptionStatus, now_unix_nano: int) -> str:
    """What a subscription that is watched may miss all the same."""
    if status.unheard_since_unix_nano is not None:
        seconds = max(0.0, (now_unix_nano - status.unheard_since_unix_nano) / NANOSECONDS)
        return f"; connected for {seconds:.0f} s, but no node has sent anything"
    if status.silent_nodes:
        return f"; silent against their habit: {', '.join(status.silent_nodes)}"
    return f"; health checks say nothing: {status.unchecked}" if status.unchecked else ""


MOODS = ("bad", "warn", "past", "good")
"""Worst first. `bad` and `warn` are for what is the case now; what is over is `past`, however bad it was."""
GROWTH_SECONDS = 60.0
"""The rate at which the queue fills is the mean of so long."""
FULL_SOON_SECONDS = 3600.0
MINUTE, HOUR, DAY = 60, 3600, 86400


class AnswerDocument(TypedDict):
    """One of the three answers."""

    question: str
    mood: str
    word: str
    """For the title: a few words; empty where there is nothing to say in it."""
    sentence: str
    since_unix_seconds: float | None
    runbook: str
    """The section of docs/runbook.md; empty where all is well."""


class QueueGrowth:
    """How fast the queue fills: fed once a second by one thread, read by any."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=int(GROWTH_SECONDS) + 1)

    def note(self, held_bytes: int, now: float) -> None:
        """The queue takes so many bytes at this moment (monotonic)."""
        self._samples.append((now, held_bytes))

    def seconds_until(self, max_bytes: int) -> float | None:
        """When it will be full at the present rate; None while it does not grow."""
        samples = list(self._samples)
        if len(samples) < 2:  # noqa: PLR2004 - a rate needs two
            return None
        (began, first), (ended, last) = samples[0], samples[-1]
        if last <= first or ended <= began:
            return None
        return (max_bytes - last) * (ended - began) / (last - first)


def answers(
    subscriptions: Sequence[SubscriptionStatus],
    endpoint: str,
    breaker: BreakerState,
    depth: Depth,
    *,
    full_in_seconds: float | None,
    gaps: Sequence[Gap],
    postings: Iterable[Posting],
    residue: Mapping[Stream, int],
    started_unix_nano: int,
) -> list[AnswerDocument]:
    """The three answers, worst first; gaps come oldest first, and `full_in_seconds` is None unless the queue grows."""
    found = [
        seeing(subscriptions),
        arriving(endpoint, breaker, depth, full_in_seconds),
        missed(gaps, postings, residue, started_unix_nano),
    ]
    return sorted(found, key=lambda answer: MOODS.index(answer["mood"]))


def seeing(subscriptions: Sequence[SubscriptionStatus]) -> AnswerDocument:
    """Am I seeing now?"""
    answer = partial(_answer, "Am I seeing now?")

    if not subscriptions:
        return answer("bad", "No. There is no subscription yet.", word="no subscription", runbook="otelbridgeblind")
    blind = [status for status in subscriptions if status.blind_since_unix_nano is not None]
    if blind and all(status.covered_by for status in blind):
        lost = blind[0]
        since, why = lost.blind_since_unix_nano or 0, lost.last_error or lost.state.value
        sentence = (
            f"Yes, by {lost.covered_by}. Another road, {lost.upstream}, has been blind since {moment(since)}: {why}."
        )
        return answer("warn", sentence, word="a road is lost", since=since, runbook="otelbridgeblind")
    if blind:
        worst = min(blind, key=lambda status: (not _curable(status), status.blind_since_unix_nano or 0))
        since = worst.blind_since_unix_nano or 0
        streams = [name.value for name, stream in worst.streams.items() if stream.blind_since_unix_nano is not None]
        what = "Nothing has" if len(streams) == len(worst.streams) else f"No {' and no '.join(streams)} have"
        why = worst.last_error or next((s.error for s in worst.streams.values() if s.error), "") or worst.state.value
        why = why.partition(" (")[0]  # what the library said in its own words stands below
        more = f" {len(blind) - 1} more of {len(subscriptions)} upstreams are lost." if len(blind) > 1 else ""
        cure = " An operator has to act." if _curable(worst) else ""
        part = "No" if len(streams) == len(worst.streams) and len(blind) == len(subscriptions) else "Not all"
        sentence = f"{part}. {what} been received from {worst.upstream} since {moment(since)}: {why}.{cure}{more}"
        return answer("bad", sentence, word="blind", since=since, runbook="otelbridgeblind")
    if doubt := _doubt(subscriptions, answer):
        return doubt
    last = max(status.last_event_unix_nano for status in subscriptions)
    where = subscriptions[0].upstream if len(subscriptions) == 1 else f"{len(subscriptions)} upstreams"
    tail = f"; the last event came at {moment(last)}" if last else ""
    return answer("good", f"Yes. All streams of {where} are open{tail}.", since=last or None)


def _doubt(subscriptions: Sequence[SubscriptionStatus], answer: Callable[..., AnswerDocument]) -> AnswerDocument | None:
    """What may be missed although all streams are open."""
    unheard = [status for status in subscriptions if status.unheard_since_unix_nano]
    if unheard:
        status = unheard[0]
        since = status.unheard_since_unix_nano or 0
        sentence = (
            f"Perhaps not. {status.upstream} has been connected since {moment(since)}, but no node has sent anything."
        )
        return answer("warn", sentence, word="no node heard", since=since, runbook="otelbridgenodesilent")
    silent = [node for status in subscriptions for node in status.silent_nodes]
    if silent:
        named = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if len(silent) > 3 else "")  # noqa: PLR2004
        return answer(
            "warn",
            f"In part. Nodes that have stopped sending: {named}.",
            word="nodes silent",
            runbook="otelbridgenodesilent",
        )
    unchecked = [status for status in subscriptions if status.unchecked]
    if unchecked:
        sentence = (
            f"As far as events tell. Health checks say nothing of {unchecked[0].upstream}: {unchecked[0].unchecked}."
        )
        return answer("warn", sentence, word="health unknown", runbook="otelbridgeblind")
    return None


def arriving(endpoint: str, breaker: BreakerState, depth: Depth, full_in_seconds: float | None) -> AnswerDocument:
    """Is it arriving now?"""
    answer = partial(_answer, "Is it arriving now?")

    held = f"{depth.records:,} records are held" if depth.records else "nothing is held"
    stuck = depth.degraded or breaker.state in {EndpointState.HELD, EndpointState.DELAYED}
    if full_in_seconds is not None and stuck:
        held += f"; at the present rate the queue will be full in {about(full_in_seconds)}"
    since = breaker.since_unix_nano
    because = ": ".join(part for part in (breaker.code, breaker.why) if part)
    if depth.degraded:
        sentence = f"The disk does not accept writes: {depth.memory_records:,} records wait in memory, and {held}."
        return answer("bad", sentence, word="disk degraded", runbook="otelbridgediskdegraded")
    if breaker.state is EndpointState.HELD:
        cure = f" {breaker.cure.rstrip('.')}." if breaker.cure else ""
        sentence = f"No. {endpoint} has refused records since {moment(since)}: {because}.{cure} Meanwhile {held}."
        return answer("bad", sentence, word="endpoint refuses", since=since, runbook="otelbridgedeliveryheld")
    if breaker.state is EndpointState.DELAYED:
        soon = full_in_seconds is not None and full_in_seconds < FULL_SOON_SECONDS
        sentence = f"No. {endpoint} has not accepted records since {moment(since)}: {because}. Meanwhile {held}."
        return answer(
            "bad" if soon else "warn", sentence, word="endpoint away", since=since, runbook="otelbridgedeliverylate"
        )
    if breaker.last_accepted_unix_nano is None:
        return answer("good", f"There was nothing to send yet; {held}.")
    accepted = breaker.last_accepted_unix_nano
    return answer("good", f"Yes. {endpoint} accepted the last request at {moment(accepted)}; {held}.", since=accepted)


def missed(
    gaps: Sequence[Gap], postings: Iterable[Posting], residue: Mapping[Stream, int], started_unix_nano: int
) -> AnswerDocument:
    """Was anything missed, and when?"""
    answer = partial(_answer, "Was anything missed?")

    if any(residue.values()):
        sentence = "The ledger does not balance: this is a bug in the bridge; please report it."
        return answer("bad", sentence, word="ledger unbalanced", runbook="otelbridgeledgerunbalanced")
    lost: dict[str, int] = {}
    for _, account, reason, records in postings:
        if account is Account.DROPPED:
            lost[reason.replace("_", " ")] = lost.get(reason.replace("_", " "), 0) + records
        elif account is Account.REJECTED:
            lost["rejected by the endpoint"] = lost.get("rejected by the endpoint", 0) + records
    said = [f"{records:,} records {reason}" for reason, records in lost.items() if records]
    gaps = [gap for gap in gaps if not gap.covered_by]
    if gaps:
        last = gaps[-1]
        seconds = max(0.0, (last.ended_unix_nano - last.started_unix_nano) / NANOSECONDS)
        count = "1 gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
        cause = last.cause.value.replace("_", " ")
        said.append(f"{count}, the last of {about(seconds)} from {moment(last.started_unix_nano)} ({cause})")
    began = moment(started_unix_nano)
    if not said:
        return answer("good", f"No, nothing since the start at {began}.")
    runbook = "otelbridgerecordsdropped" if lost else "otelbridgeblind"
    sentence = f"Yes, since the start at {began}: {'; '.join(said)}."
    return answer("past", sentence, since=gaps[-1].started_unix_nano if gaps else None, runbook=runbook)


def moment(unix_nano: int) -> str:
    """A time in UTC, as the log has it; with its date where it is not today."""
    at = datetime.fromtimestamp(unix_nano / NANOSECONDS, tz=UTC)
    today = datetime.fromtimestamp(time.time(), tz=UTC).date()
    return at.strftime("%H:%M:%S UTC" if at.date() == today else "%Y-%m-%d %H:%M UTC")


def about(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def _curable(status: SubscriptionStatus) -> bool:
    """Whether it waits for an operator."""
    holding = SubscriptionState.HOLDING.value
    return status.state.value == holding or any(stream.state.value == holding for stream in status.streams.values())


def _answer(
    question: str, mood: str, sentence: str, *, word: str = "", since: int | None = None, runbook: str = ""
) -> AnswerDocument:
    return {
        "question": question,
        "mood": mood,
        "word": word,
        "sentence": sentence,
        "since_unix_seconds": since / NANOSECONDS if since else None,
        "runbook": runbook,
    }
