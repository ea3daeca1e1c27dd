"""Which version of each document is live."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "publications",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True, comment="the version that became live; NULL: taken out"),
        sa.Column("origin", sa.Text(), nullable=False, comment="file or editor"),
        sa.Column("published_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Which version of each document is live: the last row of its name. Rows are only ever added.",
    )
    op.create_index("publications_kind_name", "publications", ["kind", "name", "id"])
