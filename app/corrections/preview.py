"""What a correction would do: all events of a selection, counted in one snapshot."""

from dataclasses import dataclass

import msgspec

from app.corrections.amendment import Amendment
from app.corrections.changes import count_deliveries, decide
from app.corrections.effects import Foreseen
from app.corrections.hooks import CorrectionHooks
from app.corrections.selection import Selection
from app.corrections.sql_corrections import find_missing_ids, list_selected
from app.errors import NotFound
from app.store.clock import read_clock
from app.store.corrections import AMEND, VOID, Attribution, Correction, CorrectionState, LotusChoice
from app.store.engine import Connection
from app.store.review import newest_call_id
from app.store.tally import CorrectionTally


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionPreview:
    """What a correction would do."""

    selection: Selection
    amendment: Amendment | None
    """None: the events would be made void."""
    until_call: int
    """The last call whose events it is about."""
    counted_at: int
    """By the clock that all writers share."""
    tally: CorrectionTally

    @property
    def kind(self) -> str:
        """Its kind."""
        return VOID if self.amendment is None else AMEND

    def to_correction(self, attribution: Attribution) -> Correction:
        """Return the batch that does it, as it begins; it has no id yet."""
        amendment = self.amendment
        return Correction(
            id=0,
            kind=self.kind,
            author=attribution.author,
            reason=attribution.reason,
            selection=msgspec.json.encode(self.selection).decode(),
            state=CorrectionState.RUNNING.value,
            until_call=self.until_call,
            counts=msgspec.json.encode(CorrectionTally()).decode(),
            started_at=self.counted_at,
            name=attribution.name,
            amendment=None if amendment is None else msgspec.json.encode(amendment, order="deterministic").decode(),
            lotus=attribution.lotus.value,
        )


def count_correction(
    conn: Connection,
    hooks: CorrectionHooks,
    selection: Selection,
    amendment: Amendment | None,
    counted_at: int | None,
    lotus: LotusChoice,
    page_events: int,
) -> CorrectionPreview:
    """Count what a correction would do, `page_events` at a time; the arguments are those of `Corrector.preview`.

    Raises:
        NotFound: no event fits, or one of its ids is unknown.
        BadQuery: what is chosen for Lotus cannot be carried out for one of the events.

    """
    if missing := find_missing_ids(conn, selection):
        raise NotFound(f"there is no event with the id {missing[0][:100]!r}")
    tally, cursor, foreseen = CorrectionTally(), (-1, -1), Foreseen()
    until_call, now = newest_call_id(conn), read_clock(conn)
    while True:
        page = list_selected(conn, selection, cursor, until_call, page_events)
        changes = decide(page, amendment, counted_at)
        hooks.check_lotus(conn, changes.event_ids, lotus, now, changes.replacements)
        changes.count(tally, conn, hooks)
        count_deliveries(tally, conn, hooks, changes.event_ids)
        foreseen.add(changes, tally)
        if len(page) < page_events:
            break
        cursor = page[-1].call_id, page[-1].id
    foreseen.compare(conn, hooks, tally)
    if tally == CorrectionTally():
        raise NotFound("no event fits this selection")
    return CorrectionPreview(
        selection=selection,
        amendment=amendment,
        until_call=until_call,
        counted_at=now if counted_at is None else min(counted_at, now),
        tally=tally,
    )
