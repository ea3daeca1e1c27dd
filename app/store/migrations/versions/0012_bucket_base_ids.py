"""Buckets say which event their latest value is of by its base id."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Buckets are made anew by the engine that reads the new column; those of before it are deleted then."""
    op.add_column(
        "usage_buckets",
        sa.Column(
            "best_base_id",
            sa.Text(),
            nullable=True,
            comment="of the latest value: its idempotency id before any correction",
        ),
    )
    if op.get_context().dialect.name == "postgresql":
        comment = "not used any more"
        op.alter_column("usage_buckets", "best_id", existing_type=sa.BigInteger(), comment=comment)
