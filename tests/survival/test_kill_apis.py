"""kill -9 while SDKs send: what Segment's and Lotus's clients were told is there, once, and nothing is in part."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.builders import a_document, to_raw
from tests.ingest.test_native import an_event
from tests.served import served, wait_until
from tests.survival.load import Load
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

KEY = "a-key-of-the-tests"


def by_segments_sdk(ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    items = [a_document(messageId=one, event="Load") for one in ids]
    body = {"batch": items, "sentAt": "2026-11-01T10:00:00Z"} if len(ids) > 1 else items[0]
    return "/v1/batch" if len(ids) > 1 else "/v1/track", to_raw(body), {"Authorization": f"Bearer {KEY}"}


def by_lotus_sdk(ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    return "/api/track/", to_raw({"batch": [an_event(idempotency_id=one) for one in ids]}), {"X-API-KEY": KEY}


def test_what_the_sdks_were_answered_survives_kill_9(database_url: str, tmp_path: Path) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2", SEGMENT_WRITE_KEYS=KEY, LOTUS_INGEST_KEYS=KEY) as service:
        with Load(service, ways=(by_segments_sdk, by_lotus_sdk)) as load:
            wait_until(lambda: len(load.answered) > 300 and load.statuses.keys() >= {200, 201})
            service.kill9()
        assert load.statuses[0] > 0, "no request was under way at the kill: this shows nothing"
        assert load.statuses.keys() <= {0, 200, 201}

    there = stored_messages(database_url)
    assert len(there) == len(set(there))
    assert set(load.answered) <= set(there) <= set(load.sent)
    assert find_broken(database_url) == []
