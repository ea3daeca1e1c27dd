"""Lotus's own track API, so that its clients can send to this service instead."""

import json
from typing import Any

from app.core.native import NO_JSON, ROUTE, NativeEvent, find_idempotency_id
from app.core.outcome import Outcome
from app.core.segment import Unparsed, read
from app.ingest.http_intake import Answer, Endpoint, Intake
from app.store.record import Record

NO_ID = "no_idempotency_id"
"""The id under which Lotus reports an event without one."""

_ALL = "201 Created", b'{"success":"all","failed_events":null}'


class NativeTrack(Endpoint):
    """Accepts what Lotus's client libraries send."""

    name = "native"
    paths = (ROUTE,)
    methods = frozenset({"POST"})

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Process one request; the answer gives Lotus's reason for each event that failed."""
        key = environ.get("HTTP_X_API_KEY", "").encode("latin-1", "replace").decode(errors="replace").strip()
        ingest = self._intake.ingest
        records = self._intake.take(environ, self._intake.limit, lambda: ingest.from_native(key))
        failed = [record for record in records if record.outcome is Outcome.REJECTED]
        if records and not failed:
            return _ALL
        # By the number of events, not of ids: two failed events may have the same id.
        status, success = ("201 Created", "some") if len(failed) < len(records) else ("400 Bad Request", "none")
        reasons = dict(map(_failed_event, failed)) if failed else {NO_ID: NO_JSON}
        # In ASCII: an id may hold half of a surrogate pair, which UTF-8 cannot.
        return status, json.dumps({"success": success, "failed_events": reasons}).encode()


def _failed_event(record: Record) -> tuple[str, str]:
    event = NativeEvent(read(record.raw))
    reason = NO_JSON if type(event.value) is Unparsed else record.detail or ""
    return find_idempotency_id(event) or NO_ID, reason
