from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import headline, report, sizing
from benchmarks.bridges import GRPC_GZIP, SDK
from benchmarks.run import MEASUREMENTS, RESULTS

FACTS: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))


def cost_of(ours: float, sdk: float) -> dict[str, Any]:
    ratio = round(sdk / ours, 2)
    rows = {GRPC_GZIP.name: {"cpu_us_per_event": ours, "times_cheaper_than_sdk": ratio}}
    return {"cost": {"rows": {**rows, SDK.name: {"cpu_us_per_event": sdk}}}}


def generated(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition(report.START)[2].partition(report.END)[0].strip()


def test_the_pages_show_the_results_that_are_kept() -> None:
    cure = "run `python -m benchmarks.report`"

    assert generated(report.README) == report.tables(FACTS).strip(), cure
    assert generated(report.FRONT) == headline.tables(FACTS).strip(), cure
    assert generated(report.SIZING) == sizing.tables(FACTS["measurements"]).strip(), cure


def test_every_measurement_has_a_section() -> None:
    assert set(report.SECTIONS) == set(MEASUREMENTS)


def test_every_measurement_tells_what_it_was_measured_under() -> None:
    for name, facts in FACTS["measurements"].items():
        assert {"at", "commit", "load_average_before", "machine_busy_percent"} <= set(facts["under"]), name


def test_a_bar_that_is_met_says_yes() -> None:
    (ratio, *_) = report.bars(cost_of(30, 170))

    assert ratio[2:] == ("5.67 times", "yes")


def test_a_bar_that_is_missed_says_no() -> None:
    (ratio, *_) = report.bars(cost_of(60, 170))

    assert ratio[2:] == ("2.83 times", "**no**")


def test_a_bar_that_was_not_measured_says_so() -> None:
    assert {measured for _, _, measured, _ in report.bars({})} == {"not measured"}


def test_an_outage_is_told_in_hours_or_minutes() -> None:
    assert sizing.hours(2_048, 10) == "7.3 h"
    assert sizing.hours(2_048, 1_000) == "4.4 min"
