"""What the nodes tell each other: sessions that ended, and what they noticed about how they are set up."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "ended_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("expires_at", _ID, nullable=False, comment="from then on no node takes its cookie anyway"),
        sa.PrimaryKeyConstraint("id"),
        comment="Sessions of the pages that somebody signed out of, until their cookies expire by themselves.",
    )
    op.create_table(
        "sightings",
        sa.Column("name", sa.Text(), nullable=False, comment="what was seen: untrusted_proxy"),
        sa.Column("seen_at", _ID, nullable=False, comment="the last time, within an hour"),
        sa.PrimaryKeyConstraint("name"),
        comment="What a process that serves noticed about how it is set up, for doctor and the setup page.",
    )
