"""Versioned documents: transforms as files and as published versions.

Files are how transforms are shipped; the *live* versions are in the database, so that all nodes have the same. A file
is published automatically when its text was never seen before and the live version came from a file, too; otherwise
the two have drifted, which is reported, and a person decides: publish the file, or pull the live text into it.
"""
