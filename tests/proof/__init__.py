"""Proof of what the other tests take for granted, and of what they cannot show: that everything may break at once.

    __main__.py  ``python -m tests.proof``: the full form, and a table of its figures
    test_short.py  the short form, for ``make test``
    rows.py      what is broken, how often, while what goes on (goals 11 to 14, and a rolling restart)
    faults.py    each way to break something, and to heal it
    world.py     PostgreSQL, Redis, two hosts, people, and their tabs
    host.py, line.py   one host, its clock ahead (``ahead/``) or not; its line to Redis
    people.py, tabs.py, doing.py, http.py   clients: what they show, and what they do
    ledger.py    what was acknowledged, and what was shown
    checks.py    what must be true of it all in the end

    planted.py   twelve bugs, and copies of the product that have them
    aside.py     our tests, run on such a copy

Not here: what those tests are about.
"""
