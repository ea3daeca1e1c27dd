"""The history of a call: when its outcome changed, and by which version. `conn` first."""

import msgspec
import sqlalchemy as sa

from app.store.schema import outcome_changes


class OutcomeChange(msgspec.Struct, frozen=True):
    """One change of a call's outcome, for display."""

    replay_id: int
    changed_at: int
    from_outcome: str
    from_reason: str | None
    from_digest: bytes | None
    to_outcome: str
    to_reason: str | None
    to_digest: bytes | None


def list_outcome_changes(conn: sa.Connection, call_id: int) -> list[OutcomeChange]:
    """Return the changes that replays made to a call, the oldest first."""
    columns = [outcome_changes.c[name] for name in OutcomeChange.__struct_fields__]
    query = sa.select(*columns).where(outcome_changes.c.call_id == call_id).order_by(outcome_changes.c.replay_id)
    return [OutcomeChange(*row) for row in conn.execute(query)]
