"""The page's files by the path that they are served at, read once: nothing a request says reaches the disk."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple


class Asset(NamedTuple):
    """One file of the page."""

    content_type: str
    body: bytes


def _read(name: str, content_type: str) -> Asset:
    return Asset(content_type, files(__package__).joinpath(name).read_bytes())


SCRIPTS = ("page.js", "parts.js", "timeline.js", "words.js")

ASSETS: Mapping[str, Asset] = {
    "/": _read("index.html", "text/html; charset=utf-8"),
    "/page.css": _read("page.css", "text/css; charset=utf-8"),
    **{f"/{name}": _read(name, "text/javascript; charset=utf-8") for name in SCRIPTS},
    "/icon.svg": _read("icon.svg", "image/svg+xml"),
}
