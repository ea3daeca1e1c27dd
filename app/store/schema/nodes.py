"""What nodes tell each other and the commands of an operator."""

from sqlalchemy import Column, Table, Text

from app.store.schema.base import METADATA, Id

ended_sessions = Table(
    "ended_sessions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("expires_at", Id, nullable=False, comment="from then on no node takes its cookie anyway"),
    comment="Sessions of the pages that somebody signed out of, until their cookies expire by themselves.",
)

spent_links = Table(
    "spent_links",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("expires_at", Id, nullable=False, comment="from then on nobody accepts it anyway"),
    comment="Sign-in links that were used.",
)

sightings = Table(
    "sightings",
    METADATA,
    Column("name", Text, primary_key=True, comment="see app.store.nodes"),
    Column("seen_at", Id, nullable=False, comment="the last time, within an hour"),
    comment="What a process that serves noticed about how it is set up, for doctor and the setup page.",
)
