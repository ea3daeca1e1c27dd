"""How fast metrics answer, are built and are kept up to date, beside one SQL GROUP BY over the events.

    PYTHONPATH=. python benchmarks/metrics.py [--events 1000000] [--folder var/bench] [--kind sqlite] [--no-ingest]

1,000 customers, one month, calls of 1 KB that came in order of time; five metrics, each event feeds one or two.
"""

import argparse
import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import servers
import sqlalchemy as sa
import wrk
from databases import Source, folder_on_disk, postgresql
from report import Row, below_row, ratio_row, to_markdown

from app.bootstrap import clock, tune_garbage_collection
from app.catalog.files import Folder as Files
from app.catalog.metrics import publish_new_metrics, read_live_metrics
from app.core.metric_definition import Metric
from app.core.metric_query import Answer, Query
from app.core.metric_windows import Unit
from app.core.pipeline import run
from app.core.segment import read
from app.core.times import format_time, parse_time
from app.core.transform import TransformSet, parse_transform
from app.store.commit import Committer
from app.store.engine import Connection, Database, connect
from app.store.ids import Ids
from app.store.record import Record, Request
from app.store.schema import calls, events, usage_tail
from app.usage.answering import answer, answer_raw
from app.usage.folding import Folder

START, END = parse_time("2026-10-01"), parse_time("2026-11-01")
CUSTOMERS = 1000
ONE = "customer-0500"

METRICS = {
    "tokens": "{metric_type: counter, event_name: use, usage_aggregation_type: sum, property_name: amount}",
    "largest": "{metric_type: counter, event_name: use, usage_aggregation_type: max, property_name: amount}",
    "calls": "{metric_type: counter, event_name: api_call, usage_aggregation_type: count}",
    "busiest": "{metric_type: rate, event_name: api_call, usage_aggregation_type: count, granularity: minutes}",
    "seats": (
        "{metric_type: gauge, event_name: seats, event_type: delta, property_name: amount,"
        " granularity: months, proration: days}"
    ),
}
_OF_THE_LOAD = {
    name: text.replace("event_name: use", "event_name: Order Paid").replace("amount", "total")
    for name, text in METRICS.items()
}
_EVENTS = random.Random(5).choices(("use", "api_call", "seats"), (50, 40, 10), k=10_000)  # noqa: S311
_AT_ONCE = 1000
_FIELDS = """\
match: {type: track}
event:
  event_name: event
  idempotency_id: messageId
  customer_id: userId
  time_created: timestamp
  properties: properties
"""
_BESIDE = {
    "context": {
        "groupId": "acct-9",
        "ip": "203.0.113.7",
        "locale": "en-US",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0",
        "page": {"path": "/app/projects", "url": "https://app.example.com/app/projects?tab=recent", "title": "Mine"},
        "library": {"name": "@segment/analytics-node", "version": "3.1.0"},
    },
    "integrations": {"All": True},
    "projectId": "pRoj3ctIdExample",
    "_metadata": {"nodeVersion": "v20.20.2", "jsRuntime": "node"},
}


def _raw(number: int, moment: int, draw: random.Random) -> bytes:
    event = _EVENTS[number % len(_EVENTS)]
    amount: Any = draw.choice((1, -1, 1)) if event == "seats" else draw.randrange(1, 100_000) / 100
    return msgspec.json.encode(
        {
            "type": "track",
            "event": event,
            **_BESIDE,
            "messageId": f"node-next-{moment // 1000}-{number:032x}",
            "userId": f"customer-{draw.randrange(CUSTOMERS):04d}",
            "timestamp": format_time(moment),
            "properties": {
                "amount": amount,
                "endpoint": "/v1/complete",
                "region": "eu-central-1",
                "model": "large-2",
                "status": 200,
                "cached": False,
                "labels": ["batch", "internal"],
            },
        }
    )


def seed(database: Database, count: int) -> None:
    """Store calls through the committer, as if they had come over the month."""
    ids, transforms = Ids(secrets.randbelow), TransformSet([parse_transform("_default", _FIELDS, None)])
    committer = Committer(database, ids, lambda *_: None)
    draw = random.Random(7)  # noqa: S311
    step = (END - START) // count
    for first in range(0, count, _AT_ONCE):
        request = Request(ids.next(START + first * step), START + first * step, "signature", "array", None, [])
        for number in range(first, min(first + _AT_ONCE, count)):
            moment = START + number * step
            raw = _raw(number, moment, draw)
            done = run(raw, read(raw), transforms, moment)
            call = done.call
            assert call is not None
            request.records.append(
                Record(
                    ids.next(moment),
                    request.id,
                    number - first,
                    moment,
                    "webhook",
                    raw,
                    done,
                    call.type,
                    call.message_id,
                    call.event,
                    call.user_id,
                )
            )
        committer.commit(partial(list, [request]))
        if first % 100_000 == 0:
            print(f"  seeded {first:,}", flush=True)


def publish(database: Database, texts: dict[str, str]) -> dict[str, Metric]:
    """Make metrics live."""
    publish_new_metrics(database, Files(texts=texts, problems={}), Ids(secrets.randbelow).next, clock)
    with database.reading() as conn:
        return read_live_metrics(conn)


def build(database: Database) -> float:
    """Take all steps there are; return how long that took."""
    folder = Folder(database, 1, clock)
    began = time.perf_counter()
    while folder.step(5000):
        pass
    return time.perf_counter() - began


def timed(database: Database, what: Callable[[Connection], Any], rounds: int = 5) -> tuple[float, Any]:
    """Return the median of some rounds in ms, and what was said."""
    times, said = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        with database.reading() as conn:
            said = what(conn)
        times.append((time.perf_counter() - began) * 1000)
    return median(times), said


def group_by(database: Database, event_name: str, customer: str | None = None) -> Callable[[Connection], Any]:
    """Return the obvious alternative: one GROUP BY over the events. Its sums are of doubles, which are not exact."""
    amount = (
        sa.func.json_extract(events.c.properties, "$.amount")
        if database.file
        else sa.cast(sa.cast(events.c.properties, sa.JSON)["amount"].as_string(), sa.Numeric)
    )
    day = events.c.time_created / 86_400_000_000
    query = (
        sa.select(events.c.customer_id, day, sa.func.count(), sa.func.sum(amount))
        .where(
            events.c.event_name == event_name,
            events.c.time_created >= START,
            events.c.time_created < END,
            events.c.voided_at.is_(None),
        )
        .group_by(events.c.customer_id, day)
    )
    if customer is not None:
        query = query.where(events.c.customer_id == customer)
    return lambda conn: conn.execute(query).all()


def questions(database: Database, live: dict[str, Metric]) -> list[Row]:
    """Time the questions of the table, each beside the GROUP BY."""
    one = Query(start=START, end=END, customer_id=ONE)
    by_day = Query(start=START, end=END, window=Unit.DAY)
    berlin = Query(start=START, end=END, window=Unit.DAY, tz="Europe/Berlin", customer_id=ONE)
    asked: list[tuple[str, str, Query, tuple[float, float | None]]] = [
        ("counter, one customer, a month", "tokens", one, (50, 10)),
        ("counter, one customer, by day in Berlin", "tokens", berlin, (50, None)),
        ("sum, all customers by day, a month", "tokens", by_day, (1000, 300)),
        ("gauge, one customer, a month", "seats", one, (500, 100)),
        ("rate, one customer, a month", "busiest", one, (500, 100)),
    ]
    rows = []
    now = clock()
    for what, name, query, limits in asked:
        metric = live[name]
        took, said = timed(database, partial(answer, metric=metric, query=query, now=now))
        plain = group_by(database, metric.event_name, query.customer_id)
        sql, _ = timed(database, plain, 3)
        note = ""
        if metric.metric_type == "counter":
            raw_ms, raw = timed(database, partial(answer_raw, metric=metric, query=query, now=now), 1)
            assert isinstance(said, Answer)
            assert said == raw, f"{what}: not what raw events say"
            note = f" (raw {raw_ms:,.0f} ms, equal)"
        row = below_row(what, took, "ms", limits, note)
        rows.append(Row(row.what, f"{took:,.1f} ms{note}", f"GROUP BY {sql:,.1f} ms", f"{sql / took:,.1f}", *_of(row)))
    return rows


def _of(row: Row) -> tuple[str, str, str]:
    return row.reach, row.beat, row.verdict


def size(database: Database, count: int) -> list[Row]:
    """Tell what a stored call takes on the disk."""
    with database.reading() as conn:
        raw = conn.execute(sa.select(sa.func.sum(sa.func.length(calls.c.raw)))).scalar_one() / count
        if database.file is None:
            whole = conn.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
            buckets = conn.execute(sa.text("SELECT pg_total_relation_size('usage_buckets')")).scalar_one()
        else:
            pages = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE :name"
            whole = conn.execute(sa.text(pages), {"name": "%"}).scalar_one()
            buckets = conn.execute(sa.text(pages), {"name": "usage_buckets%"}).scalar_one()
    share = whole / count / raw
    verdict = "beaten" if share < 1.5 else "reached" if share < 2.5 else "MISSED"
    said = f"{whole / count:,.0f} bytes, {buckets / count:,.0f} of them buckets"
    return [Row("on disk per stored call", said, f"raw {raw:,.0f} bytes", f"{share:.2f}", "< 2.50", "< 1.50", verdict)]


def ingest(folder: Path, source: Source, rounds: int, seconds: int) -> list[Row]:
    """Drive the service with five metrics and with none, in turns."""
    speeds: dict[str, list[float]] = {"none": [], "five": []}
    for turn in range(rounds):
        for name in list(speeds)[:: -1 if turn % 2 else 1]:
            metrics = folder / f"metrics-{name}"
            metrics.mkdir(exist_ok=True)
            if name == "five":
                for one, text in _OF_THE_LOAD.items():
                    (metrics / f"{one}.yaml").write_text(text)
            os.environ["METRICS_DIR"] = str(metrics)
            url = source.fresh()
            with servers.ours(folder, url, 1) as server:
                wrk.drive(server, 32, 2, "node")
                result = wrk.drive(server, 32, seconds, "node")
            database = connect(url)
            with database.reading() as conn:
                left = conn.execute(sa.select(sa.func.count()).select_from(usage_tail)).scalar_one()
            database.close()
            speed = f"{result.per_second:,.0f}/s, p99 {result.p99_ms:.1f} ms"
            print(f"  {name} metrics: {speed}, {left} commits not folded", flush=True)
            speeds[name].append(result.per_second)
    return [ratio_row("ingest with five metrics, beside none", speeds["five"], speeds["none"], (0.75, 0.9))]


def bench(source: Source, count: int) -> list[Row]:
    """Measure one kind of database."""
    url = source.fresh()
    database = connect(url)
    print(f"{source.title}, {count:,} events", flush=True)
    seed(database, count)
    # What is measured is a metric over old events, which are in no tail.
    with database.writing() as conn:
        conn.execute(sa.delete(usage_tail))
    if database.file is None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.execute(sa.text("ANALYZE"))
    rows = []
    publish(database, {"tokens": METRICS["tokens"]})
    seconds = build(database)
    rows.append(below_row(f"build a sum over {count:,} events", seconds * 1e6 / count, "s per million", (60, 20)))
    live = publish(database, METRICS)
    rows.append(below_row("build two more at once", build(database) * 1e6 / count, "s per million", (60, None)))
    rows += questions(database, live)
    rows += size(database, count)
    database.close()
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    parser.add_argument("--kind", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--no-ingest", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    given = parser.parse_args(words)
    tune_garbage_collection()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_on_disk(given.folder)).absolute()
        source = Source("sqlite", folder) if given.kind == "sqlite" else stack.enter_context(postgresql(folder))
        for count in given.events:
            print(to_markdown(bench(source, count)), flush=True)
        if not given.no_ingest and wrk.is_installed():
            print(to_markdown(ingest(folder, source, given.rounds, given.seconds)), flush=True)


if __name__ == "__main__":
    main()
