"""A process of its own for whatever runs a draft: it can be killed, and does not slow down the ingest.

A thread would not do: it shares the interpreter's lock with the ingest, and cannot be stopped.
"""
