"""What the demo's audience sees: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from otelbridge.cli.output import say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from otelbridge.cli.demo_stage import Figures

LINES_KEPT = 12
DRAWS_PER_SECOND = 8
LINE_SECONDS = 1.0
"""Between two lines of figures, where nothing can be drawn."""


class Screen(Protocol):
    """Both of them. `announce` may be called from any thread."""

    def announce(self, text: str) -> None:
        """Something happens."""
        ...

    def follow(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        """Shows figures until `over` is set."""
        ...


class PlainScreen:
    """Lines on stderr."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def announce(self, text: str) -> None:
        """One line."""
        say(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def follow(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        """A line every second."""
        while not over.wait(LINE_SECONDS):
            now = figures()
            self.announce(
                f"       published {now.published}  received {now.received}  on disk {now.held}  "
                f"delivered {now.delivered}  [{now.state}]"
            )


class DrawnScreen:
    """A picture that rich redraws in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)

    def announce(self, text: str) -> None:
        """One line below the picture."""
        self._lines.append(f"{time.monotonic() - self._began:5.1f} s  {text}")

    def follow(self, figures: Callable[[], Figures], over: threading.Event) -> None:
        """Redraws several times a second."""
        from rich.live import Live  # noqa: PLC0415  # only who draws pays for rich

        with Live(console=self._console, auto_refresh=False) as live:
            while not over.wait(1 / DRAWS_PER_SECOND):
                live.update(self._picture(figures()), refresh=True)
            live.update(self._picture(figures()), refresh=True)

    def _picture(self, now: Figures) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        road = Table(expand=True)
        state = "green" if now.state == "watching" else "yellow"
        endpoint = "green" if now.endpoint_up else "red"
        for name, style in (
            ("KubeArmor", state),
            ("bridge: received", ""),
            ("on disk", ""),
            ("OTLP endpoint", endpoint),
        ):
            road.add_column(Text(name, style=style), justify="center")
        road.add_row(
            Text(f"{now.published} events\n{now.state}", style=state),
            f"{now.received}\n{now.gaps} gap records",
            Text(f"{now.held}", style="yellow" if now.held else ""),
            Text(f"{now.arrived} records\n{'up' if now.endpoint_up else 'away'}", style=endpoint),
        )
        return Group(road, *(Text(line, style="bold" if "Act " in line else "dim") for line in self._lines))


def screen(*, colours: bool) -> Screen:
    """The one that fits where stderr goes."""
    from rich.console import Console  # noqa: PLC0415  # only who draws pays for rich

    console = Console(stderr=True, no_color=not colours)
    return DrawnScreen(console) if console.is_terminal else PlainScreen()
