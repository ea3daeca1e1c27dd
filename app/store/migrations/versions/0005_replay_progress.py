"""When a replay last came on, and whether somebody asked it to stop."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "replays", sa.Column("progress_at", _ID, nullable=True, comment="when it last came on; NULL: nobody runs it")
    )
    op.add_column(
        "replays",
        sa.Column(
            "stop_asked_at", _ID, nullable=True, comment="when it was asked to end after its batch, to go on later"
        ),
    )
