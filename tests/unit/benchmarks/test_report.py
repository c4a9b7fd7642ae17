from __future__ import annotations

import json
from typing import Any

from benchmarks import report
from benchmarks.bridges import GRPC_GZIP, SDK
from benchmarks.run import MEASUREMENTS, RESULTS

FACTS: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))


def cost_of(ours: float, sdk: float) -> dict[str, Any]:
    ratio = round(sdk / ours, 2)
    rows = {GRPC_GZIP.name: {"cpu_us_per_event": ours, "times_cheaper_than_sdk": ratio}}
    return {"cost": {"rows": {**rows, SDK.name: {"cpu_us_per_event": sdk}}}}


def test_the_readme_shows_the_results_that_are_kept() -> None:
    shown = report.README.read_text(encoding="utf-8").partition(report.START)[2].partition(report.END)[0]

    assert shown.strip() == report.tables(FACTS).strip(), "run `python -m benchmarks.report`"


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
