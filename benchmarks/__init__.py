"""What a tab, an event, a poll and a send cost: real server processes on loopback, and a table.

    __main__.py   ``python -m benchmarks [memory] [deliver] [poll] [send]``: each thrice, then the table
    memory.py, deliver.py, poll.py, send.py   the measurements; each ``run`` has a server of its own
    world.py      a database with people who are signed in, and a server on a copy of it
    tabs.py       thousands of WebSockets as browsers open them
    browser.py    requests as browsers make them, on connections that stay open
    meter.py      what the kernel says a process has used
    table.py      medians, printed

Absolute numbers describe a machine. The load generator shares it, so its own CPU stands beside the server's.
"""
