"""Corrections by people: stored events are made void on purpose, as one batch that can be undone.

`selection` says which events, `tally` what a batch does, `corrector` goes from step to step, each one transaction that
also stores the progress.
"""
