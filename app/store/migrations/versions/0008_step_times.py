"""When each step of a request was done. Rows from before have no such times, and stay as they are."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply. Columns that may be NULL are added without touching a row, on either database."""
    op.add_column(
        "requests",
        sa.Column(
            "verified_after", _ID, nullable=True, comment="microseconds after received_at, as all that is called so"
        ),
    )
    op.add_column("requests", sa.Column("parsed_after", _ID, nullable=True))
    op.add_column(
        "requests",
        sa.Column(
            "stored_after", _ID, nullable=True, comment="when its rows were handed to the database; the commit follows"
        ),
    )
    op.add_column(
        "calls",
        sa.Column(
            "mapped_after",
            _ID,
            nullable=True,
            comment="when its transform was chosen, and its events were made and checked",
        ),
    )
