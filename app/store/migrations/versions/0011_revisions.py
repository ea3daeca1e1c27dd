"""Base id and revision of events in columns; one claim for each message, whatever its lanes."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SLICE = 1000
_BASE = sa.text("UPDATE events SET base_id = :base_id, revision = :revision WHERE idempotency_id = :idempotency_id")
_CLAIM_MESSAGES = """
INSERT INTO claims (message_id, lane, call_id, content, transform_digest)
SELECT message_id, 'main', call_id, content, transform_digest FROM claims AS further
WHERE lane = (SELECT min(lane) FROM claims AS own WHERE own.message_id = further.message_id)
AND NOT EXISTS (SELECT 1 FROM claims AS own WHERE own.message_id = further.message_id AND own.lane = 'main')
"""


def upgrade() -> None:
    """Apply. Of events only those are touched that a replay made in the place of others."""
    base = sa.Column(
        "base_id", sa.Text(), nullable=True, comment="its idempotency id before any correction; NULL: the same"
    )
    number = sa.Column(
        "revision", sa.SmallInteger(), nullable=True, comment="2 and more: it was made by a correction; NULL: 1"
    )
    op.add_column("events", base)
    op.add_column("events", number)
    _fill_revisions(op.get_bind())
    where = sa.text("base_id IS NOT NULL")
    op.create_index("events_base", "events", ["base_id"], sqlite_where=where, postgresql_where=where)
    op.execute(_CLAIM_MESSAGES)
    op.create_table(
        "fingerprints",
        sa.Column("name", sa.Text(), primary_key=True, nullable=False),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            nullable=False,
            comment="a slow digest: it tells one secret from another",
        ),
        comment="Of secrets that stored rows depend on: with another one a correction would make all of them anew.",
        sqlite_with_rowid=False,
    )
    if op.get_context().dialect.name == "postgresql":
        comment = "main: who has the message; others: what was made there"
        op.alter_column("claims", "lane", existing_type=sa.Text(), comment=comment)
        op.create_table_comment("claims", "Which call made the events of a message.")


def _fill_revisions(conn: sa.Connection) -> None:
    """Read what each replay put in the place of what: an id alone does not say whether `~2` is a part of it."""
    bases: dict[str, str] = {}
    rows = conn.execute(sa.text("SELECT idempotency_id, replaced_by FROM voids ORDER BY replay_id, event_id")).all()
    filled: list[dict[str, object]] = []
    for idempotency_id, replaced_by in rows:
        base_id = bases.get(idempotency_id, idempotency_id)
        match = re.fullmatch(re.escape(base_id) + "~([0-9]{1,4})", replaced_by)
        if match is None:
            continue
        bases[replaced_by] = base_id
        filled.append({"base_id": base_id, "revision": int(match[1]), "idempotency_id": replaced_by})
    for start in range(0, len(filled), _SLICE):
        conn.execute(_BASE, filled[start : start + _SLICE])
