"""What is kept as documents: transforms, as files and as published versions.

Files are how transforms are shipped; what is *live* stands in the database, so that all nodes have the same. A file
publishes itself when its version was never seen before and the live one came from a file, too; otherwise the two have
drifted apart, which is shown, and a person decides: publish the file, or pull what is live into it.
"""
