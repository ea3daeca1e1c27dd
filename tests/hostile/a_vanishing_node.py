"""A node that stops in the middle of storing one call, with its locks held, and never goes on.

python -m tests.hostile.a_vanishing_node WAY DATABASE_URL MESSAGE_ID
"""

import secrets
import sys
import time

from app.store import postgresql
from app.store.engine import Database, connect
from app.store.ids import Ids
from tests.builders import a_record, a_request, a_writer, an_event


class Halting(Ids):
    """Ids of which the second is never given. The first is the event's, and is stored by then."""

    def __init__(self) -> None:
        super().__init__(secrets.randbelow)
        self._count = 0

    def next(self, now: int) -> int:
        """Return an id, once."""
        self._count += 1
        if self._count > 1:
            sys.stdout.write("halted\n")
            sys.stdout.flush()
            time.sleep(600)
        return super().next(now)


def main(way: str, url: str, message_id: str) -> None:
    """Wait for a line on stdin; store a call as the group commit does, with a new server or an old one, or a replay."""
    if way == "old server":
        postgresql._TRANSACTION_TIMEOUT_SINCE = sys.maxsize
    if way == "long work":
        Database.committing = Database.writing  # type: ignore[method-assign]
    record = a_record(an_event(idempotency_id=message_id))
    database = connect(url)
    database.check_writable()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    a_writer(database, ids=Halting()).append(a_request(record))


if __name__ == "__main__":
    main(*sys.argv[1:])
