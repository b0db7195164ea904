"""An ASGI application with python-socketio: every client receives each event, and POST /publish emits one."""

from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", http_compression=False)
sockets = socketio.ASGIApp(server)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http" or scope["path"] != "/publish":
        await sockets(scope, receive, send)
        return
    body = (await receive())["body"]
    await server.emit("notifications", body.decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
