"""Deliveries follow corrections: what counts no more is not sent, and what counts again is."""

from collections import Counter

from app.forward.sql_deliveries import queue_events_if_used, restore_deliveries, void_deliveries
from app.store.corrections import CorrectionStep
from app.store.engine import Connection
from app.store.ledger import Entry


def follow(conn: Connection, step: CorrectionStep) -> Counter[Entry]:
    """Follow one step of a correction, in its transaction; return the ledger's changes."""
    counts = void_deliveries(conn, step.voided, step.now)
    counts.update(restore_deliveries(conn, step.revived, step.now))
    counts.update(queue_events_if_used(conn, step.added, (), step.now))
    return counts
