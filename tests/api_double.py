"""A stand-in for the JSON API and SSE of the server, for tests of the client until the server has both.

It stores what it receives, answers the first ``failures`` requests with 503, and remembers each Idempotency-Key.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

TOKEN = "a-token-for-tests"
EVENT: dict[str, Any] = {"name": "unread_message_count", "data": 1, "timestamp": 1000.5}


class Api(ThreadingHTTPServer):
    """The server; ``requests`` are (method, path, body, Idempotency-Key) of those that were carried out."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[tuple[str, str, Any, str | None]] = []
        self.received = 0
        self.failures = 0
        self.lost = 0  # requests that are carried out, and whose response is lost
        self.stopped = threading.Event()

    def carry_out(self, method: str, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        if key is None or key not in [each[3] for each in self.requests]:
            self.requests.append((method, path, body, key))
        if path == "/api/v1/messages":
            return 201, {"recipient": body["recipient"]}
        if path == "/api/v1/messages/read":
            return 200, [{"name": "unread_message_count", "data": 0, "timestamp": 2000.5}]
        if path == "/api/v1/notifications":
            refused = {"status": 404, "code": "not_found", "detail": "No such user."}
            return 200, {"results": [refused if each["user"] == "john" else {"status": 200} for each in body["items"]]}
        return 200, {}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Api
    PROBLEM: ClassVar = "application/problem+json"

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._respond(401, {"status": 401, "code": "signed_out", "detail": "Ended."}, self.PROBLEM)
        if self.headers["Accept"] != "text/event-stream":
            return self._respond(404, {"status": 404, "code": "not_found"}, self.PROBLEM)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b":\nretry: 1500\n" + f"id: 1000.5\ndata: {json.dumps(EVENT)}\n\n".encode())
        self.wfile.flush()
        self.server.stopped.wait()
        return None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received += 1
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._respond(401, {"status": 401, "code": "signed_out", "detail": "Ended."}, self.PROBLEM)
        if self.server.failures:
            self.server.failures -= 1
            return self._respond(503, {"status": 503, "code": "unavailable"}, self.PROBLEM)
        status, answer = self.server.carry_out(self.command, self.path, body, self.headers["Idempotency-Key"])
        if self.server.lost:
            self.server.lost -= 1
            self.close_connection = True
            return None
        return self._respond(status, answer, "application/json")

    do_PUT = do_POST

    def _respond(self, status: int, body: Any, content_type: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Api]:
    """The server, until the end of the block."""
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.stopped.set()
            api.shutdown()
            thread.join()
