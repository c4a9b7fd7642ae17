"""Writes the dashboards as the JSON files that Grafana reads; `--check` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from k8s.dashboards.bridge import BRIDGE_DASHBOARD
from k8s.dashboards.kubearmor import KUBEARMOR_DASHBOARD
from k8s.dashboards.panels import Dashboard, dashboard_json, panels_markdown

FOLDER = Path(__file__).resolve().parents[1] / "chart" / "files" / "dashboards"
DASHBOARDS: tuple[Dashboard, ...] = (BRIDGE_DASHBOARD, KUBEARMOR_DASHBOARD)
RUNBOOK = "docs/runbook.md"
"""Until an operator says where the runbook can be read, the links name its file."""


def files() -> dict[Path, str]:
    """Each file and what belongs in it."""
    return {
        FOLDER / f"{one.uid}.json": json.dumps(
            dashboard_json(one, others=[other for other in DASHBOARDS if other is not one], runbook=RUNBOOK), indent=1
        )
        + "\n"
        for one in DASHBOARDS
    }


def runbook_panels_markdown() -> str:
    """The runbook's sections on the panels."""
    return panels_markdown(DASHBOARDS)


def main(*, check: bool) -> int:
    """Writes every file; with `check`, returns 1 if one would change."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(("stale: " if check else "written: ") + str(path.relative_to(FOLDER.parents[3])))
        if not check:
            path.write_text(files()[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
