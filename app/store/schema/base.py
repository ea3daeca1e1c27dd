"""What all tables share."""

from sqlalchemy import BigInteger, Integer, LargeBinary, MetaData

METADATA = MetaData()

# SQLite stores a row under its INTEGER PRIMARY KEY directly; any other spelling costs a second tree.
Id = BigInteger().with_variant(Integer(), "sqlite")
Digest = LargeBinary
