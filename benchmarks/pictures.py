"""A picture of each curve, from the figures of the measurements."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Facts = dict[str, Any]

INCHES = (7.0, 3.6)
DOTS_PER_INCH = 110
BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"


def draw(found: Facts, folder: Path) -> list[Path]:
    """Draws what was measured; returns the files, none where matplotlib is missing."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        print("no pictures: matplotlib is not installed; `make bench` installs it")
        return []
    matplotlib.use("Agg")
    files = []
    for name, (measurement, picture) in PICTURES.items():
        if "skipped" in found.get(measurement, {"skipped": ""}):
            continue
        figure, axes = pyplot.subplots(figsize=INCHES, layout="constrained")
        picture(axes, found[measurement])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, alpha=0.25)
        path = folder / f"{name}.png"
        # Without the library's version in it, the same figures make the same file.
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
        pyplot.close(figure)
        files.append(path)
    return files


def _latency(axes: Any, facts: Facts) -> None:
    for key, label, colour in (("p50_ms", "p50", BLUE), ("p99_ms", "p99", ORANGE), ("p999_ms", "p99.9", GREY)):
        rows = [row for row in facts["rows"] if key in row]
        axes.plot([row["rate"] for row in rows], [row[key] for row in rows], "o-", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel="events per second", ylabel="ms from event to arrival", title="Latency")
    axes.legend()


def _held(axes: Any, facts: Facts) -> None:
    rows = [row for row in facts["intake"] if row["held"]]
    held = [row["held"] for row in rows]
    axes.plot(
        held, [row["intake_cpu_us_per_event"] for row in rows], "o-", color=BLUE, label="CPU µs per event taken in"
    )
    middle = [(row["held_from"] + row["held_to"]) / 2 for row in facts["sending"]]
    costs = [row["send_cpu_us_per_event"] for row in facts["sending"]]
    axes.plot(middle, costs, "s-", color=ORANGE, label="CPU µs per event sent")
    axes.plot(held, [row["resident_mib"] for row in rows], "^--", color=GREY, label="resident MiB")
    axes.set(xscale="log", xlabel="events held", title="Cost and memory with a backlog")
    axes.set_ylim(bottom=0)
    axes.legend()


def _sustained(axes: Any, facts: Facts) -> None:
    for (name, row), colour in zip(facts["rows"].items(), (BLUE, ORANGE, GREY), strict=False):
        tried = sorted(row["tried"], key=lambda one: one["rate"])
        axes.plot([one["rate"] for one in tried], [one["lag_seconds"] for one in tried], "-", color=colour, alpha=0.4)
        for clean, mark in ((True, "o"), (False, "x")):
            some = [one for one in tried if one["clean"] is clean]
            label = name if clean else None
            axes.plot(
                [one["rate"] for one in some], [one["lag_seconds"] for one in some], mark, color=colour, label=label
            )
    axes.set(xlabel="events per second asked (x: loss, or too far behind)", ylabel="seconds behind at the end")
    axes.set_title("Raising the rate")
    axes.legend(fontsize="small")


def _components(axes: Any, facts: Facts) -> None:
    rows = [row for row in facts["components"] if row["cpu_us_per_event"] >= 0.2][:14]
    names = [f"{row['thread']}: {row['component']}" for row in rows]
    axes.barh(names, [row["cpu_us_per_event"] for row in rows], color=BLUE)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlabel="CPU µs per event", title="Where the time goes")


def _soak(axes: Any, facts: Facts) -> None:
    rows = facts["rows"]
    axes.plot([row["minutes"] for row in rows], [row["resident_mib"] for row in rows], "o-", color=BLUE)
    axes.set(xlabel="minutes", ylabel="resident MiB", title="Memory over time")
    axes.set_ylim(bottom=0)


def _growth(key: str, label: str, title: str) -> Callable[[Any, Facts], None]:
    def picture(axes: Any, facts: Facts) -> None:
        rows: Sequence[Facts] = facts["rows"]
        for row in rows:
            axes.plot(
                [row[key]] * len(row["cpu_us_per_event_each"]), row["cpu_us_per_event_each"], ".", color=GREY, alpha=0.6
            )
        axes.plot([row[key] for row in rows], [row["cpu_us_per_event"] for row in rows], "o-", color=BLUE)
        axes.set(xscale="log", xlabel=label, ylabel="CPU µs per event", title=title)
        axes.set_ylim(bottom=0)

    return picture


PICTURES: dict[str, tuple[str, Callable[[Any, Facts], None]]] = {
    "latency": ("latency", _latency),
    "held": ("held", _held),
    "sustained": ("sustained", _sustained),
    "soak": ("soak", _soak),
    "components": ("components", _components),
    "rate": ("rate", _growth("rate", "events per second", "Cost by rate")),
    "pods": ("pods", _growth("pods", "pods", "Cost by number of pods")),
    "size": ("size", _growth("event_bytes", "bytes of an event", "Cost by size of an event")),
    "batch": ("batch", _growth("records_per_request", "records in a request", "Cost of sending by size of a request")),
}
