"""The composition root: the only place where the parts are put together. Nothing is built at import."""

import contextlib
import os
import secrets
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from app.backfill.hooks import BackfillHooks
from app.calls.log import CallLog
from app.catalog.live import Catalog, build_catalog
from app.catalog.watch import Watcher
from app.cli.log_output import wants_colour
from app.clock import clock
from app.core.credentials import Credentials
from app.corrections.hooks import CorrectionHooks, OnStep
from app.corrections.lookalikes import Counted
from app.errors import Unavailable
from app.evidence.hooks import EvidenceHooks, Subject
from app.forward.correction import OutboxFollower
from app.forward.sql_deliveries import queue_events, queue_events_if_used
from app.forward.sql_lists import count_deliveries
from app.ingest.ingest import Ingest
from app.metrics.background_fold import BackgroundFold
from app.metrics.comparison import compare_numbers
from app.metrics.counted import find_counted_events
from app.metrics.differences import find_differences
from app.metrics.effect import make_measure, measure_effect
from app.metrics.evidence_files import EvidenceFiles, EvidencePeriod
from app.metrics.fold import BucketBuilder
from app.metrics.month_documents import list_adjustment_documents
from app.metrics.months import parse_month
from app.metrics.sql_tail import tail_of
from app.metrics.watch import MetricWatcher
from app.replay.context import Hooks
from app.service.telemetry import Telemetry
from app.settings import Settings
from app.store.commit import Committer, OnEvents
from app.store.corrections import CorrectionStep
from app.store.engine import Connection, Database, connect
from app.store.events import list_event_values
from app.store.ids import Ids
from app.store.ledger import Entry
from app.store.writer import Writer, yield_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The assembled application: what a process serves with."""

    settings: Settings
    database: Database
    catalog: Catalog
    ids: Ids
    ingest: Ingest
    telemetry: Telemetry
    watcher: Watcher
    metric_watcher: MetricWatcher
    folding: BackgroundFold


def build(settings: Settings) -> Service:
    """Assemble a service on a migrated database.

    Raises:
        SettingInvalid: DATABASE_URL is not of a supported kind.
        TransformInvalid: a file in TRANSFORMS_DIR cannot be used.

    """
    database = connect(settings.database_url, serving=True)
    watcher, catalog, ids = build_watcher(settings, database)
    # A worker that starts while the database is away answers 503 until it is back. If it failed instead, gunicorn would
    # stop the whole service.
    with contextlib.suppress(Unavailable):
        watcher.begin()
    watcher.log_changes()
    metric_watcher = MetricWatcher(database, settings.metrics_dir, ids, clock)
    metric_watcher.begin()
    telemetry = Telemetry(shared="PROMETHEUS_MULTIPROC_DIR" in os.environ)
    call_log = CallLog(
        sys.stdout, clock, level=settings.log_level, properties=settings.log_properties, colour=wants_colour()
    )
    committer = Committer(database, ids, catalog.map_again, event_hooks(ids, forwards=bool(settings.lotus_api_key)))
    writer = Writer(committer, telemetry.watch_commit, call_log.watch_commit)
    ingest = Ingest(
        credentials=Credentials(
            shared_secrets=settings.segment_shared_secrets,
            bearer_tokens=settings.segment_bearer_tokens,
            basic_auth=settings.segment_basic_auth,
            write_keys=settings.segment_write_keys,
            ingest_keys=settings.lotus_ingest_keys,
        ),
        require_full_auth=settings.segment_require_full_auth,
        catalog=catalog,
        writer=writer,
        ids=ids,
        clock=clock,
    )
    return Service(
        settings=settings,
        database=database,
        catalog=catalog,
        ids=ids,
        ingest=ingest,
        telemetry=telemetry,
        watcher=watcher,
        metric_watcher=metric_watcher,
        folding=BackgroundFold(BucketBuilder(database, ids.tag, clock, yield_now)),
    )


def build_watcher(settings: Settings, database: Database) -> tuple[Watcher, Catalog, Ids]:
    """Assemble what publishes transforms and keeps them up to date."""
    catalog = build_catalog(settings.pseudonym_key)
    ids = Ids(secrets.randbelow)
    return Watcher(catalog, database, settings.transforms_dir, ids, clock), catalog, ids


def event_hooks(ids: Ids, *, forwards: bool) -> list[OnEvents]:
    """Return the hooks of each commit's events: the metrics, and the outbox if events are forwarded."""
    return [tail_of(ids.next), *([queue_events] if forwards else [])]


def replay_hooks(ids: Ids, *, forwards: bool) -> Hooks:
    """Return the hooks of a replay.

    Its events are forwarded, too, if the outbox is in use: this may be a shell without LOTUS_API_KEY.
    """
    note = tail_of(ids.next)
    outbox = OutboxFollower(ids.next, find_differences, forwards=forwards)
    return Hooks(
        on_events=(note, queue_events if forwards else queue_events_if_used),
        on_step=(_rebuild(note), outbox.follow),
        count_deliveries=count_deliveries,
        measure=lambda conn, event_ids: measure_effect(conn, list_event_values(conn, event_ids)),
        check_lotus=outbox.check,
    )


def backfill_hooks(ids: Ids, *, forwards: bool) -> BackfillHooks:
    """Return the hooks of a backfill. Its events are forwarded as those of a replay are."""
    return BackfillHooks([tail_of(ids.next), queue_events if forwards else queue_events_if_used], make_measure)


def correction_hooks(ids: Ids) -> CorrectionHooks:
    """Return the hooks of corrections: their metrics, and the outbox where it has rows of their events."""
    outbox = OutboxFollower(ids.next, find_differences)
    return CorrectionHooks(
        on_step=(_rebuild(tail_of(ids.next)), outbox.follow),
        count_deliveries=count_deliveries,
        measure=measure_effect,
        compare=compare_numbers,
        check_lotus=outbox.check,
    )


def find_counted(conn: Connection, metric: str) -> Counted:
    """Return which events a metric counts. Raises NotFound."""
    return Counted(*find_counted_events(conn, metric))


def _rebuild(note: OnEvents) -> OnStep:
    """Return the hook that tells the tail of the metrics what a step of a correction does."""

    def rebuild(conn: Connection, step: CorrectionStep) -> Counter[Entry]:
        return note(conn, step.added, (*step.voided, *step.revived), step.now)

    return rebuild


def evidence_hooks() -> EvidenceHooks:
    """Return what the metrics do for evidence: they write the files of a number."""

    def read_number(conn: Connection, subject: Subject, now: int) -> EvidenceFiles:
        about = EvidencePeriod(
            metric=subject.metric,
            version=subject.version,
            customer_id=subject.customer_id,
            month=subject.month,
            tz=subject.tz,
        )
        return EvidenceFiles(conn, about, now)

    def list_adjustments(conn: Connection, subject: Subject) -> list[Any]:
        month = parse_month(subject.month, subject.tz)
        return list_adjustment_documents(conn, subject.metric, month, subject.customer_id)

    return EvidenceHooks(read_number=read_number, list_adjustments=list_adjustments)
