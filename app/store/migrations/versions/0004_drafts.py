"""Drafts of transforms: saved, and not live."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "drafts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True, comment="NULL: it was published or discarded"),
        sa.Column("revision", _ID, nullable=False, comment="grows with every change, for ever"),
        sa.Column("base", sa.LargeBinary(), nullable=True, comment="the live version that it was begun from"),
        sa.Column("saved_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="What people write in the editor and have not published; one draft for each transform.",
    )
