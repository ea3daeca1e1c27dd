"""What happens to calls a second time: by today's transforms, on the bytes and the time that were kept.

`judging` decides without a database what is to become of a call, `correcting` what is wrong with events that are
stored already, and `running` does it in batches, each one transaction with its own progress.
"""
