from __future__ import annotations

import pytest

from docs import tables
from otelbridge.mapping.severity import LEVELS, SEVERITY, Situation
from otelbridge.mapping.wire import severity_text
from otelbridge.pb import kubearmor_pb2 as pb
from tests.unit.mapping.samples import alert, log, seen

ROWS = {
    # Action, Result: the numbers for severity none, 1, 2 ... 10.
    ("Audit", "Passed"): (9, 9, 10, 11, 13, 14, 15, 17, 18, 19, 20),
    ("Block", "Permission denied"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    ("Block", "Operation not permitted"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    ("Audit (Block)", "Passed"): (14, 14, 14, 14, 14, 15, 16, 18, 19, 20, 20),
    ("Block", "Passed"): (14, 14, 14, 14, 14, 15, 16, 18, 19, 20, 20),
    ("Allow", "Permission denied"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    ("", "Permission denied"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),  # a preset before 1.6.4
    ("", "Passed"): (9, 9, 10, 11, 13, 14, 15, 17, 18, 19, 20),
    ("Audit", "No such file or directory"): (9, 9, 10, 11, 13, 14, 15, 17, 18, 19, 20),
    ("Block", "No such file or directory"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    ("Remove", "Removed"): (13, 13, 13, 13, 13, 14, 15, 17, 18, 19, 20),
    ("Audit (Allow)", "Passed"): (9, 9, 10, 11, 13, 14, 15, 17, 18, 19, 20),
}


@pytest.mark.parametrize(("action", "result"), ROWS)
def test_every_cell_of_the_table_for_policies(action: str, result: str) -> None:
    numbers = tuple(
        seen(alert(Action=action, Result=result, Severity="" if level == "none" else level)).record.severity_number
        for level in LEVELS
    )
    assert numbers == ROWS[action, result]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("action", "result", "number"), [("Audit", "Passed", 9), ("Block", "Permission denied", 13)])
def test_the_default_posture_has_no_severity_of_its_own(level: str, action: str, result: str, number: int) -> None:
    severity = "" if level == "none" else level
    found = seen(alert(PolicyName="DefaultPosture", Action=action, Result=result, Severity=severity))
    assert found.record.severity_number == number


@pytest.mark.parametrize(
    "form",
    [
        pb.Alert(Type="SystemEvent", Operation="AlertThreshold", MaxAlertsPerSec=10, DroppingAlertsInterval=30),
        alert(Type="SystemEvent", Operation="AlertThreshold", Severity="9", MaxAlertsPerSec=10),
        alert(Type="SystemEvent", Operation="AlertThreshold", Severity="9", Action="Block"),
    ],
    ids=["kernel", "user space", "user space, blocked"],
)
def test_throttling_is_a_warning_and_no_severity_leaks_into_it(form: pb.Alert) -> None:
    found = seen(form)
    assert (found.record.severity_number, found.record.event_name) == (13, "kubearmor.alert.throttled")


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({}, 9),
        ({"Operation": "Process"}, 9),
        ({"Result": "No such file or directory"}, 9),
        ({"Result": "Permission denied"}, 10),
        ({"Type": "HostLog", "Result": "Operation not permitted"}, 10),
        ({"Type": "MatchedNetworkPolicy", "Operation": "NetworkFirewall"}, 9),
        ({"Type": "MatchedNetworkPolicy", "Operation": "NetworkFirewall", "Result": "Permission denied"}, 13),
        ({"Type": "Whatever", "Operation": "Novelty"}, 9),
    ],
)
def test_logs(fields: dict[str, str], number: int) -> None:
    assert seen(log(**fields)).record.severity_number == number


@pytest.mark.parametrize(
    ("level", "number"), [("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("", 9), ("FATAL", 9)]
)
def test_messages(level: str, number: int) -> None:
    assert seen(pb.Message(Level=level, Message="hello")).record.severity_number == number


def test_the_text_is_the_short_name_of_the_number() -> None:
    names = [severity_text(number) for number in (1, 5, 9, 10, 11, 12, 13, 16, 17, 20, 24)]
    assert names == ["TRACE", "DEBUG", "INFO", "INFO2", "INFO3", "INFO4", "WARN", "WARN4", "ERROR", "ERROR4", "FATAL4"]
    assert seen(alert(Severity="8")).record.severity_text == "ERROR2"


@pytest.mark.parametrize("severity", ["0", "11", "high", "-3", "٣", "99999999999999999999999"])  # a digit elsewhere
def test_a_severity_that_is_none_counts_as_none_and_is_kept(severity: str) -> None:
    found = seen(alert(Severity=severity))
    assert found.record.severity_number == 13
    assert found.attributes["kubearmor.severity_text"] == severity
    assert "kubearmor.severity" not in found.attributes


def test_an_operator_overrides_single_cells() -> None:
    override = {"blocked": {"3": 21, "none": 1}, "telemetry_bulk": {"none": 5}}
    numbers = [
        seen(message, severity=override).record.severity_number
        for message in (alert(Severity="3"), alert(Severity=""), alert(Severity="4"), log(), log(Operation="Process"))
    ]
    assert numbers == [21, 1, 13, 5, 9]


def test_the_documentation_shows_every_situation() -> None:
    table = tables.severities()
    assert set(SEVERITY) == set(Situation)
    assert all(f"| `{situation}` |" in table for situation in Situation)


def test_a_policy_has_one_of_ten_levels_or_none() -> None:
    assert LEVELS == ("none", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
