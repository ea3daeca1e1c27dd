"""Calls or events of another time, from a file: checked as a whole first, then loaded as one batch of corrections.

What was loaded is stored under the same keys as live calls, and the batch can be undone as a whole.
"""
