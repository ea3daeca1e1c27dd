"""Whether a call was stored when it came: SQLite's index of message ids no longer changes when a replay stores it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Only the rows of calls that are not stored are touched."""
    comment = "1: it was not stored when it came; NULL: it was"
    op.add_column("calls", sa.Column("came_unstored", sa.SmallInteger(), nullable=True, comment=comment))
    op.execute("UPDATE calls SET came_unstored = 1 WHERE outcome != 'stored'")
    if op.get_context().dialect.name == "sqlite":
        op.drop_index("calls_unstored_message", "calls")
        op.create_index(
            "calls_unstored_message",
            "calls",
            ["message_id", "id"],
            sqlite_where=sa.text("came_unstored IS NOT NULL"),
        )
