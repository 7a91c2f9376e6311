"""Logs that `corfu bench compare` measures: this one, and those of others.

Each module has a peer's servers, started by the command, and its client, which a process of its own
runs: no client shares an interpreter with another. Libraries of peers are imported only where a
peer is used.
"""
