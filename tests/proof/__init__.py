"""Proof of what the other tests take for granted.

    planted.py   twelve bugs, and copies of the product that have them
    aside.py     our tests, run on such a copy

Not here: what those tests are about.
"""
