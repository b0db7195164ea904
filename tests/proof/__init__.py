"""Fault injection against real servers, and planted bugs that named tests must catch.

__main__.py  ``python -m tests.proof``: the full form, and a table of its figures
test_short.py  the short form, for ``make test``
rows.py      which faults are injected under which load (rows 11 to 14, and a rolling restart)
faults.py    the faults: break, wait, repair
world.py     PostgreSQL, Redis, two hosts, users and their tabs
host.py, tcp_proxy.py   one host, and its connection to Redis
startup/     sets a host's clock ahead, or plants a bug, when Python starts
people.py, tabs.py, workload.py   the clients: their sessions, tabs and requests
ledger.py    a record of what was acknowledged and displayed
checks.py    the invariants, checked at the end of each row

planted.py   twelve bugs
forked_tests.py   runs our tests with one of them
"""
