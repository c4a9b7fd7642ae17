from __future__ import annotations

import socket
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

from tests.unit.cli.invoking import invoke


def test_where_no_bridge_listens_the_cure_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ended = invoke("ledger", "--url", f"http://127.0.0.1:{port}")
    assert ended.code == 3
    assert "Connection refused. Does a bridge run there" in ended.talk
    assert "urlopen" not in ended.talk


def test_what_a_status_server_says_of_a_name_that_it_does_not_answer_is_passed_on() -> None:
    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    def refuse(_environ: object, start_response: object) -> list[bytes]:
        start_response("421 Misdirected Request", [])  # type: ignore[operator]
        return [b"add the name to status.allowed_hosts"]

    with make_server("127.0.0.1", 0, refuse, handler_class=Quiet) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        ended = invoke("ledger", "--url", f"http://127.0.0.1:{server.server_port}")
        answering.join()
    assert ended.code == 3
    assert "421: add the name to status.allowed_hosts" in ended.talk
