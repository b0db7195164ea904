"""Proof that the tests can fail, and that the guarantees hold."""
