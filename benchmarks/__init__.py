"""Benchmarks of real server processes on loopback, printed as a table.

    __main__.py   ``python -m benchmarks [NAME ...]``: runs each benchmark three times and prints the table
    memory.py, deliver.py, poll.py, send.py, drain.py, stalled.py   the benchmarks; each ``run`` starts a server
    gap.py        a benchmark inside this process, without a server
    world.py      a database with signed-in users, and a server on a copy of it
    tabs.py       thousands of WebSockets with a browser's handshake
    browser.py    HTTP requests with a browser's headers over keep-alive connections
    meter.py      CPU and memory of a process, as the kernel reports them
    table.py      prints medians

The load generator runs on the same machine, so the table shows its CPU beside the server's.
"""
