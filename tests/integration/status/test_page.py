from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.event import GapCause
from otelbridge.feed.model import SubscriptionState
from otelbridge.feed.roads import Loss, Roads
from otelbridge.status.server import StatusServer
from tests.integration.status.chromium import Page, find, open_page
from tests.integration.status.scene import UPSTREAM, Scene, playing
from tests.unit.status.test_document import flooded, orphaned
from tests.waiting import eventually

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
"""`npm install --no-save --prefix tests axe-core@4.14.1` puts it there."""
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \x1b[31mred\x1b[0m\u202e"
)
SHOWN = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \\x1b[31mred\\x1b[0m\\u202e"
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium on this machine: `apt-get install chromium`"),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page() as opened:
        yield opened


@pytest.fixture
def shown(page: Page) -> Iterator[tuple[Scene, Page]]:
    """A scene that is being watched, and shown."""
    with playing() as (scene, server):
        page.resize(1280, 900)
        _open(page, server)
        scene.move(SubscriptionState.CONNECTING)
        scene.move(SubscriptionState.WATCHING)
        eventually(lambda: "watching" in page.text("#subscriptions"), why="the page does not show the subscription")
        yield scene, page
        page.goto("about:blank")
        assert page.problems == []


def _open(page: Page, server: StatusServer) -> None:
    page.problems.clear()
    page.goto(f"http://127.0.0.1:{server.port}/")
    eventually(lambda: page.text("#freshness").startswith("live"), why="the page does not come alive")


def moods(page: Page) -> list[str]:
    """Of the three answers, in their order."""
    found: list[str] = page.evaluate("[...document.querySelectorAll('.answer')].map(a => a.classList[1])")
    return found


def test_figures_change_by_themselves(shown: tuple[Scene, Page]) -> None:
    scene, page = shown

    scene.flow(7, 1200, filtered=200)
    eventually(lambda: "1,200" in page.text("#ledger") and "200 probe-noise" in page.text("#ledger"))
    rate = eventually(lambda: float(page.text("[data-component=feed] .figure b") or 0), why="no rate is shown")
    assert rate > 0
    assert moods(page) == ["good", "good", "good"]
    assert "node-7" in page.text("#identity")
    assert page.evaluate("document.title") == "node-7 · otelbridge"

    scene.flow(0, 34)
    eventually(lambda: "1,234" in page.text("#ledger"), why="the new total is not shown")


def test_a_disconnect_appears_on_the_timeline_and_in_the_answers(shown: tuple[Scene, Page]) -> None:
    scene, page = shown

    scene.move(SubscriptionState.WAITING, "UNAVAILABLE: connection reset")
    eventually(lambda: page.evaluate("document.querySelectorAll('.stretch.blind[data-state=waiting]').length"))
    assert moods(page) == ["bad", "good", "good"]
    assert "Nothing has been received from" in page.text("#answers .bad")
    assert "docs/runbook.md#otelbridgeblind" in page.text("#answers .bad")
    assert "UNAVAILABLE: connection reset" in page.text(f"[data-upstream='{UPSTREAM}']")
    assert page.evaluate("document.title") == "blind · node-7 · otelbridge"

    scene.move(SubscriptionState.CONNECTING)
    scene.move(SubscriptionState.WATCHING)
    scene.gap(1.5, GapCause.DISCONNECT, "UNAVAILABLE: connection reset")
    eventually(lambda: "1.5 s" in page.text("#gaps"), why="the gap is not listed")
    assert moods(page) == ["past", "good", "good"]
    assert "2 gaps, the last of 2 s from" in page.text("#answers .past")
    assert page.evaluate("document.querySelectorAll('.marks .mark').length") == 2
    assert "1 blind stretch in the last" in page.text("#subscriptions")


def test_what_an_attacker_puts_into_an_event_stays_text(shown: tuple[Scene, Page]) -> None:
    scene, page = shown

    scene.events.append({"number": 1, "unix_seconds": time.time(), "stream": "alerts", "text": HOSTILE})
    scene.move(SubscriptionState.WAITING, HOSTILE)
    scene.gap(1, detail=HOSTILE)
    for place in ("#events", "#subscriptions", "#gaps", "#history"):
        eventually(lambda place=place: SHOWN in page.text(place), why=f"{place} does not show it as text")  # type: ignore[misc]
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert page.evaluate("document.title") == "blind · node-7 · otelbridge"


def test_secrets_and_settings_are_folded_away(shown: tuple[Scene, Page]) -> None:
    _, page = shown

    assert not page.evaluate("document.querySelector('#settings').checkVisibility()")
    page.evaluate("document.querySelector('details').open = true")
    assert "(hidden)" in page.text("#settings")


def test_a_bridge_that_goes_away_is_said_and_what_stands_there_is_marked_old(page: Page) -> None:
    with playing() as (_, server):
        _open(page, server)
    eventually(lambda: "does not answer" in page.text("#error"), why="nothing is said")
    assert page.text("#freshness") == "not live"


def test_everything_is_reached_by_keyboard(shown: tuple[Scene, Page]) -> None:
    _, page = shown
    reached = []
    for _press in range(30):
        page.press("Tab")
        reached.append(
            page.evaluate(
                "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"
            )
        )

    assert reached[0] == "Skip to the answers"
    assert {"Ledger", f"Streams of {UPSTREAM}", "Show the settings in force, secrets hidden", "JSON"} <= set(reached)


def test_focus_survives_new_figures(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    page.evaluate("document.querySelector('[aria-label=Ledger]').focus()")

    scene.flow(0, 77)
    eventually(lambda: "77" in page.text("#ledger"))
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Ledger"


def test_nothing_is_wider_than_the_window(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    scene.move(SubscriptionState.HOLDING, "a-word-without-any-blank-" * 20)
    scene.gap(1, detail="/a/very/long/path" * 20)
    eventually(lambda: "/a/very/long/path" in page.text("#gaps"))

    for width in (360, 768, 1920):
        page.resize(width, 800)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_three_answers_fit_on_the_first_screen_of_a_phone(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    scene.flow(5, 10)
    scene.gap(7)
    scene.move(SubscriptionState.HOLDING, "PERMISSION_DENIED: the relay does not let us in")
    eventually(lambda: moods(page) == ["bad", "past", "good"])
    page.resize(390, 700)
    assert page.evaluate("document.querySelector('#answer').getBoundingClientRect().bottom") <= 700


def test_lines_that_say_the_same_are_one(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    for _ in range(3):
        scene.gap(1, detail="reset")
    eventually(lambda: "times" in page.text("#history"), within_seconds=15)
    assert page.text("#history").count("Events could not be received for a while.") <= 2


def test_what_each_road_loses_is_shown_with_the_nodes_that_it_misses_most_of(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    assert "feed.roads compares several" in page.text("#roads")
    other = "relay-b:32767"
    scene.roads = Roads((UPSTREAM, other), 60, blind=set, now=0.0)
    scene.roads.losses |= {
        (UPSTREAM, "n1"): Loss(compared=20_000, carried=True),
        (UPSTREAM, "n2"): Loss(unknown=5),
        (other, "n1"): Loss(compared=20_000, missed=998, unknown=12, carried=True),
        (other, "n2"): Loss(compared=5, missed=2, carried=True),
    }
    eventually(lambda: other in page.text("#roads"), why="the roads are not shown")
    scene.gap(3, covered_by=other)
    eventually(lambda: f"by {other}" in page.text("#gaps"), why="nothing says that the other road was watched")
    assert moods(page) == ["good", "good", "good"]
    rows = [" ".join(row.split()) for row in page.text("#roads").splitlines()]
    text = " ".join(rows)
    assert "20,005 1,000, 5.00 % 12 n1 998, n2 2 none" in text
    assert "20,000 0, 0.00 % 5 none n2" in text


def _is_hidden(page: Page, selector: str) -> bool:
    return bool(page.evaluate(f"document.querySelector({json.dumps(selector)}).hidden"))


def test_floods_and_process_traces_are_sections_only_where_they_are_on(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    eventually(lambda: "node-7" in page.text("#identity"))
    sections = ("#floods-section", "#process_traces-section")
    assert [_is_hidden(page, section) for section in sections] == [True, True]
    scene.floods, scene.tree = flooded(), orphaned()
    eventually(lambda: "alerts/p/shop/cart/File/denied" in page.text("#floods"), why="the flood is not shown")
    assert [_is_hidden(page, section) for section in sections] == [False, False]
    shown_figures = " ".join(page.text("#process_traces").split())
    assert "Spans 3, their ends estimated Whose parent is unknown 1" in shown_figures


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: `npm install --no-save --prefix tests axe-core@4.14.1`")
def test_axe_finds_no_accessibility_fault(shown: tuple[Scene, Page]) -> None:
    scene, page = shown
    scene.flow(5, 10, filtered=2)
    scene.events.append({"number": 1, "unix_seconds": time.time(), "stream": "alerts", "text": "an event"})
    scene.gap(1, detail="reset")
    scene.move(SubscriptionState.HOLDING, "certificate expired")
    eventually(lambda: "certificate expired" in page.text("#subscriptions"))
    eventually(lambda: "an event" in page.text("#events"))

    page.evaluate(AXE.read_text(encoding="utf-8") + ";1")
    for width, dark in ((1280, False), (1280, True), (360, True)):
        page.resize(width, 800, dark=dark)
        found = json.loads(
            page.evaluate(
                "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)])))"
            )
        )
        assert found == [], (width, dark)
