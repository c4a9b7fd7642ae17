"""A pytest plugin: notes which tests reach which lines of a component, or runs chosen tests, in a given order.

By the environment, as xdist and pytest's own options know nothing of it:

    MUTANTS_COMPONENT, MUTANTS_REACHED  the component, and the file to write: {"seconds": {test: its duration},
                                        "lines": {file: {line: [tests]}}}; the test "" is whatever imports the file
    MUTANTS_CHOSEN                      a file with the tests to run, as a JSON list; what fails has to fail twice, so
                                        that a deadline missed on a busy machine does not count as noticing
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from coverage import Coverage

_seconds: dict[str, float] = defaultdict(float)
_failed: set[str] = set()
_coverage: list[Coverage] = []


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Begins before the first module of the component is imported."""
    if component := os.environ.get("MUTANTS_COMPONENT"):
        include = [f"otelbridge/{component}/*.py"]
        _coverage.append(Coverage(data_file=None, config_file=False, include=include, messages=False))
        _coverage[0].start()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen := os.environ.get("MUTANTS_CHOSEN"):
        places = {test: place for place, test in enumerate(json.loads(Path(chosen).read_text(encoding="utf-8")))}
        items[:] = sorted((item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    for one in _coverage:
        one.switch_context(item.nodeid)
    if "MUTANTS_CHOSEN" not in os.environ:
        return None
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed for report in reports):
        item._initrequest()  # type: ignore[attr-defined] # as pytest-rerunfailures does
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes what was reached; a test that fails anyway would notice every change, so it is left out."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK  # nothing has failed, so nothing was noticed
    for one in _coverage:
        one.stop()
        data = one.get_data()
        lines = {
            str(Path(file).relative_to(Path.cwd())): {
                line: sorted(set(tests) - _failed) for line, tests in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        written = {"seconds": {test: spent for test, spent in _seconds.items() if test not in _failed}, "lines": lines}
        Path(os.environ["MUTANTS_REACHED"]).write_text(json.dumps(written), encoding="utf-8")
