"""Definitions that all tables share."""

from sqlalchemy import BigInteger, Integer, LargeBinary, MetaData

METADATA = MetaData()

# In SQLite an INTEGER PRIMARY KEY is the row id itself; any other type costs a second B-tree.
Id = BigInteger().with_variant(Integer(), "sqlite")
Digest = LargeBinary
