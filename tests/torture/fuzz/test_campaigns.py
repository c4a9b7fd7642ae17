"""Each fuzzing target for ten minutes: no fault, and every input within its bounds of time and memory."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.campaign import TARGETS
from tests.torture_report import record

pytestmark = pytest.mark.torture
SECONDS = 600
INPUT_SECONDS, MEMORY_MIB = 60, 1024
CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_ten_minutes_of_fuzzing_find_nothing(target: str, tmp_path: Path) -> None:
    assert importlib.util.find_spec("atheris"), "install it: pip install --require-hashes -r locks/fuzz.txt"
    found = tmp_path / "found"
    found.mkdir()
    limits = [f"-max_total_time={SECONDS}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}"]
    argv = [sys.executable, "-m", "tests.fuzz.campaign", target, *limits, f"-artifact_prefix={tmp_path}/"]
    argv += [str(found), str(CORPUS / target)]
    ended = subprocess.run(argv, capture_output=True, timeout=2 * SECONDS, check=False)
    said = ended.stderr.decode(errors="replace")
    runs = re.search(r"Done (\d+) runs in (\d+) second", said)
    covered = re.findall(r"cov: (\d+)", said)
    figures: dict[str, object] = {
        "inputs": int(runs[1]) if runs else 0,
        "seconds": int(runs[2]) if runs else 0,
        "edges": int(covered[-1]) if covered else 0,
        "kept": len(list(found.iterdir())),
    }
    passed = ended.returncode == 0 and runs is not None
    record(f"fuzz/{target}", figures, passed)
    assert passed, said[-4000:]
