"""Preview: a draft on kept calls beside what is live. On both databases."""

from typing import Any

import pytest

from app.calls.sql_retention import RAW, blank
from app.catalog.live import Catalog
from app.core.transform.transform import TransformSet
from app.errors import TransformInvalid
from app.store.engine import Database
from app.store.review import CallFilters
from app.store.schema import calls
from app.transforms.preview import BATCH, KINDS_MAX, PATHS_MAX, Preview, Report, Sample, compare_newest, read_draft
from tests.builders import DEFAULT_TEXT, a_document, rows_of, some_transforms
from tests.replay.replaying import RIGHT, WRONG, an_order, outcomes, replay, take
from tests.replay.test_replay import dump

right = some_transforms(order=RIGHT)


def preview(database: Database, text: str, name: str = "order", limit: int | None = None, **filters: Any) -> Report:
    """Compare a draft with what is live."""
    catalog = Catalog()
    catalog.refresh(database)
    draft, with_draft = read_draft(name, text, catalog)
    seen: list[int] = []
    compared = Preview(catalog.active, draft, with_draft)
    report = compare_newest(database, compared, CallFilters(**filters), limit, seen.append)
    assert sum(seen) == report.calls
    return report


def by_kind(samples: list[Sample]) -> dict[str, int]:
    return {one.kind: one.count for one in samples}


def test_a_draft_that_makes_the_same_events_is_said_to(database: Database) -> None:
    take(database, right, an_order(1), an_order(2), a_document())
    report = preview(database, RIGHT + "# a comment\n")
    assert (report.calls, report.concerned, report.same, report.changed) == (3, 2, 2, 0)
    assert report.active_digest != report.draft_digest


def test_each_kind_of_change_is_told_by_path_with_one_sample(database: Database) -> None:
    take(database, right, an_order(1), an_order(2, properties={"total": 2, "deep": {"a": 1}}))
    changed = "properties: {total: 'to_string(properties.total)', deep: properties.deep}"
    draft = RIGHT + f"event: {{event_name: {{const: sale}}, {changed}}}\n"
    report = preview(database, draft)
    assert report.changed == 2
    assert by_kind(report.changes) == {"event_name": 2, "properties.total": 2, "properties.deep": 1}
    [total] = [one for one in report.changes if one.kind == "properties.total"]
    assert (total.before, total.after) in {(1, "1"), (2, "2")}
    [deep] = [one for one in report.changes if one.kind == "properties.deep"]
    assert (deep.before, deep.after) == ("(missing)", None)


def test_what_newly_fails_is_told_by_reason_with_a_sentence_and_a_call(database: Database) -> None:
    take(database, right, an_order(1))
    [failing] = preview(database, WRONG).newly_failing
    assert (failing.kind, failing.count) == ("rejected (event_invalid)", 1)
    assert failing.detail is not None
    assert "`properties.account` is not in this call" in failing.detail
    assert failing.call_id == str(rows_of(database, calls, calls.c.id)[0][0])


def test_what_is_newly_mapped_and_no_longer_mapped_is_told(database: Database) -> None:
    take(database, some_transforms(order=WRONG), an_order(1), an_order(2, properties={"account": "a"}))
    report = preview(database, RIGHT + 'when: "!(properties.account)"\n')
    [mapped], [unmapped] = report.newly_mapped, report.no_longer_mapped
    assert (mapped.kind, mapped.count, mapped.after[0]["customer_id"]) == ("rejected (event_invalid)", 1, "customer-1")
    assert (unmapped.kind, unmapped.count, unmapped.before[0]["customer_id"]) == ("ignored (filtered)", 1, "a")


def test_a_call_that_makes_no_event_for_another_reason_is_told(database: Database) -> None:
    take(database, some_transforms(order=WRONG), an_order(1))
    report = preview(database, RIGHT + "enabled: false\n")
    assert by_kind(report.otherwise) == {"rejected (event_invalid) > ignored (disabled)": 1}


def test_null_rates_stand_beside_each_other_for_every_path(database: Database) -> None:
    take(database, right, *(an_order(n, properties={"total": n, "plan": None if n % 2 else "pro"}) for n in range(4)))
    draft = RIGHT + "event: {properties: {plan: properties.plan, total: properties.totl, in: {a: properties.total}}}\n"
    assert [(one.path, one.active, one.draft) for one in preview(database, draft).null_rates] == [
        ("properties.in.a", 1.0, 0.0),
        ("properties.plan", 0.5, 0.5),
        ("properties.total", 0.0, 1.0),
    ]


def test_a_draft_that_is_not_live_yet_shows_what_it_takes_from_others(database: Database) -> None:
    take(database, some_transforms(), an_order(1))
    report = preview(database, RIGHT + "event: {properties: {n: properties.total}}\n")
    assert report.active_digest is None
    assert by_kind(report.changes) == {"properties.n": 1, "properties.total": 1}


def test_a_draft_of_the_default_is_compared_with_all_that_inherit_from_it(database: Database) -> None:
    take(database, right, an_order(1), a_document())
    report = preview(database, DEFAULT_TEXT.replace("userId", "anonymousId"), "_default")
    assert by_kind(report.newly_failing) == {"rejected (event_invalid)": 2}


def test_a_draft_with_a_lane_of_its_own_changes_nothing_of_the_others(database: Database) -> None:
    take(database, right, an_order(1))
    report = preview(database, "also: true\nmatch: {event: Order}\n", "sums")
    assert by_kind(report.changes) == {"the lane sums is made": 1}


def test_nothing_is_written(database: Database) -> None:
    take(database, right, an_order(1))
    before = dump(database)
    preview(database, WRONG)
    assert dump(database) == before


def test_it_says_what_a_replay_then_does(database: Database) -> None:
    take(database, some_transforms(order=WRONG), *map(an_order, range(5)))
    report = preview(database, RIGHT, outcomes=())
    replay(database, right)
    assert by_kind(report.newly_mapped) == {"rejected (event_invalid)": outcomes(database).count("stored")}


def test_only_the_newest_calls_that_are_asked_for_are_read(database: Database) -> None:
    take(database, right, *map(an_order, range(BATCH + 3)))
    assert preview(database, WRONG, limit=2).calls == 2
    assert preview(database, WRONG, limit=BATCH + 2).calls == BATCH + 2
    assert preview(database, WRONG).calls == BATCH + 3
    assert preview(database, WRONG, event="Nothing").calls == 0


def test_calls_without_their_bytes_are_counted(database: Database) -> None:
    take(database, right, an_order(1))
    with database.writing() as conn:
        blank(conn, RAW, [row[0] for row in rows_of(database, calls, calls.c.id)])
    report = preview(database, WRONG)
    assert (report.calls, report.removed, report.concerned) == (1, 1, 0)


def test_what_it_holds_is_bounded_whatever_the_calls_hold(database: Database) -> None:
    names = [{f"key-{n}-{m}": n for m in range(20)} for n in range(20)]
    take(database, right, *(an_order(n, properties=properties) for n, properties in enumerate(names)))
    report = preview(database, RIGHT + "event: {properties: {const: {}}}\n")
    assert report.changed == 20
    assert len(report.changes) == KINDS_MAX + 1
    assert sum(one.count for one in report.changes) == 400
    assert len(report.null_rates) == PATHS_MAX


def test_a_draft_that_cannot_be_read_is_an_error_with_its_place(database: Database) -> None:
    take(database, right)
    with pytest.raises(TransformInvalid, match=r"order\.yaml:1:9"):
        preview(database, "match: {evnt: Order}\n")


def test_without_a_default_there_is_nothing_to_inherit_from() -> None:
    with pytest.raises(TransformInvalid, match="_default, which order inherits from, is not live"):
        read_draft("order", RIGHT, Catalog(TransformSet(())))
