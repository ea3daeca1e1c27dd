"""Which questions a page asks the database."""

from typing import Any

import sqlalchemy as sa

from tests.sites import Site


def queries_of(site: Site, path: str) -> list[str]:
    """Open a page, and return the queries that it made."""
    made: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        # Which sessions have ended is asked once a second, whatever page comes; and a connection that was last used for
        # something else is set up anew.
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")) and "ended_sessions" not in statement:
            made.append(statement)

    engine = site.service.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        answer = site.client.get(path)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    assert answer.status_code == 200, answer.get_data()
    return made
