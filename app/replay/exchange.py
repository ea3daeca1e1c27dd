"""Puts the corrected events of a batch in place of the stored ones: ids, voids, claims, revisions."""

from collections.abc import Sequence
from itertools import chain

from app.replay.context import BatchContext, BatchResult
from app.replay.correction import CallCorrection, Replacement
from app.replay.decide import Decision
from app.replay.sql_replays import Void, renew_claims, void_events
from app.store.clock import read_clock
from app.store.engine import Connection
from app.store.events import NewEvent, find_stored, give_up_ids, note_revisions, to_revision_id
from app.store.updates import Stale

TAKEN = "cannot be corrected: another call has the idempotency id of its event"


def replace_events(
    context: BatchContext, decisions: Sequence[Decision], result: BatchResult
) -> tuple[dict[int, list[Replacement]], list[Void]]:
    """Void the events that are to be replaced; return their replacements by call id, and the voids.

    A call with an event whose new id is taken is left unchanged, and noted in `result`.
    """
    corrections = [(decision.row, decision.correction) for decision in decisions if decision.correction is not None]
    if not any(correction.replacements for _, correction in corrections):
        return {}, []
    taken_ids = _TakenIds(context.conn, [correction for _, correction in corrections])
    replacements: dict[int, list[Replacement]] = {}
    claims: list[tuple[bytes, bytes, str, str, int]] = []
    for call, correction in corrections:
        if not correction.replacements:
            continue
        if not taken_ids.reserve(correction):
            result.notes.append((call.id, TAKEN))
            continue
        replacements[call.id] = correction.replacements
        if (key := call.message_id) is not None:
            claims += [(lane.content, lane.digest, key, lane.name, call.id) for lane in correction.lanes.values()]
    replaced = list(chain.from_iterable(replacements.values()))
    if not replaced:
        return {}, []
    # Before they are void: a void event adds nothing.
    result.lost = context.hooks.measure(context.conn, [replacement.old.id for replacement in replaced])
    result.owners = [(replacement.old.customer_id, replacement.old.event_name) for replacement in replaced]
    voided_at = read_clock(context.conn)
    voids = [_void(replacement, voided_at) for replacement in replaced]
    void_events(context.conn, context.replay_id, voids)
    give_up_ids(
        context.conn,
        {
            (event.base, event.revision or 1, event.id)
            for call, correction in corrections
            for replacement in replacements.get(call.id, ())
            if replacement.moves
            for event in correction.chain(replacement)
        },
    )
    renew_claims(context.conn, claims)
    return replacements, voids


class _TakenIds:
    """The idempotency ids in use, kept up to date while the corrections of a batch are handled in order."""

    def __init__(self, conn: Connection, corrections: Sequence[CallCorrection]) -> None:
        self._conn = conn
        self._taken = self._among({new.new_id for correction in corrections for new in correction.replacements})

    def reserve(self, correction: CallCorrection) -> bool:
        """Reserve the ids of all new events of a call; return False, reserving none, if another call has one."""
        freed = {
            event.idempotency_id
            for replacement in correction.replacements
            if replacement.moves
            for event in correction.chain(replacement)
        }
        ids: set[str] = set()
        for replacement in correction.replacements:
            while replacement.new_id in self._taken | ids and replacement.new_id not in freed - ids:
                if replacement.revision == 1:
                    return False
                # A transform may produce an id of this form by itself.
                replacement.revision += 1
                self._taken |= self._among({replacement.new_id})
            ids.add(replacement.new_id)
        self._taken = (self._taken - freed) | ids
        return True

    def _among(self, ids: set[str]) -> set[str]:
        return set(find_stored(self._conn, ids))


def _void(replacement: Replacement, now: int) -> Void:
    old = replacement.old
    reason = f"corrected by a replay: other {replacement.why}"
    id_ = to_revision_id(old.base, old.revision or 1)
    return Void(old.id, id_, replacement.new_id, now, replacement.digest, reason)


def keep_revisions(
    context: BatchContext, replacements: dict[int, list[Replacement]], stored: Sequence[NewEvent]
) -> dict[int, int]:
    """Store the revision of each new event; return the id of the new event by that of the old one.

    Raises Stale if another process took one of the idempotency ids meanwhile.
    """
    if not replacements:
        return {}
    ids = {new.lane.events[new.position].idempotency_id: new.id for new in stored}
    replaced = list(chain.from_iterable(replacements.values()))
    if any(replacement.new_id not in ids for replacement in replaced):
        raise Stale
    note_revisions(
        context.conn,
        [
            (replacement.base_id, replacement.revision, ids[replacement.new_id])
            for replacement in replaced
            if replacement.revision > 1
        ],
    )
    return {replacement.old.id: ids[replacement.new_id] for replacement in replaced}
