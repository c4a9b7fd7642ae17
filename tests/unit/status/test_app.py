from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from otelbridge.status.answers import Check, ProbeResult
from otelbridge.status.app import Events, Shared, StatusApp

YES = ProbeResult(checks=(Check(name="thread encoder", ok=True, why="turned 0.1 s ago"),))
NO = ProbeResult(checks=(Check(name="a", ok=True, why="fine"), Check(name="relay\x1b[2J", ok=False, why="blind\nok")))


class Answer:
    """What came back for one request."""

    def __init__(
        self, app: StatusApp, path: str, *, method: str = "GET", host: str = "127.0.0.1", query: str = ""
    ) -> None:
        self.status = ""
        self.headers: dict[str, str] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[..., object]:
            self.status = status
            self.headers = dict(headers)
            return lambda _data: None

        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_HOST": host,
        }
        self.body = b"".join(app(environ, start_response))

    @property
    def code(self) -> int:
        return int(self.status.split()[0])


def test_however_many_ask_an_answer_is_made_for_a_fifth_of_the_time_at_most() -> None:
    costs: list[float] = []

    def costly() -> int:
        began = time.thread_time()
        while time.thread_time() - began < 0.005:
            pass
        costs.append(time.thread_time() - began)
        return len(costs)

    shared, began = Shared(costly), time.monotonic()
    answers = set()
    while time.monotonic() - began < 0.3:
        answers.add(shared())
    assert answers == set(range(1, len(costs) + 1))
    assert sum(costs[:-1]) <= (time.monotonic() - began) / 5 + 0.001
    assert len(costs) > 2


def _app(
    ready: ProbeResult = YES, *, page: bool = True, latest: Events | None = None, **sections: Callable[[], Any]
) -> StatusApp:
    return StatusApp(
        sections=sections,
        probes={"livez": lambda: YES, "readyz": lambda: ready, "startupz": lambda: YES},
        metrics=lambda: b"m 1\n",
        events=latest,
        page=page,
        allowed_hosts=["bridge.example"],
    )


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_a_probe_that_is_well_answers_in_one_word(path: str) -> None:
    answer = Answer(_app(), path)

    assert (answer.code, answer.body) == (200, b"ok\n")


def test_a_probe_that_is_not_well_says_why_on_lines_that_cannot_be_forged() -> None:
    answer = Answer(_app(NO), "/readyz")

    assert answer.code == 503
    assert answer.body == b"[-] relay\\x1b[2J: blind\\nok\nfailed\n"


def test_verbose_lists_every_check() -> None:
    assert Answer(_app(NO), "/readyz", query="verbose").body.startswith(b"[+] a: fine\n[-] relay")
    assert Answer(_app(), "/livez", query="x=1&verbose").body == b"[+] thread encoder: turned 0.1 s ago\nok\n"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_a_probe_says_yes_or_no_under_any_name_but_its_reasons_to_known_ones_only(path: str) -> None:
    assert Answer(_app(), path, host="evil.example").body == b"ok\n"
    assert Answer(_app(), path, host="evil.example", query="verbose").code == 421
    assert Answer(_app(NO), "/readyz", host="evil.example").body == b"failed\n"
    assert b"relay" in Answer(_app(NO), "/readyz").body


@pytest.mark.parametrize("path", ["/", "/status", "/page.js", "/metrics"])
def test_the_page_and_its_data_answer_only_names_that_cannot_be_rebound(path: str) -> None:
    refused = Answer(_app(), path, host="evil.example")

    assert refused.code == 421
    assert b"evil" not in refused.body
    assert Answer(_app(), path, host="bridge.example:32799").code == 200


def test_without_the_page_only_probes_and_metrics_are_served() -> None:
    app = _app(page=False)

    assert [Answer(app, path).code for path in ("/", "/status", "/page.css", "/metrics", "/livez")] == [
        404,
        404,
        404,
        200,
        200,
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "<script>"])
def test_only_reading_is_answered(method: str) -> None:
    answer = Answer(_app(), "/", method=method)

    assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_a_body() -> None:
    head, get = Answer(_app(), "/livez", method="HEAD"), Answer(_app(), "/livez")

    assert head.body == b""
    assert (head.status, head.headers) == (get.status, get.headers)


@pytest.mark.parametrize("path", ["/<script>alert(1)</script>", "/../../etc/passwd", "//", "/status/", "/page.css\x00"])
def test_what_was_asked_for_is_never_given_back(path: str) -> None:
    answer = Answer(_app(), path)

    assert answer.code == 404
    assert path.encode() not in answer.body or path == "//"


@pytest.mark.parametrize("path", ["/", "/status", "/livez", "/metrics", "/nothing"])
def test_every_answer_carries_the_protective_headers(path: str) -> None:
    headers = Answer(_app(), path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_document_has_its_sections_and_the_probes() -> None:
    document = json.loads(Answer(_app(NO, version=lambda: "1"), "/status").body)

    assert document["version"] == "1"
    assert document["probes"]["readyz"]["ok"] is False
    assert document["probes"]["readyz"]["checks"][0] == {"name": "a", "ok": True, "why": "fine"}


def test_a_section_that_fails_does_not_take_the_others_with_it() -> None:
    document = json.loads(Answer(_app(queue=lambda: 1 / 0, version=lambda: "1"), "/status").body)

    assert document["queue"] == {"error": "ZeroDivisionError: division by zero"}
    assert document["version"] == "1"


def test_what_an_event_brought_is_escaped_in_the_document() -> None:
    body = Answer(_app(events=lambda: [{"text": "\x1b[31m\u202e\udcff</script>"}]), "/status").body

    assert json.loads(body)["events"] == [{"text": "\\x1b[31m\\u202e\\udcff</script>"}]
    assert b"\x1b" not in body


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("after=7", 7),
        ("x=1&after=7", 7),
        ("", 0),
        ("after=", 0),
        ("after=-1", 0),
        ("after=\u0664", 0),
        ("after=" + "9" * 5000, 0),
    ],
)
def test_events_after_a_number_are_given(query: str, number: int) -> None:
    answer = Answer(_app(latest=lambda after: [after, "\x1b"]), "/events", query=query)

    assert json.loads(answer.body) == [number, "\\x1b"]


def test_events_are_shown_to_nobody_unless_the_operator_says_so() -> None:
    assert Answer(_app(), "/events").code == 404
    assert Answer(_app(page=False, latest=lambda _: []), "/events").code == 404
    assert Answer(_app(latest=lambda _: []), "/events", host="evil.example").code == 421
