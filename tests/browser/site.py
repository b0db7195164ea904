"""A web site of another origin than the server's, with the npm package installed from its packed file."""

import json
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from microblog_rt import files


class Site:
    """Serves a folder at ``http://localhost:PORT``; servers of tests are at ``http://127.0.0.1:PORT``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://localhost:{self._server.server_port}"

    def write(self, name: str, content: str) -> str:
        """Write a page; its address."""
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>A site</title>'
        head += '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        (self.folder / name).write_text(head + content)
        return f"{self.url}/{name}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class NotificationServer:
    """``tests/js/notification_server.js``: one user's notifications, for pages of every origin."""

    token = "t0ken"

    def __init__(self) -> None:
        command = ["node", str(files.CHECKOUT / "tests/js/notification_server.js")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()

    def publish(self, data: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(data) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
