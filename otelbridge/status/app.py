"""Answers the status server's requests: probes, metrics, status document, page. Plain WSGI.

It reads nothing but the method, the path, `verbose` and `after` in the query, and the Host header, and never gives any
of them back.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from otelbridge.status.answers import ProbeResult
from otelbridge.telemetry.escape import Json, escape, escape_json

T = TypeVar("T")
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^\[\]:]*))(?::[0-9]*)?")


def is_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header names an address, `localhost`, or one of the allowed names (case and port aside)."""
    ipv6, name = _parts(host)
    try:
        if ipv6:
            ipaddress.IPv6Address(ipv6)
            return True
        if name in {"localhost", *(_parts(entry)[1] for entry in allowed)}:
            return bool(name)
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _parts(host: str) -> tuple[str, str]:
    """The IPv6 address in its brackets, or the name or IPv4 address, without the port; both empty where it is neither.

    A zone behind an IPv6 address may be any text, and is not taken.
    """
    found = _HOST.fullmatch(host.strip().lower())
    return (found["ipv6"] or "", found["name"] or "") if found else ("", "")


if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
)
"""On every answer. The page's script and style are files of their own, so nothing inline is ever allowed."""

METHODS = ("GET", "HEAD")


class Asset(NamedTuple):
    """One file of the page, read once: nothing a request says reaches the disk."""

    content_type: str
    body: bytes


def _read(name: str, content_type: str) -> Asset:
    return Asset(content_type, files(__package__).joinpath("page", name).read_bytes())


SCRIPTS = ("page.js", "parts.js", "timeline.js", "format.js")

ASSETS: Mapping[str, Asset] = {
    "/": _read("index.html", "text/html; charset=utf-8"),
    "/page.css": _read("page.css", "text/css; charset=utf-8"),
    **{f"/{name}": _read(name, "text/javascript; charset=utf-8") for name in SCRIPTS},
    "/icon.svg": _read("icon.svg", "image/svg+xml"),
}

REST_SHARE = 4
"""An answer is given again for so many times the processor time that making it took."""


class Shared(Generic[T]):
    """An answer that is made once for all who ask meanwhile: however many ask, it takes a fifth of the time at most."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: T | None = None
        self._until = -math.inf

    def __call__(self) -> T:
        """The answer, made anew if it is time to."""
        with self._lock:
            if self._made is None or time.monotonic() >= self._until:
                began = time.thread_time()
                self._made = self._make()
                self._until = time.monotonic() + REST_SHARE * (time.thread_time() - began)
            return self._made


Section = Callable[[], object]
"""Gives what `escape_json` takes."""
Probe = Callable[[], ProbeResult]
Events = Callable[[int], object]
"""The latest events after the one of a number, for /events."""
Answer = tuple[str, str, bytes]
"""Status line, content type, body."""
WRONG_METHOD: Answer = ("405 Method Not Allowed", TEXT, b"Only GET and HEAD are answered.\n")


class StatusApp:
    """The WSGI application."""

    def __init__(
        self,
        *,
        sections: Mapping[str, Section],
        probes: Mapping[str, Probe],
        metrics: Callable[[], bytes],
        events: Events | None = None,
        page: bool,
        allowed_hosts: Iterable[str],
    ) -> None:
        """Takes what it answers from.

        Args:
            sections: the parts of the status document, by key; called at every request.
            probes: by name: `livez`, `readyz`, `startupz`.
            metrics: the text of /metrics.
            events: what /events answers; None where nobody may see events.
            page: whether /status and the page are answered at all.
            allowed_hosts: names in the Host header beside `localhost` and addresses.
        """
        self._sections = sections
        self._probes = {name: Shared(probe) for name, probe in probes.items()}
        self._metrics = Shared(metrics)
        self._document = Shared(self._make_document)
        self._events = events
        self._page = page
        self._allowed_hosts = frozenset(allowed_hosts)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        method = environ["REQUEST_METHOD"]
        answer = self._answer(environ, method)
        status, _, body = answer
        start_response(status, [*headers_of(answer), ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment, method: str) -> Answer:
        if method not in METHODS:
            return WRONG_METHOD
        path, query = environ.get("PATH_INFO", "/"), environ.get("QUERY_STRING", "")
        known_host = is_allowed(environ.get("HTTP_HOST", ""), self._allowed_hosts)
        probe = self._probes.get(path.removeprefix("/"))
        if probe is not None:
            verbose = "verbose" in query.split("&")
            if known_host or not verbose:
                return _probe(probe(), verbose=verbose, reasons=known_host)
        return self._show(path, query) if known_host else _WRONG_HOST

    def _show(self, path: str, query: str) -> Answer:
        """Answers what tells of the cluster, which is why names that DNS can rebind get no answer."""
        if path == "/metrics":
            return "200 OK", METRICS_TYPE, self._metrics()
        if not self._page:
            return _NOT_FOUND
        if path == "/status":
            return self._document()
        if path == "/events":
            return _NO_EVENTS if self._events is None else _json(escape_json(self._events(_after(query))))
        asset: Asset | None = ASSETS.get(path)
        return _NOT_FOUND if asset is None else ("200 OK", asset.content_type, asset.body)

    def _make_document(self) -> Answer:
        document: dict[str, Json] = {"now_unix_seconds": time.time()}
        for name, section in self._sections.items():
            document[name] = escape_json(_section(section))
        document["probes"] = {name: _as_json(probe()) for name, probe in self._probes.items()}
        return _json(document)


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """The headers of an answer, but for its length."""
    allow = [("Allow", ", ".join(METHODS))] if answer is WRONG_METHOD else []
    return [("Content-Type", answer[1]), *HEADERS, *allow]


def _json(document: Json) -> Answer:
    return "200 OK", JSON, json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _after(query: str) -> int:
    """The number in the query's `after`; 0 where there is none."""
    given = [text.removeprefix("after=") for text in query.split("&") if text.startswith("after=")]
    return int(given[0]) if given and given[0].isascii() and given[0].isdigit() and len(given[0]) <= _DIGITS else 0


_DIGITS = 18  # of a 64-bit number, and few enough to parse
_NO_EVENTS: Answer = ("404 Not Found", TEXT, b"No events are shown here: set status.show_events to, say, 1000.\n")
_NOT_FOUND: Answer = (
    "404 Not Found",
    TEXT,
    b"Nothing here. There are /, /status, /events, /livez, /readyz, /startupz, /metrics.\n",
)
_WRONG_HOST: Answer = (
    "421 Misdirected Request",
    TEXT,
    (
        b"This host name is refused, to prevent DNS rebinding. "
        b"Use an address or localhost, or add the name to status.allowed_hosts.\n"
    ),
)


def _probe(result: ProbeResult, *, verbose: bool, reasons: bool) -> Answer:
    """200 or 503; with the reasons where it is no, or where they are asked for, unless they are for nobody's eyes."""
    status = "200 OK" if result.ok else "503 Service Unavailable"
    shown = result.checks if verbose else tuple(check for check in result.checks if not check.ok and reasons)
    lines = [f"[{'+' if check.ok else '-'}] {escape(check.name)}: {escape(check.why)}" for check in shown]
    text = "\n".join([*lines, "ok" if result.ok else "failed"])
    return status, TEXT, text.encode("utf-8", "replace") + b"\n"


def _as_json(result: ProbeResult) -> Json:
    return {
        "ok": result.ok,
        "checks": [{"name": escape(check.name), "ok": check.ok, "why": escape(check.why)} for check in result.checks],
    }


def _section(section: Section) -> object:
    """A section's value; one that fails says so in its place, and the others are shown all the same."""
    try:
        return section()
    except Exception as error:  # noqa: BLE001 - it becomes part of the answer
        return {"error": f"{type(error).__name__}: {error}"}
