from __future__ import annotations

from typing import Any

from benchmarks import report
from benchmarks.measurements.yardstick import Figures, shorter, summary


def round_of(ours: float, go: float, *, lost: int = 0) -> dict[str, Figures]:
    return {
        "ours": {"cpu_us_per_event": ours, "alerts_p99_ms": 90.0, "lost": lost},
        "go": {"cpu_us_per_event": go, "lost": 0},
    }


def measured(*rates: int, ratio: float, **ours: float) -> dict[str, Any]:
    """A yardstick's facts with the same figures at each rate."""
    figures = {name: {"median": value, "least": value, "most": value} for name, value in ours.items()}
    against = {"cpu_us_per_event": {"median": ratio, "least": ratio - 0.1, "most": ratio + 0.1}}
    return {"rows": [{"rate": rate, "ours": figures, "go": figures, "ratio": against} for rate in rates]}


def bar(facts: dict[str, Any], what: str) -> tuple[str, str]:
    (found,) = [row[2:] for row in report.bars({"yardstick": facts}) if row[0] == what]
    return found


def test_a_ratio_is_that_of_its_own_round() -> None:
    # The machine was three times as slow in the second round.
    row = summary(500.0, [round_of(100, 50), round_of(300, 200), round_of(120, 50)])

    assert row["ratio"]["cpu_us_per_event"] == {"median": 2.0, "least": 1.5, "most": 2.4}
    assert row["ours"]["cpu_us_per_event"] == {"median": 120, "least": 100, "most": 300}


def test_events_lost_in_any_round_are_told() -> None:
    row = summary(30_000.0, [round_of(1, 1, lost=3), round_of(1, 1), round_of(1, 1, lost=4)])

    assert (row["ours"]["lost"], row["go"]["lost"]) == (7, 0)


def test_a_figure_that_a_round_lacks_is_left_out() -> None:
    without = round_of(100, 50)
    del without["ours"]["alerts_p99_ms"]

    assert "alerts_p99_ms" not in summary(20.0, [round_of(100, 50), without])["ours"]


def test_figures_keep_the_digits_that_count() -> None:
    assert [shorter(value) for value in (0.12345, 12.345, 123.45, 12_345.6)] == [0.123, 12.35, 123.5, 12_346]


def test_a_bar_holds_only_if_it_holds_at_each_of_its_rates() -> None:
    what = "CPU per event against the Go bridge, at 20 to 500/s"
    facts = measured(20, 100, 500, ratio=0.9)
    assert bar(facts, what)[1] == "yes"

    facts["rows"][1]["ratio"] = {"cpu_us_per_event": {"median": 1.01, "least": 0.9, "most": 1.2}}

    assert bar(facts, what) == ("0.9 (0.8-1) at 20/s, 1.01 (0.9-1.2) at 100/s, 0.9 (0.8-1) at 500/s", "**no**")


def test_a_bar_at_a_rate_that_the_quick_form_leaves_out_says_so() -> None:
    assert bar(measured(20, 2_000, ratio=0.5), "CPU per event against the Go bridge, at 2,000 to 30,000/s")[0] == (
        "not in the quick form"
    )


def test_a_bar_of_the_idle_bridge_reads_the_row_without_a_rate() -> None:
    assert bar(measured(0, ratio=1, wakeups_per_second=4.2), "wake-ups a second, idle") == ("4.2 idle", "yes")
