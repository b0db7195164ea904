"""Tests in Chromium, with a server process and a proxy that can fail in between.

    browser_users.py   browser users: sign in, send, open tabs and read the badge
    proxy.py           a proxy that refuses, cuts or mutes connections
    durations.py       measured durations and their limits

All tests share one browser and its event loop (``conftest.py``). Each test has its own server, database, proxy and
cookies. Tests wait for conditions instead of sleeping; the page records the time of each change.
"""
