"""Asks the status server of a running bridge for a JSON document; whatever else answers there becomes one sentence."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from otelbridge.cli.output import Exit, fail

STATUS_PATH = "/status"
ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_REASON_BYTES = 1024


class NoStatusError(Exception):
    """No document could be had; the text says why."""

    def __init__(self, reason: str, *, answered: bool) -> None:
        super().__init__(reason)
        self.answered = answered
        """False where nobody answered at all: a later try may succeed."""


def document_address(url: str, path: str) -> str:
    """The address of a document such as `/events`, from a status server's URL with or without `/status` at its end.

    Raises:
        ValueError: the URL is none of a status server.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in url
    except ValueError:  # brackets that do not close, a port out of range
        usable = False
    if not usable:
        raise ValueError(f"{url} is no URL of a status server: write it like http://127.0.0.1:32799")
    return url.rstrip("/").removesuffix(STATUS_PATH) + path


def status_or_exit(url: str, *, hint: str = "") -> dict[str, Any]:
    """The status document of a running bridge; ends the command without one, with the hint if nobody answers."""
    try:
        return ask(document_address(url, STATUS_PATH))
    except NoStatusError as error:
        asked = "" if error.answered else " Does a bridge run there, and is that its status.port?"
        fail(f"{error}{asked} {hint}".rstrip(), Exit.UNREACHABLE)
    except ValueError as error:
        fail(f"Wrong usage: {error}", Exit.WRONG_USAGE)


def ask(address: str) -> dict[str, Any]:
    """The JSON object at an address.

    Raises:
        NoStatusError: nobody answers, or not with that.
    """
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - http(s), see above
            document = json.loads(answer.read(MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            plain = error.headers.get_content_type() == "text/plain"  # a web server's error page helps nobody here
            said = error.read(MAX_REASON_BYTES).decode("utf-8", "replace").strip() if plain else ""
        raise NoStatusError(f"{address} answers {error.code}: {said or error.reason}", answered=True) from None
    except OSError as error:
        cause = getattr(error, "reason", None) or error
        why = getattr(cause, "strerror", None) or cause
        raise NoStatusError(f"No status from {address}: {why}.", answered=False) from None
    except (http.client.HTTPException, ValueError, RecursionError):
        raise NoStatusError(f"{address} answers, but not with a bridge's status.", answered=True) from None
    if not isinstance(document, dict):
        raise NoStatusError(f"{address} answers, but not with a bridge's status.", answered=True)
    return document
