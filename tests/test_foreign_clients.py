"""Clients that others wrote receive 0 1 2 3 0: a badge to which three messages are sent, and which is then read.

Each in at most five lines, on each transport that it has.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.server_process import DEADLINE, Server
from tests.services import BOUND
from tests.token_users import TokenUser, token_user

MODULES = "/usr/share/nodejs"  # where Debian's packages of Node modules are

# Literals replace URL, SOCKET_URL and AUTH, the header with the access token.
PYTHON = {
    "httpx-sse": """
import httpx, httpx_sse
with httpx.Client(headers=AUTH, timeout=None) as client:
    with httpx_sse.connect_sse(client, "GET", URL) as stream:
        for event in stream.iter_sse():
            print(event.json()["data"], flush=True)
""",
    "aiohttp, WebSocket": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(headers=AUTH) as session, session.ws_connect(URL) as socket:
        async for frame in socket: [print(each["data"], flush=True) for each in frame.json()]
asyncio.run(main())
""",
    "aiohttp, ndjson": """
import aiohttp, asyncio, json
async def main():
    async with aiohttp.request("GET", URL, headers=AUTH | {"Accept": "application/x-ndjson"}) as response:
        async for line in response.content: line.strip() and print(json.loads(line)["data"], flush=True)
asyncio.run(main())
""",
    "websockets": """
import json, websockets.sync.client
with websockets.sync.client.connect(SOCKET_URL, additional_headers=AUTH, proxy=None) as socket:
    for frame in socket:
        for each in json.loads(frame):
            print(each["data"], flush=True)
""",
    "websocket-client": """
import json, websocket
socket = websocket.create_connection(SOCKET_URL, header=AUTH)
while True:
    for each in json.loads(socket.recv()):
        print(each["data"], flush=True)
""",
}

NODE = {
    "ws": """
const WebSocket = require("ws");
new WebSocket(SOCKET_URL, { headers: AUTH }).on("message", (frame) => {
  for (const each of JSON.parse(frame)) console.log(each.data);
});
""",
    "eventsource": """
const EventSource = require("eventsource");
new EventSource(URL, { headers: AUTH }).onmessage = (event) => console.log(JSON.parse(event.data).data);
""",
}

SHELL = {
    "curl, SSE": """
curl -sN -H AUTH -H "Accept: text/event-stream" URL |
  sed -un 's/^data: .*"data": \\([0-9]*\\).*/\\1/p'
""",
    "curl, ndjson": """
curl -sN -H AUTH -H "Accept: application/x-ndjson" URL |
  sed -un 's/.*"data": \\([0-9]*\\).*/\\1/p'
""",
    "wscat": """
tail -f /dev/null | wscat -H AUTH -c SOCKET_URL |
  sed -un 's/.*"data": \\([0-9]*\\).*/\\1/p'
""",
    "curl, long poll": """
while answer=$(curl -sf -H AUTH URL"?wait=20&since=${since:-0}"); do
  [ "$answer" = "[]" ] && continue
  since=$(sed 's/.*"timestamp": \\([0-9.]*\\).*/\\1/' <<< "$answer")
  sed 's/.*"data": \\([0-9]*\\).*/\\1/' <<< "$answer"
done
""",
    "curl, poll": """
while answer=$(curl -sf -H AUTH URL"?since=${since:-0}"); do
  [ "$answer" = "[]" ] && sleep 0.1 && continue
  since=$(sed 's/.*"timestamp": \\([0-9.]*\\).*/\\1/' <<< "$answer")
  sed 's/.*"data": \\([0-9]*\\).*/\\1/' <<< "$answer"
done
""",
}

LANGUAGES = [([sys.executable, "-c"], PYTHON), (["node", "-e"], NODE), (["bash", "-c"], SHELL)]
SCRIPTS = [(command, name, script) for command, scripts in LANGUAGES for name, script in scripts.items()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server
    assert server.logged() == ""


@pytest.fixture
def alice(shared: Server) -> TokenUser:
    return token_user(shared)


@pytest.fixture
def bob(shared: Server, alice: TokenUser) -> TokenUser:
    """With a badge of 0."""
    bob = token_user(shared)
    alice.send(bob, "hello")
    bob.read_all()
    return bob


def filled(script: str, user: TokenUser) -> str:
    url, value = f"{user.server.url}/notifications", f"Bearer {user.token}"
    literals = {
        "SOCKET_URL": json.dumps(url.replace("http", "ws", 1)),
        "-H AUTH": f"-H 'Authorization: {value}'",
        "AUTH": json.dumps({"Authorization": value}),
        "URL": json.dumps(url),
    }
    for word, literal in literals.items():
        script = script.replace(word, literal)
    return script.strip()


@contextmanager
def running(command: list[str]) -> Iterator[Callable[[], str]]:
    """Run a client; yields what returns its next line."""
    environ = {**os.environ, "NODE_PATH": MODULES}
    with subprocess.Popen(
        [*BOUND, *command], stdout=subprocess.PIPE, text=True, env=environ, process_group=0
    ) as client:
        assert client.stdout is not None
        output = client.stdout
        try:
            yield lambda: output.readline().strip()
        finally:
            os.killpg(client.pid, signal.SIGKILL)


@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize(("command", "script"), [pytest.param(*(each[0], each[2]), id=each[1]) for each in SCRIPTS])
def test_client_receives_every_change_in_five_lines(
    alice: TokenUser, bob: TokenUser, command: list[str], script: str
) -> None:
    assert len(script.strip().splitlines()) <= 5
    with running([*command, filled(script, bob)]) as next_line:
        received = [next_line()]
        for number in range(3):
            alice.send(bob, f"message {number}")
            received.append(next_line())
        bob.read_all()
        received.append(next_line())
    assert received == ["0", "1", "2", "3", "0"]


EVENT_SOURCE = """() => {
  const events = new EventSource("/notifications");
  events.onmessage = (event) => console.log(JSON.parse(event.data).data);
}"""


async def test_event_source_in_chromium_resumes_after_a_restart(tmp_path: Path) -> None:
    """It reconnects by itself, with the id of the last event: 0 1 2, a killed server, 3 0, and nothing twice."""
    received: asyncio.Queue[str] = asyncio.Queue()

    async def next_line() -> str:
        async with asyncio.timeout(DEADLINE):
            return await received.get()

    with Server(tmp_path) as server:
        alice, bob = await asyncio.to_thread(server.person, "alice"), await asyncio.to_thread(server.person, "bob")
        await asyncio.to_thread(alice.send, "bob", "hello")
        await asyncio.to_thread(bob.post, "/messages/read")
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = await browser.new_page()
            for name, value in bob.client.cookies.items():
                await page.context.add_cookies([{"name": name, "value": value, "url": server.url}])
            await page.goto(f"{server.url}/healthz")
            page.on("console", lambda message: received.put_nowait(message.text))
            await page.evaluate(EVENT_SOURCE)
            assert await next_line() == "0"
            for number in (1, 2):
                await asyncio.to_thread(alice.send, "bob", f"message {number}")
                assert await next_line() == str(number)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(alice.send, "bob", "message 3")
            lines = [await next_line()]
            while lines[-1].startswith("Failed to load resource"):  # Chromium's own message
                lines.append(await next_line())
            assert lines[-1] == "3"
            await asyncio.to_thread(bob.post, "/messages/read")
            assert await next_line() == "0"
            await browser.close()
        alice.close()
        bob.close()
