"""Benchmarks of real server processes on loopback, beside peers, printed as a table.

    __main__.py   ``python -m benchmarks [NAME ...]``: runs the benchmarks and prints the table, or writes the page
    memory.py, deliver.py, poll.py, send.py, view.py, latency.py, growth.py, gap.py, restart.py   the rows of the table
    drain.py, stalled.py   reliability under load, not in the table
    sizes.py      the numbers of tabs, events and messages
    world.py      a database with signed-in users, and a server on a copy of it
    peers/        what is measured beside the server
    tabs.py       thousands of WebSockets with a browser's handshake
    browser.py    HTTP requests with a browser's headers over keep-alive connections
    meter.py      CPU and memory of processes, as the kernel reports them
    results.py, table.py, plots.py, page.py   figures, goals, the table, the plots, ``docs/performance.md``

The load generator runs on the same machine, so the table shows its CPU beside the server's.
"""
