"""The push edge: serves ``/notifications`` and writes directly on the socket, and passes every other request on.

edge.py         what the connections of a process share
accepted.py     an accepted connection: deadlines, flow control, end
connection.py   its requests, until it is a stream
request.py      the head of a request
live_stream.py  what a tab and an event stream have in common; writer.py: their side of the connection
tab.py          a tab: a WebSocket and its stream
websocket.py    a WebSocket; frames.py: its frames
event_stream.py a streamed response: server-sent events or JSON lines
held_poll.py    a long poll
serving.py      a request with a body; a poll that reads; the interface of what a connection serves
wheel.py        the timer of all deadlines
peers.py        the connections of each address

See also: ``web/admission.py``, the checks that are shared with the ASGI application.
"""

from microblog_rt.push.edge import Edge

__all__ = ["Edge"]
