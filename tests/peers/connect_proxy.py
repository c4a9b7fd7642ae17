"""An HTTP proxy as companies have them: CONNECT for tunnels, whole URLs for plaintext; it can refuse both."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import urllib3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ConnectProxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((f"CONNECT {self.path}", self.headers.get("Proxy-Authorization", "")))
        if self.server.refuse:
            self.send_error(self.server.refuse)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((self.server.stand_ins.get(host, host.strip("[]")), int(port))) as other:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(other, self.connection))
            back.start()
            _pump(self.connection, other)
            back.join()
        self.close_connection = True

    def do_POST(self) -> None:
        self.server.asked.append((f"POST {self.path}", self.headers.get("Proxy-Authorization", "")))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuse:
            self.send_error(self.server.refuse)
            return
        url = urlsplit(self.path)
        host = self.server.stand_ins.get(url.hostname or "", url.hostname or "")
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        with urllib3.HTTPConnectionPool(host, url.port) as pool:
            answer = pool.urlopen("POST", url.path, body, headers, retries=False, decode_content=False)
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.data)))
        for name in ("Content-Type", "Content-Encoding"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.data)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class ConnectProxy(ThreadingHTTPServer):
    """Listens on loopback; `stand_ins` are the names that only it can look up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.refuse = 0
        self.stand_ins: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Without credentials."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """A proxy that runs."""
    with ConnectProxy() as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()
