"""Replays: stored calls are run again by the live transforms, on their stored bytes and receipt time.

`decide` decides what to do with a call, without a database, `correction` how its stored events differ, `reader` reads a
batch ahead, `batch` writes one, and `replayer` goes from batch to batch, each one transaction that also stores the
progress.
"""
