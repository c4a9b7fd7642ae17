"""ClickHouse's engine behind as much of its HTTP interface as its Go client uses. A program: PORT DIRECTORY.

The engine is genuine: chdb, ClickHouse as a library. It has no server of its own, so this file is one: queries in,
results out, inserts in ClickHouse's own Native format handed on as they come.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

INSERT = re.compile(r"\s*(INSERT\s+INTO\s.*?)\s*FORMAT\s+Native\s*", re.IGNORECASE | re.DOTALL)
NAMES_AND_TYPES = "JSONCompactEachRowWithNamesAndTypes"
BLOCK_INFO = bytes([1, 0, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0])
"""What stands before each block for a client that says how new it is: no overflow row, no bucket."""
PLAIN_SERIALIZATION = b"\0"
INTEGER = re.compile(r"U?Int(\d+)")


def native(lines: bytes) -> bytes:
    """A small result as one Native block: columns of texts and whole numbers.

    Args:
        lines: JSON rows, the first two the names and types of the columns.
    """
    rows = [json.loads(line) for line in lines.splitlines()]
    names, types, values = (rows[0], rows[1], rows[2:]) if rows else ([], [], [])
    block = BLOCK_INFO + varint(len(names)) + varint(len(values))
    for place, (name, kind) in enumerate(zip(names, types, strict=True)):
        column = [row[place] for row in values]
        block += text(name) + text(kind) + PLAIN_SERIALIZATION + b"".join(encoded(kind, value) for value in column)
    return block


def encoded(kind: str, value: Any) -> bytes:
    integer = INTEGER.fullmatch(kind)
    if integer:
        return int(value).to_bytes(int(integer[1]) // 8, "little", signed=not kind.startswith("U"))
    if kind != "String":
        raise ValueError(f"no encoding of {kind}")
    return text(value)


def text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


class Engine:
    """A session of the engine, one query at a time."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()

    def answer(self, query: str, body: bytes, wanted: str) -> bytes:
        """What a query returns; an insert's data and any other query may be the body.

        Raises:
            RuntimeError: the engine refuses it.
            ValueError: the result cannot be written in that format.
        """
        with self._lock:
            insert = INSERT.fullmatch(query)
            if insert:
                return self._insert(insert[1], body)
            if wanted == "Native":
                return native(self._result(query or body.decode(), NAMES_AND_TYPES))
            return self._result(query or body.decode(), wanted)

    def _insert(self, into: str, blocks: bytes) -> bytes:
        with tempfile.NamedTemporaryFile(suffix=".native") as file:
            file.write(blocks)
            file.flush()
            return self._result(f"{into} SELECT * FROM file('{file.name}', 'Native')", "Null")

    def _result(self, query: str, wanted: str) -> bytes:
        return bytes(self._session.query(query, wanted).bytes())


def handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    """Answers requests for the engine."""

    class ClickHouse(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, b"Ok.\n")

        def do_POST(self) -> None:
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            body = self._body()
            try:
                answer = engine.answer(asked.get("query", ""), body, asked.get("default_format", "TabSeparated"))
            except (RuntimeError, ValueError) as error:
                self._answer(500, str(error).encode())
            else:
                self._answer(200, answer)

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Only errors are worth a line."""

    return ClickHouse


def main(port: int, directory: Path) -> None:
    """Serves until it is told to end."""
    from chdb import session  # noqa: PLC0415 - it is there only where this runs as a program

    ThreadingHTTPServer(("127.0.0.1", port), handler(Engine(session.Session(str(directory))))).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
