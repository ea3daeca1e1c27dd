"""Corrections as documents, as the API and the command line show them."""

from typing import Any

import msgspec

from app.core.times import format_time
from app.corrections.corrector import VoidPreview
from app.corrections.selection import Selection
from app.store.corrections import Correction
from app.store.differences import LotusChoice, delivered_text
from app.store.tally import CorrectionTally


def to_tally(correction: Correction) -> CorrectionTally:
    """Return the counts of a batch."""
    return msgspec.json.decode(correction.counts, type=CorrectionTally)


def to_selection(correction: Correction) -> Selection:
    """Return which events a batch is about."""
    return msgspec.json.decode(correction.selection, type=Selection)


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
        "state": correction.state,
        "author": correction.author,
        "reason": correction.reason,
        "selection": to_selection(correction).to_values(),
        "started_at": format_time(correction.started_at),
        "finished_at": _to_time(correction.finished_at),
        "undo": undo,
        **_to_effect(to_tally(correction), correction.lotus),
    }


def to_preview_document(preview: VoidPreview, *, dry_run: bool) -> dict[str, Any]:
    """Return what a batch would do, or that there is nothing to do, as JSON values."""
    return {
        "id": None,
        "dry_run": dry_run,
        "kind": "void",
        "selection": preview.selection.to_values(),
        **_to_effect(preview.tally, preview.lotus),
    }


def _to_effect(tally: CorrectionTally, lotus: str | None) -> dict[str, Any]:
    warning = delivered_text(tally.delivered, lotus, replaced=False) if tally.delivered else None
    return {"lotus": lotus or LotusChoice.HOLD.value, "warning": warning, **tally.to_values()}


def _to_time(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros)
