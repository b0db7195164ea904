"""What people see, in a real browser: Chromium, a server process, and between them a proxy that can misbehave.

    people.py     somebody with a browser: signing in, sending, a tab and its badge
    proxy.py      what networks do to notifications
    timings.py    how long things took, and how long they may

One browser serves all tests, so they all run in one event loop (``conftest.py``); each has its own server, database,
proxy and cookies. Nothing here sleeps: a test waits for what it is about, and the page itself says when it happened.
"""
