"""What `doctor` says about a service in use, on both databases."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from app.clock import clock
from app.service.diagnosis import (
    diagnose_drift,
    diagnose_growth,
    diagnose_last_call,
    diagnose_public_url,
    diagnose_refusals,
    read_current,
)
from app.settings import Settings
from app.store.engine import Database
from app.store.nodes import ARRIVED, save_sighting
from app.store.refusals import Refusal, Sender, append_refusals
from app.store.schema import ledger
from tests.builders import DEFAULT_TEXT, a_document, an_ingest, post, to_raw
from tests.sites import Site

DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("url", "ok", "words"),
    [
        ("", None, "is not set"),
        ("https://bill.example.com/x", True, "https://bill.example.com/x/webhooks/segment"),
        ("http://bill.example.com", False, "not https"),
        ("https://localhost:8000", False, "cannot reach localhost"),
        ("https://10.0.0.7", False, "cannot reach 10.0.0.7"),
        ("https://[::1]", False, "cannot reach ::1"),
        ("https://box.local", False, "cannot reach box.local"),
    ],
)
def test_public_url_is_judged_by_what_segment_can_reach(url: str, ok: bool | None, words: str) -> None:
    diagnosis = diagnose_public_url(Settings(public_url=url))
    assert (diagnosis.ok, words in diagnosis.sentence) == (ok, True)


def test_drift_is_told_by_name(site: Site) -> None:
    settings, database = site.service.settings, site.service.database
    assert diagnose_drift(settings, database).ok is True
    folder: Path = settings.transforms_dir
    # A text that was seen before never publishes itself: it waits for a person.
    (folder / "_default.yaml").write_text(f"{DEFAULT_TEXT}# changed\n")
    for _ in range(2):
        site.service.watcher.look()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    diagnosis = diagnose_drift(settings, database)
    assert diagnosis.ok is False
    assert "_default: file and live version differ" in diagnosis.sentence


def a_refusal(number: int, at: int, sender: Sender) -> Refusal:
    return Refusal(number, at, "wrong_path", "no", "POST", "/hook", "{}", b"", "198.51.100.7", sender)


def test_the_last_call_and_what_is_lost_are_told(database: Database) -> None:
    settings = Settings(database_url=str(database.engine.url))
    now = clock()

    def judge() -> tuple[bool | None, bool | None]:
        reception = read_current(settings, database, now)
        return diagnose_last_call(reception).ok, diagnose_refusals(reception).ok

    assert judge() == (None, True)
    post(an_ingest(database, clock=lambda: now), to_raw(a_document()))
    assert judge() == (None, True)
    with database.writing() as conn:
        append_refusals(conn, [a_refusal(1, now, Sender.STRANGER), a_refusal(2, now, Sender.MACHINE)])
    assert "2 requests of strangers" in diagnose_refusals(read_current(settings, database, now)).sentence
    with database.writing() as conn:
        append_refusals(conn, [a_refusal(3, now, Sender.SEGMENT)])
    diagnosis = diagnose_refusals(read_current(settings, database, now))
    assert diagnosis.ok is False
    assert "(wrong_path, /hook). Segment reaches this service, at another path" in diagnosis.sentence
    with database.writing() as conn:
        save_sighting(conn, ARRIVED + Sender.SEGMENT, now + 1)
    assert judge() == (True, True)


def test_growth_is_estimated_by_the_bytes_of_a_call_so_far(database: Database) -> None:
    now = clock()
    rows = [(now - 20 * DAY, 3000), (now - 2 * DAY, 7000)]
    with database.writing() as conn:
        for at, count in rows:
            values = {"minute": at // 60_000_000, "node": 1, "subject": "call", "outcome": "stored", "reason": ""}
            conn.execute(sa.insert(ledger).values(**values, count=count))
    diagnosis = diagnose_growth(Settings(), database, now)
    assert diagnosis.ok is True
    assert "for 10,000 calls; 1,000 calls a day in the last 7 days" in diagnosis.sentence
    with database.reading() as conn:
        size = database.size_bytes(conn)
    assert f"are about {1000 * size / 10_000 / 10**6:,.1f} MB a day" in diagnosis.sentence
    if database.file is not None:
        # Nothing is left above the bound.
        full = diagnose_growth(Settings(min_free_disk_bytes=1 << 60), database, now)
        assert (full.ok, "room for 0 days" in full.sentence) == (False, True)
