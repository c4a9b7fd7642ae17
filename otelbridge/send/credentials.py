"""Provides the headers of each request from settings, a headers file and a token file, and keeps secrets hidden."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from otelbridge.net.files import WatchedFiles
from otelbridge.net.secrets import carries_credentials, without_values
from otelbridge.queue.model import Hold
from otelbridge.send.settings import SendSettings, SendSettingsError, Target, parse_target
from otelbridge.telemetry.settings import SignalSettings, TelemetrySettings

_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
"""As gRPC takes it; a token of RFC 9110 may hold more."""
_OWN_HEADERS = frozenset(
    {"content-type", "content-length", "content-encoding", "host", "te", "grpc-timeout", "connection"}
)


class HeaderFault(NamedTuple):
    """What is wrong with a header, and the cure."""

    wrong: str
    cure: str


def header_fault(name: str, value: str) -> HeaderFault | None:
    """Why a header cannot be sent; None where it can. Does not show the value, which may be a secret."""
    lower = name.lower()
    if not _HEADER_NAME.fullmatch(lower):
        return HeaderFault(f"{name!r} is not a header's name", "Use letters, digits, '-', '_' and '.' only.")
    if lower in _OWN_HEADERS or lower.startswith("grpc-") or lower.endswith("-bin"):
        return HeaderFault(f"sets {name!r}, which the protocol sets itself", "Leave it out.")
    if not value.isascii() or not value.isprintable():
        return HeaderFault(
            f"the value of {name!r} holds a line break or a character outside ASCII",
            "Correct it; a trailing line break often comes with a value read from a file.",
        )
    return None


class Credentials:
    """Headers in force now. Its repr, its errors and what it hides show no values.

    Raises:
        SendSettingsError: a file cannot be read, a header is malformed, or credentials would go over plaintext.
    """

    def __init__(self, settings: SendSettings, target: Target, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fixed = {name.lower(): value for name, value in settings.headers.items()}
        # On this very machine nobody on the network can listen: a sidecar or a local agent needs no TLS.
        self._may_be_sent = target.tls or target.loopback or settings.allow_plaintext_credentials
        self._url = target.url
        self._headers_file = _watched(settings.headers_file, clock)
        self._token_file = _watched(settings.token_file, clock)
        self._headers_path, self._token_path = settings.headers_file, settings.token_file
        self._faulty = False
        try:
            self._headers = self._read(doubted=True)
        except OSError as error:
            place = "send.token_file" if error.filename == str(self._token_path) else "send.headers_file"
            raise SendSettingsError(
                f"{place} is {error.filename!r}: {error.strerror}; give a file that the bridge can read"
            ) from None
        without_files = self._headers_file is None and self._token_file is None
        self.constant = self._headers if without_files else None
        """The headers, where no file can change them."""

    def headers(self, *, doubted: bool = False) -> Mapping[str, str] | Hold:
        """The headers to send now, read from the files again where they are doubted; or why nothing may be sent."""
        try:
            self._headers, self._faulty = self._read(doubted=doubted), False
        except SendSettingsError as error:
            self._faulty = True
            return Hold(code="credentials", why=str(error), cure="correct the file; it is read again")
        return self._headers

    def renewed(self) -> bool:
        """Reads the files now: whether they hold other headers than before, or usable ones again."""
        before = None if self._faulty else self._headers
        return not isinstance(self.headers(doubted=True), Hold) and self._headers != before

    def trouble(self) -> str:
        """Why a file could not be read again lately, or empty: what it held before is in force."""
        files = (self._headers_file, self._token_file)
        return "; ".join(file.error for file in files if file is not None and file.error)

    def hide(self, text: str) -> str:
        """The text without any of the values: an endpoint may echo what it was sent."""
        return without_values(text, self._headers.values())

    def _read(self, *, doubted: bool) -> Mapping[str, str]:
        found: dict[str, Mapping[str, str]] = {"send.headers": self._fixed}
        if self._headers_file is not None:
            (content,) = self._headers_file.contents(doubted=doubted)
            place = f"send.headers_file ({self._headers_path})"
            found[place] = parse_headers(content, place=place)
        if self._token_file is not None:
            (content,) = self._token_file.contents(doubted=doubted)
            place = f"send.token_file ({self._token_path})"
            found[place] = {"authorization": f"Bearer {_token(content, place)}"}
        headers: dict[str, str] = {}
        for place, some in found.items():
            headers |= some
            for name, value in some.items():
                if fault := header_fault(name, value):
                    raise SendSettingsError(
                        f"{place} does not work: {fault.wrong}; {fault.cure[:1].lower()}{fault.cure[1:-1]}"
                    )
        for name in headers:
            if carries_credentials(name) and not self._may_be_sent:
                raise SendSettingsError(
                    f"the header {name!r} would be sent unencrypted to {self._url}; "
                    "use https://, or set send.allow_plaintext_credentials"
                )
        return headers


def parse_headers(content: bytes, *, place: str) -> dict[str, str]:
    """A headers file: `name=value` (value percent-encoded, as in OTEL_EXPORTER_OTLP_HEADERS) per line; # comments.

    Raises:
        SendSettingsError: a line is something else. Its content is not shown: it may be a secret.
    """
    headers = {}
    for number, line in enumerate(_text(content, place).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip():
            raise SendSettingsError(f"{place} line {number} is not name=value; write one header per line")
        headers[name.strip().lower()] = unquote(value.strip())
    return headers


def _token(content: bytes, place: str) -> str:
    token = _text(content, place).strip().removeprefix("Bearer ").strip()
    if not token or any(c.isspace() for c in token):
        raise SendSettingsError(f"{place} holds no token; it must hold one word and nothing else")
    return token


def _text(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")  # some editors begin with a mark
    except UnicodeDecodeError:
        raise SendSettingsError(f"{place} is not text; write it as UTF-8") from None


def _watched(path: Path | None, clock: Callable[[], float]) -> WatchedFiles | None:
    return None if path is None else WatchedFiles(path, clock=clock)


def lent_headers(send: SendSettings, telemetry: TelemetrySettings) -> dict[str, Callable[[], Mapping[str, str]]]:
    """Per signal that borrows: the headers to send now, read again when their files change.

    Raises:
        SendSettingsError: a file cannot be read, or credentials would go over plaintext.
    """
    signals = {"traces": telemetry.traces, "metrics": telemetry.metrics}
    return {
        name: _borrowed(send, signal)
        for name, signal in signals.items()
        if signal.lend_credentials and signal.exporter == "otlp" and not telemetry.disabled
    }


def _borrowed(send: SendSettings, signal: SignalSettings) -> Callable[[], Mapping[str, str]]:
    only_files = replace(send, headers={})  # those of the settings are the signal's own business
    target = parse_target(signal.endpoint, signal.protocol, insecure=signal.insecure)
    credentials = Credentials(only_files, target)
    last: list[Mapping[str, str]] = [{}]

    def headers() -> Mapping[str, str]:
        found = credentials.headers()
        if not isinstance(found, Hold):
            last[0] = found
        return last[0]

    return headers
