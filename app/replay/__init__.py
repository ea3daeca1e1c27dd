"""What happens to calls a second time: by today's transforms, on the bytes and the time that were kept.

`judging` decides without a database what is to become of a call, `correcting` what is wrong with events that are
stored already, `reading` reads a batch ahead, `batch` writes one, and `running` goes from one to the next, each being
one transaction with its own progress.
"""
