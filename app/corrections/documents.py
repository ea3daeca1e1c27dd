"""Corrections as documents, as the API and the command line show them."""

from typing import Any

import msgspec

from app.core.times import format_time
from app.corrections.amendment import Amendment
from app.corrections.preview import CorrectionPreview
from app.corrections.selection import Selection
from app.store.corrections import AMEND, VOID, Correction, LotusChoice, is_replacing
from app.store.differences import delivered_text
from app.store.tally import CorrectionTally


def to_tally(correction: Correction) -> CorrectionTally:
    """Return the counts of a batch."""
    return msgspec.json.decode(correction.counts, type=CorrectionTally)


def to_selection(correction: Correction) -> dict[str, Any]:
    """Return which events a batch is about, as JSON values."""
    if correction.kind in {VOID, AMEND}:
        return msgspec.json.decode(correction.selection, type=Selection).to_values()
    values: dict[str, Any] = msgspec.json.decode(correction.selection, type=dict[str, Any])
    return values


def to_amendment(correction: Correction) -> Amendment | None:
    """Return the values that a batch sets; None if it sets none."""
    return None if correction.amendment is None else msgspec.json.decode(correction.amendment, type=Amendment)


def to_document(correction: Correction) -> dict[str, Any]:
    """Return a batch as JSON values."""
    undo = None
    if correction.undo_started_at is not None:
        undo = {
            "author": correction.undo_author,
            "reason": correction.undo_reason,
            "started_at": format_time(correction.undo_started_at),
            "finished_at": _to_time(correction.undone_at),
        }
    return {
        "id": str(correction.id),
        "dry_run": False,
        "kind": correction.kind,
        "name": correction.name,
        "state": correction.state,
        "author": correction.author,
        "reason": correction.reason,
        "selection": to_selection(correction),
        **_to_changes(to_amendment(correction)),
        "started_at": format_time(correction.started_at),
        "finished_at": _to_time(correction.finished_at),
        "undo": undo,
        **_to_effect(to_tally(correction), correction.kind, correction.lotus),
    }


def to_preview_document(preview: CorrectionPreview, lotus: LotusChoice, *, dry_run: bool) -> dict[str, Any]:
    """Return what a batch would do, or that there is nothing to do, as JSON values."""
    return {
        "id": None,
        "dry_run": dry_run,
        "kind": preview.kind,
        "selection": preview.selection.to_values(),
        **_to_changes(preview.amendment),
        **_to_effect(preview.tally, preview.kind, lotus),
    }


def _to_changes(amendment: Amendment | None) -> dict[str, Any]:
    return {"set": None, "unset": None} if amendment is None else amendment.to_values()


def _to_effect(tally: CorrectionTally, kind: str, lotus: str | None) -> dict[str, Any]:
    warning = delivered_text(tally.delivered, lotus, replaced=is_replacing(kind)) if tally.delivered else None
    return {"lotus": lotus, "warning": warning, **tally.to_values()}


def _to_time(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros)
