"""A separate process for running drafts: it can be killed, and does not slow down ingestion.

A thread would not do: it shares the interpreter's lock with ingestion, and cannot be stopped.
"""
