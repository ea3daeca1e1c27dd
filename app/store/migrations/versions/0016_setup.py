"""Who sent a refused request and what was wrong with it; sign-in links that were used."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply. Refusals from before have no sender: what they mean is decided by their headers."""
    for name, comment in (
        ("client", "its address, as far as TRUSTED_PROXIES tells; NULL: refused before this was kept"),
        ("sender", "segment, sdk, machine, authentic or stranger"),
        ("diagnosis", "why its signature does not match, for people; NULL: nobody knows"),
    ):
        op.add_column("refusals", sa.Column(name, sa.Text(), nullable=True, comment=comment))
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("sightings", "name", existing_type=sa.Text(), comment="see app.store.nodes")
    op.create_table(
        "spent_links",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("expires_at", _ID, nullable=False, comment="from then on nobody accepts it anyway"),
        sa.PrimaryKeyConstraint("id"),
        comment="Sign-in links that were used.",
    )
