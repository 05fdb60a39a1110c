"""A web server on 127.0.0.1 that gives files of weights, well or badly."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WeightsServer:
    """What it answers; change it between requests.

    Args:
        body: What it gives.
        length: The Content-Length that it claims; None for none.
        status: The status of its answers.
        stalls: Whether it sends half and then nothing, until `go_on` is set.
    """

    body: bytes = b""
    length: int | None = -1
    status: int = 200
    stalls: bool = False
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve() -> Iterator[WeightsServer]:
    """Run a server while the with statement runs."""
    told = WeightsServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(told.status)
            length = len(told.body) if told.length == -1 else told.length
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            half = len(told.body) // 2 if told.stalls else len(told.body)
            self.wfile.write(told.body[:half])
            self.wfile.flush()
            if told.stalls:
                told.go_on.wait(20)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    told.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        told.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
