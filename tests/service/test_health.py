"""Alive, ready, and the numbers."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.core.outcome import REASONS_OF
from app.service.telemetry import REFUSAL_CODES
from app.web.drain import EXTENSION
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, signed, wait_until
from tests.sites import Site

READY = {"status": "ready"}
NOT_READY = {"status": "not ready"}


def not_ok(site: Site) -> set[str]:
    """Return the names of the checks that fail."""
    answer = site.ask("/readyz", ADMIN_TOKEN)
    failing = {check["name"] for check in answer.get_json()["checks"] if not check["ok"]}
    assert answer.status_code == (503 if failing else 200)
    assert all(check["message"] for check in answer.get_json()["checks"])
    return failing


def test_it_is_alive_whoever_asks(site: Site) -> None:
    answer = site.ask("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})
    assert site.client.head("/healthz").status_code == 200


def test_it_is_ready_and_tells_details_only_with_the_token(site: Site) -> None:
    for token in (None, "wrong", f"{ADMIN_TOKEN} x"):
        answer = site.ask("/readyz", token)
        assert (answer.status_code, answer.get_json()) == (200, READY)
    assert not_ok(site) == set()


def test_a_file_that_is_not_what_is_live_is_told_with_the_token_and_leaves_it_ready(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    def transforms_of(site: Site) -> tuple[list[dict[str, Any]], str]:
        answer = site.ask("/readyz", ADMIN_TOKEN).get_json()
        [sentence] = [check["message"] for check in answer["checks"] if check["name"] == "transforms"]
        return answer["transforms"], sentence

    folder = tmp_path / "transforms"
    order = folder / "order.yaml"
    order.write_text("match: {event: Order}\n")
    site = make_site()
    assert transforms_of(site) == ([], "2 active")
    order.write_text("match: [")
    (folder / "_default.yaml").unlink()
    site = make_site()
    assert not_ok(site) == set()
    standings, sentence = transforms_of(site)
    assert [(one["name"], one["state"]) for one in standings] == [("_default", "no_file"), ("order", "broken")]
    assert standings[1]["problems"][0].startswith("order.yaml:1:9: ")
    assert sentence == "2 active; not used: order; without a file: _default"
    assert "order" not in site.ask("/readyz").text


def test_below_the_floor_of_the_disk_it_is_not_ready(make_site: Callable[..., Site]) -> None:
    site = make_site(min_free_disk_bytes=1 << 60)
    answer = site.ask("/readyz")
    assert (answer.status_code, answer.get_json()) == (503, NOT_READY)
    assert not_ok(site) == {"disk"}
    assert site.ask("/healthz").status_code == 200


def test_with_migrations_missing_it_is_not_ready(site: Site) -> None:
    with site.service.database.writing() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = 'another'"))
    assert site.ask("/readyz").get_json() == NOT_READY
    assert not_ok(site) == {"migrations"}


def test_with_the_tables_gone_it_is_not_ready(site: Site) -> None:
    with site.service.database.writing() as conn:
        conn.execute(sa.text("DROP TABLE refusals"))
    assert not_ok(site) == {"database"}


def test_with_the_database_locked_it_is_not_ready(site: Site, tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    foreign.execute("BEGIN EXCLUSIVE")
    assert not_ok(site) == {"database"}
    foreign.execute("ROLLBACK")
    foreign.close()
    # What was found is kept for a second.
    wait_until(lambda: not_ok(site) == set())


def test_with_the_database_file_gone_it_is_not_ready_and_does_not_fail(site: Site, tmp_path: Path) -> None:
    site.service.database.close()
    for file in tmp_path.glob("test.db*"):
        file.unlink()
    answer = site.ask("/readyz")
    assert (answer.status_code, answer.get_json()) == (503, NOT_READY)
    assert site.ask("/healthz").status_code == 200


def test_with_the_folder_of_the_database_gone_it_is_503(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    site.service.database.close()
    away = tmp_path.rename(f"{tmp_path}-away")
    try:
        assert site.ask("/readyz").status_code == 503
        assert site.ask("/healthz").status_code == 200
        body = to_raw(a_document())
        assert site.send(body).status_code == 503
    finally:
        away.rename(tmp_path)
    assert site.send(body).status_code == 200


def test_while_it_drains_it_is_alive_and_not_ready(site: Site) -> None:
    site.app.extensions[EXTENSION].start()
    assert site.ask("/healthz").status_code == 200
    assert site.ask("/readyz").get_json() == NOT_READY
    assert not_ok(site) == {"process"}


def test_asking_whether_it_is_ready_changes_nothing(site: Site) -> None:
    def all_rows() -> list[str]:
        with site.service.database.reading() as conn:
            connection = conn.connection.driver_connection
            assert connection is not None
            return list(connection.iterdump())

    before = all_rows()
    for _ in range(3):
        site.ask("/readyz")
    assert all_rows() == before


def test_the_numbers_want_the_token_unless_they_are_public(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.ask("/metrics").status_code == 401
    assert site.ask("/metrics", "wrong").status_code == 401
    answer = site.ask("/metrics", ADMIN_TOKEN)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    assert make_site(metrics_public=True).ask("/metrics").status_code == 200


def test_every_outcome_reason_and_code_is_there_at_zero_from_the_start(site: Site) -> None:
    lines = site.ask("/metrics", ADMIN_TOKEN).text.splitlines()
    for outcome, reasons in REASONS_OF.items():
        for reason in reasons or ("",):
            assert f'segment_lotus_calls_total{{outcome="{outcome}",reason="{reason}"}} 0.0' in lines
    for code in REFUSAL_CODES:
        assert f'segment_lotus_requests_refused_total{{code="{code}"}} 0.0' in lines
    for name in ("request_seconds_count", "commit_seconds_count", "commit_calls_count", "queue_depth"):
        assert f"segment_lotus_{name} 0.0" in lines


def names_of(metrics: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in metrics.splitlines() if not line.startswith("#")}


def test_no_sender_can_add_a_label(site: Site) -> None:
    before = names_of(site.ask("/metrics", ADMIN_TOKEN).text)
    for number in range(20):
        body = to_raw(a_document(messageId=str(number), event=f"event {number}", userId=f"user {number}", type="track"))
        site.send(body)
        site.send(to_raw(a_document(type=f"type {number}")))
        site.send(body, {"X-Signature": str(number)})
        site.client.get(f"/nowhere/{number}")
        site.client.open("/webhooks/segment", method=f"METHOD{number}")
    after = site.ask("/metrics", ADMIN_TOKEN).text
    assert names_of(after) - before == set()
    assert 'segment_lotus_calls_total{outcome="stored",reason=""} 20.0' in after
    assert 'segment_lotus_calls_total{outcome="ignored",reason="unsupported_type"} 20.0' in after
    assert 'segment_lotus_requests_refused_total{code="signature_mismatch"} 20.0' in after
    assert "segment_lotus_request_seconds_count 40.0" in after
    assert "segment_lotus_commit_calls_sum 40.0" in after


def test_a_batch_counts_each_of_its_calls(site: Site) -> None:
    one = a_document()
    site.send(to_raw([one, one, {**one, "event": "other"}, None]))
    lines = site.ask("/metrics", ADMIN_TOKEN).text.splitlines()
    for ended in ('outcome="stored",reason=""', 'outcome="duplicate",reason="duplicate"',
                  'outcome="conflict",reason="conflict"', 'outcome="rejected",reason="not_an_object"'):  # fmt: skip
        assert f"segment_lotus_calls_total{{{ended}}} 1.0" in lines
    assert "segment_lotus_commit_calls_sum 4.0" in lines


def test_what_was_asked_without_the_token_is_no_refused_webhook_request(site: Site) -> None:
    site.ask("/metrics", "wrong")
    assert 'code="unauthorized"} 0.0' in site.ask("/metrics", ADMIN_TOKEN).text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_signed_call_to_another_path_is_not_taken(site: Site, path: str) -> None:
    body = to_raw(a_document())
    assert site.send(body, signed(body), path=path).status_code == 405
