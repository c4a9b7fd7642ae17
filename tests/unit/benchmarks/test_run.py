from __future__ import annotations

import pytest

from benchmarks.run import MEASUREMENTS, parse


def test_everything_is_measured_in_full_unless_asked_otherwise() -> None:
    asked = parse([])

    assert (asked.names, asked.quick, asked.no_go) == ([], False, False)


def test_measurements_are_selected_by_name() -> None:
    assert parse(["--quick", "latency", "burst"]).names == ["latency", "burst"]


def test_an_unknown_measurement_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["latenci"])

    assert "no such measurement: latenci" in capsys.readouterr().err


def test_the_help_lists_every_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])

    shown = capsys.readouterr().out
    assert all(one.what in shown for one in MEASUREMENTS.values())
