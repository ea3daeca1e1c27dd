"""A process of its own for whatever runs a draft: it can be killed, and takes nothing from the calls that come in.

A thread would not do: it shares the interpreter's lock with the ingest, and nobody can stop it.
"""
