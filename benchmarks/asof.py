"""How fast metrics answer as of a moment, beside the same question of now.

    PYTHONPATH=. python benchmarks/asof.py --events 1000000 [--kind postgresql]

The month of benchmarks/metrics.py, each event stored when its call came; then 10,000 late events are stored, and some
events are made void. The moment lies just before that, or in the middle of the month.
"""

import argparse
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from databases import Source, folder_on_disk, postgresql
from metrics_seed import CUSTOMERS, END, START, seed
from report import Row, below_row, to_markdown

from app.cli.program import tune_garbage_collection
from app.clock import clock
from app.core.lotus import make_event
from app.core.pipeline import MAIN_LANE, Lane, Run
from app.core.times import format_time
from app.corrections.corrector import Corrector
from app.corrections.selection import Selection
from app.metrics.answer import answer, answer_raw
from app.metrics.definition import Metric
from app.metrics.query import Query
from app.service.build import correction_hooks, event_hooks
from app.store.commit import Committer
from app.store.corrections import Attribution
from app.store.engine import Database, connect
from app.store.ids import EPOCH_MICROS, TAG_BITS, Ids
from app.store.moment import MARGIN, reading_at
from app.store.record import Record, Request
from app.store.schema import events
from metrics import METRICS, publish, replace_customer, take_steps, timed

LATE = 10_000
_AT_ONCE = 1000
_ROUNDS = 5
MONTH = Query(start=START, end=END)


def date_events(database: Database) -> None:
    """Let each event of the seed be stored when its id was drawn, as in a month that was lived through."""
    with database.writing() as conn:
        drawn = sa.func.div(events.c.id, 1 << TAG_BITS) if database.file is None else events.c.id.op(">>")(TAG_BITS)
        conn.execute(sa.update(events).values(stored_at=drawn + EPOCH_MICROS))


def copy_events(database: Database, copies: int) -> None:
    """Store each event `copies` times in all, as rows of the same calls: quicker than so many calls."""
    columns = [column.name for column in events.columns]
    for number in range(1, copies):
        changed = {"id": events.c.id + number, "idempotency_id": events.c.idempotency_id.concat(f"-copy-{number}")}
        first = events.c.idempotency_id.not_like("%-copy-%")
        rows = sa.select(*(changed.get(name, events.c[name]) for name in columns)).where(first).order_by(events.c.id)
        with database.writing() as conn:
            conn.execute(sa.insert(events).from_select(columns, rows))


def store_late(database: Database, count: int, customers: int) -> None:
    """Store late events of the month, now."""
    ids = Ids(secrets.randbelow)
    committer = Committer(database, ids, lambda *_: None, event_hooks(ids, forwards=False))
    for first in range(0, count, _AT_ONCE):
        now = clock()
        request = Request(ids.next(now), now, "signature", "array", None, [])
        for position, number in enumerate(range(first, first + _AT_ONCE)):
            when, customer = format_time(START + number * 60_000_000), f"customer-{number % customers:04d}"
            event = make_event("use", f"late-{now}-{number}", customer, when, {"amount": 1.5})
            lane = Lane(MAIN_LANE, "late", b"late", (event,), event.content)
            done = Run(None, None, None, None, "late", b"late", (lane,))
            who = ids.next(now), now, done, event.idempotency_id, customer
            request.records.append(Record(*who, request.id, position, "webhook", b"{}", "track", "use"))
        committer.commit(partial(list, [request]))


def void(database: Database, customer: str) -> None:
    """Make all events of a customer void."""
    ids = Ids(secrets.randbelow)
    corrector = Corrector(database, ids, clock, correction_hooks(ids))
    corrector.run(
        corrector.begin(corrector.preview(Selection(customer=customer)), Attribution(author="bench", reason="bench"))
    )


def ask(database: Database, live: dict[str, Metric], customer: str, moment: int) -> list[Row]:
    """Time questions as of a moment before the late events, and as of the middle of the month."""
    now, middle = clock(), START + (END - START) // 2
    of_one = replace_customer(MONTH, customer)
    rows = []
    for what, name, query in (
        ("sum, one customer, raw", "tokens", of_one),
        ("sum, all customers, raw", "tokens", MONTH),
        ("maximum, one customer, raw", "largest", of_one),
        ("gauge, one customer", "seats", of_one),
        ("rate, one customer", "busiest", of_one),
    ):
        for when, at in (("before the late ones", moment), ("in the middle", middle)):
            plain, _ = timed(database, partial(answer_raw, metric=live[name], query=query, now=now), _ROUNDS)
            as_of = partial(answer_raw, metric=live[name], query=at_moment(query, at), now=now)
            took, _ = timed(database, as_of, _ROUNDS)
            verdict = "reached" if took <= 1.5 * plain else "MISSED"
            text = f"{what}, as of {when}"
            rows.append(Row(text, f"{took:,.1f} ms", f"{plain:,.1f} ms", f"{took / plain:.2f}", "<= 1.50", "", verdict))
    for what, name, query, limit in (
        (f"sum, one customer, buckets less {LATE:,} events", "tokens", of_one, 100),
        (f"sum, all customers, buckets less {LATE:,} events", "tokens", MONTH, 100),
        (f"count, one customer, buckets less {LATE:,} events", "calls", of_one, 100),
        ("sum, one customer, as of the middle", "tokens", of_one, 500),
        ("gauge, one customer, as of the middle", "seats", of_one, 500),
    ):
        at = middle if what.endswith("middle") else moment
        plain, _ = timed(database, partial(answer, metric=live[name], query=query, now=now), _ROUNDS)
        took, result = timed(database, partial(answer, metric=live[name], query=at_moment(query, at), now=now), _ROUNDS)
        _, raw = timed(database, partial(answer_raw, metric=live[name], query=at_moment(query, at), now=now), 1)
        assert result.rows == raw.rows, f"{what}: not what raw events say"
        rows.append(below_row(what, took, "ms", (limit, None), f", of now {plain:,.0f} ms"))
    return rows


def at_moment(query: Query, moment: int) -> Query:
    """Return the query as of a moment."""
    return Query(start=query.start, end=query.end, customer_id=query.customer_id, as_of=moment)


def measure(source: Source, count: int, customers: int, copies: int) -> list[Row]:
    """Seed and build one database, let late events and voids come, and ask."""
    url = source.fresh()
    seed(url, count, customers)
    database = connect(url)
    date_events(database)
    copy_events(database, copies)
    take_steps(database)
    live = publish(database, METRICS)
    if copies == 1:
        take_steps(database)
    if database.file is None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.execute(sa.text("VACUUM ANALYZE"))
    moment = clock()
    store_late(database, LATE, customers)
    void(database, f"customer-{customers - 1:04d}")
    if copies == 1:
        take_steps(database)
    time.sleep(MARGIN / 1_000_000)
    began = time.perf_counter()
    with reading_at(database, moment):
        took = (time.perf_counter() - began) * 1000
    rows = ask(database, live, f"customer-{customers // 2:04d}", moment)
    rows.append(Row("asking whether a moment can be asked for", f"{took:,.1f} ms"))
    database.close()
    if database.file is not None:
        for left in database.file.parent.glob(database.file.name + "*"):
            left.unlink()
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--copies", type=int, default=1, help="of each event; with more than one, without buckets")
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    parser.add_argument("--kind", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args(words)
    tune_garbage_collection()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_on_disk(given.folder)).absolute()
        source = Source("sqlite", folder) if given.kind == "sqlite" else stack.enter_context(postgresql(folder))
        print(to_markdown(measure(source, given.events, given.customers, given.copies)), flush=True)


if __name__ == "__main__":
    main()
