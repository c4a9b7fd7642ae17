"""Files that the settings name: are they there, readable, and what they should be? Read once, at start."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from otelbridge.settings.complaint import Complaint
from otelbridge.settings.tree import Settings, value_at

_TLS_SECTIONS = ("feed.tls", "send", "telemetry.traces", "telemetry.metrics")
_OTHER_FILES = ("send.headers_file", "send.token_file")


def pair_complaints(settings: Settings) -> Iterator[Complaint]:
    """Faults among the names alone; no file is touched."""
    for section in _TLS_SECTIONS:
        tls = value_at(settings, section)
        for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(tls, one) and not getattr(tls, other):
                yield Complaint(
                    paths=(f"{section}.{one}", f"{section}.{other}"),
                    value=getattr(tls, one),
                    wrong=f"is given without {other}",
                    cure=f"Set {section}.{other} too; mutual TLS needs both.",
                )
    tls = settings.feed.tls
    for name in ("ca_file", "cert_file", "key_file", "server_name"):
        if getattr(tls, name) and not tls.enabled:
            yield Complaint(
                paths=(f"feed.tls.{name}", "feed.tls.enabled"),
                value=getattr(tls, name),
                wrong="is given, but feed.tls.enabled is false: the connection would be plaintext",
                cure="Set feed.tls.enabled to true, or leave this out.",
            )


def file_complaints(settings: Settings) -> Iterator[Complaint]:
    """Faults of the files themselves."""
    for section in _TLS_SECTIONS:
        yield from _tls_files(section, value_at(settings, section))
    for path in _OTHER_FILES:
        file = value_at(settings, path)
        if file:
            yield from _readable(path, Path(file))
    directory = settings.queue.directory
    if directory.exists() and not directory.is_dir():
        yield Complaint(
            paths=("queue.directory",),
            value=directory,
            wrong="is not a folder",
            cure="Name a folder for the queue file.",
        )


def _tls_files(section: str, tls: Any) -> Iterator[Complaint]:
    unreadable = False
    for name in ("ca_file", "cert_file", "key_file"):
        if getattr(tls, name):
            for complaint in _readable(f"{section}.{name}", Path(getattr(tls, name))):
                unreadable = True
                yield complaint
    if unreadable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file:
        try:
            context.load_verify_locations(cafile=str(tls.ca_file))
        except (ssl.SSLError, OSError) as error:
            yield Complaint(
                paths=(f"{section}.ca_file",),
                value=tls.ca_file,
                wrong=f"holds no valid certificate ({_reason(error)})",
                cure="Name a PEM file with the CA's certificate, or several.",
            )
    if tls.cert_file and tls.key_file:
        try:
            # Without the callback, an encrypted key would ask for its passphrase on the terminal.
            context.load_cert_chain(certfile=str(tls.cert_file), keyfile=str(tls.key_file), password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            yield Complaint(
                paths=(f"{section}.cert_file", f"{section}.key_file"),
                value=tls.cert_file,
                wrong=f"and {section}.key_file are no valid pair ({_reason(error)})",
                cure="Name the certificate and the unencrypted key that belongs to it, both PEM.",
            )


def date_notes(settings: Settings) -> Iterator[str]:
    """Certificates that are out of date: no reason not to start, as they are read again; but the first to know."""
    now, seen = datetime.now(UTC), set[str]()
    for section in _TLS_SECTIONS:
        for name in ("ca_file", "cert_file"):
            path = getattr(value_at(settings, section), name)
            if not path or str(path) in seen:  # telemetry's are the events' own, unless somebody set others
                continue
            seen.add(str(path))
            if outside := _outside(Path(path), now, bundle=name == "ca_file"):
                yield f"{section}.{name} ({path}) {outside}. Renew the file; the bridge reads it again by itself."


def _outside(file: Path, now: datetime, *, bundle: bool) -> str:
    from otelbridge.send.certificates import period_of  # noqa: PLC0415  # cryptography: only who uses TLS pays for it

    try:
        return period_of(file.read_bytes(), bundle=bundle).outside(now)
    except (OSError, ValueError):
        return ""  # said by another check


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", "") or str(error)).replace("_", " ").lower()


def _readable(path: str, file: Path) -> Iterator[Complaint]:
    """At most one complaint: the file cannot be opened, or is empty."""
    try:
        with file.open("rb") as opened:
            empty = not opened.read(1)
    except OSError as error:
        yield Complaint(
            paths=(path,),
            value=file,
            wrong=f"cannot be read: {error.strerror}",
            cure="Correct the path, or mount the file and make it readable for this user.",
        )
        return
    if empty:
        yield Complaint(paths=(path,), value=file, wrong="is empty", cure="Fill it, or name another.")
