"""What people see in a browser: Chromium, a server process, and between them a proxy that can misbehave.

    people.py     somebody with a browser: signing in, sending, a tab and its badge
    proxy.py      what networks do to notifications
    timings.py    how long things took, and how long they may

One browser serves all tests, so they run in one event loop (``conftest.py``); each has a server, a database,
a proxy and cookies of its own. Nothing sleeps: a test waits for what it is about, and the page says when that
was.
"""
