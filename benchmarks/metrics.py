"""How fast metrics answer, are built and are kept up to date, beside one SQL GROUP BY over the events.

    PYTHONPATH=. python benchmarks/metrics.py --events 1000000 10000000 [--kind postgresql] [--part answers]

1,000 customers, one month, calls of 1 KB that came in order of time; five metrics, each event feeds one or two. The
parts are `answers` (with seeding, building and the size on disk) and `ingest`. Ten million take 17 GB in `--folder`.
"""

import argparse
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import servers
import sqlalchemy as sa
import wrk
from databases import Source, folder_on_disk, postgresql
from metrics_seed import CUSTOMERS, END, START, seed
from report import Row, below_row, ratio_row, to_markdown

from app.catalog.files import Folder as Files
from app.cli.program import tune_garbage_collection
from app.clock import clock
from app.metrics.answer import answer, answer_raw
from app.metrics.catalog import publish_new_metrics, read_live_metrics
from app.metrics.definition import Metric
from app.metrics.fold import BucketBuilder
from app.metrics.parts import is_addable
from app.metrics.query import Query
from app.metrics.windows import Unit
from app.store.engine import Connection, Database, connect
from app.store.ids import Ids
from app.store.schema import calls, events, usage_tail

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
# The calls of benchmarks/load.lua have one event name: each feeds two of the five.
_OF_THE_LOAD = {
    name: text.replace("event_name: use", "event_name: Order Paid").replace("amount", "total")
    for name, text in METRICS.items()
}
_BUILD_EVENTS = 5000
"""Of a step, as `segment-lotus metrics build` takes them."""

_MEGABYTE = 1024


def publish(database: Database, texts: dict[str, str]) -> dict[str, Metric]:
    """Make metrics live."""
    publish_new_metrics(database, Files(texts=texts, problems={}), Ids(secrets.randbelow).next, clock)
    with database.reading() as conn:
        return read_live_metrics(conn)


def take_steps(database: Database) -> float:
    """Take all steps there are; return how long that took."""
    folder = BucketBuilder(database, 1, clock)
    began = time.perf_counter()
    while folder.step(build_events=_BUILD_EVENTS):
        pass
    return time.perf_counter() - began


def peak_megabytes(*, anew: bool = False) -> int:
    """Return the most memory this process held, or, `anew`, begin to look."""
    if anew:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", "ascii")
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // _MEGABYTE


def timed(database: Database, what: Callable[[Connection], Any], rounds: int) -> tuple[float, Any]:
    """Return the median of some rounds in ms, and what was said."""
    times, said = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        with database.reading() as conn:
            said = what(conn)
        times.append((time.perf_counter() - began) * 1000)
    return median(times), said


def plain_ms(url: str, event_name: str, customer: str | None) -> float:
    """Time the obvious alternative: one GROUP BY over the events. SQLite's sums are of doubles, which are not exact.

    Through a connection of its own, with the driver's defaults.
    """
    engine = sa.create_engine(url)
    amount = (
        sa.func.json_extract(events.c.properties, "$.amount")
        if engine.dialect.name == "sqlite"
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
    with engine.connect() as conn:
        began = time.perf_counter()
        conn.execute(query).all()
        took = time.perf_counter() - began
    engine.dispose()
    return took * 1000


Limits = tuple[float, float | None]

QUESTIONS: list[tuple[str, str, Query, Limits]] = [
    ("counter, one customer, a month", "tokens", Query(start=START, end=END), (50, 10)),
    (
        "counter, one, by day in Berlin",
        "tokens",
        Query(start=START, end=END, window=Unit.DAY, tz="Europe/Berlin"),
        (50, None),
    ),
    ("gauge, one customer, a month", "seats", Query(start=START, end=END), (500, 100)),
    ("rate, one customer, a month", "busiest", Query(start=START, end=END), (500, 100)),
]
ALL_BY_DAY = Query(start=START, end=END, window=Unit.DAY)


def ask(database: Database, url: str, live: dict[str, Metric], customers: int) -> tuple[list[Row], float]:
    """Time the questions of the table, each beside the GROUP BY; the second is the counter of one customer in ms."""
    of_one = f"customer-{customers // 2:04d}"
    asked = [(*one[:2], replace_customer(one[2], of_one), one[3]) for one in QUESTIONS]
    asked.insert(2, ("sum, all customers by day, a month", "tokens", ALL_BY_DAY, (1000, 300)))
    rows, counter, now, held = [], 0.0, clock(), 0
    for what, name, query, limits in asked:
        metric = live[name]
        peak_megabytes(anew=True)
        _, _ = timed(database, partial(answer, metric=metric, query=query, now=now), 1)
        took, said = timed(database, partial(answer, metric=metric, query=query, now=now), 5)
        counter = counter or took
        note = ""
        if is_addable(metric):
            raw_ms, raw = timed(database, partial(answer_raw, metric=metric, query=query, now=now), 1)
            assert said == raw, f"{what}: not what raw events say"
            note = f", equal to raw events, which take {raw_ms:,.0f} ms"
        # Before the GROUP BY: some builds of SQLite sort in memory, whatever they are told.
        held = max(held, peak_megabytes())
        sql = plain_ms(url, metric.event_name, query.customer_id)
        row = below_row(what, took, "ms", limits)
        beside = f"GROUP BY {sql:,.1f} ms"
        rows.append(Row(what, f"{took:,.1f} ms{note}", beside, f"{sql / took:,.1f}", row.reach, row.beat, row.verdict))
    rows.append(Row("memory of the process that asked, at most", f"{held:,} MB"))
    return rows, counter


def replace_customer(query: Query, customer: str) -> Query:
    """Return the query of one customer."""
    return Query(start=query.start, end=query.end, window=query.window, tz=query.tz, customer_id=customer)


def size(database: Database, count: int) -> Row:
    """Tell what a stored call takes on the disk."""
    with database.reading() as conn:
        raw = conn.execute(sa.select(sa.func.sum(sa.func.length(calls.c.raw)))).scalar_one() / count
        if database.file is None:
            whole = conn.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
            buckets = conn.execute(sa.text("SELECT pg_total_relation_size('usage_buckets')")).scalar_one()
        else:
            file = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            whole = conn.execute(sa.text(file)).scalar_one()
            # Page by page: what SQLite adds up of a whole table (`aggregate`) has 32 bits only.
            pages = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'usage_buckets%'"
            buckets = conn.execute(sa.text(pages)).scalar_one()
    share = float(whole) / count / float(raw)
    verdict = "beaten" if share < 1.5 else "reached" if share < 2.5 else "MISSED"
    said = f"{float(whole) / count:,.0f} bytes, {float(buckets) / count:,.0f} of them buckets"
    return Row("on disk per stored call", said, f"raw {raw:,.0f} bytes", f"{share:.2f}", "< 2.50", "< 1.50", verdict)


def answers(source: Source, count: int, customers: int) -> tuple[list[Row], float]:
    """Seed, build, ask and weigh one database; the second is the time of a counter of one customer in ms."""
    url = source.fresh()
    began = time.perf_counter()
    print(f"{source.title}, {count:,} events", flush=True)
    seed(url, count, customers)
    print(f"  seeded in {time.perf_counter() - began:,.0f} s", flush=True)
    database = connect(url)
    # No metric is live: the steps only empty the tail, and what is built then is built over old events.
    take_steps(database)
    if database.file is None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.execute(sa.text("VACUUM ANALYZE"))
    peak_megabytes(anew=True)
    publish(database, {"tokens": METRICS["tokens"]})
    rows = [
        below_row(f"build a sum over {count:,} events", take_steps(database) * 1e6 / count, "s per million", (60, 20))
    ]
    live = publish(database, METRICS)
    rows.append(below_row("build two more at once", take_steps(database) * 1e6 / count, "s per million", (60, None)))
    rows.append(Row("memory of the process that built, at most", f"{peak_megabytes():,} MB"))
    print(f"  built after {time.perf_counter() - began:,.0f} s", flush=True)
    asked, counter = ask(database, url, live, customers)
    print(f"  asked after {time.perf_counter() - began:,.0f} s", flush=True)
    rows += [*asked, size(database, count)]
    database.close()
    if database.file is not None:
        for left in database.file.parent.glob(database.file.name + "*"):
            left.unlink()
    print(f"  done after {time.perf_counter() - began:,.0f} s", flush=True)
    return rows, counter


def ingest(folder: Path, source: Source, rounds: int, seconds: int) -> Row:
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
    return ratio_row("ingest with five metrics, beside none", speeds["five"], speeds["none"], (0.75, 0.9))


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    parser.add_argument("--kind", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--part", choices=["answers", "ingest"], help="only this one")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs of ingest")
    parser.add_argument("--seconds", type=int, default=8, help="of each run of ingest")
    given = parser.parse_args(words)
    tune_garbage_collection()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_on_disk(given.folder)).absolute()
        source = Source("sqlite", folder) if given.kind == "sqlite" else stack.enter_context(postgresql(folder))
        counters = []
        for count in given.events if given.part != "ingest" else ():
            rows, counter = answers(source, count, given.customers)
            counters.append(counter)
            print(to_markdown(rows), flush=True)
        if len(counters) > 1:
            ratio = counters[-1] / counters[0]
            verdict = "reached" if ratio <= 1.5 else "MISSED"
            sizes = f"{given.events[-1]:,} events beside {given.events[0]:,}"
            row = Row(
                f"counter, one customer, {sizes}", f"{counters[-1]:.2f} ms", f"{counters[0]:.2f} ms", f"{ratio:.2f}"
            )
            print(to_markdown([Row(row.what, row.ours, row.baseline, row.ratio, "<= 1.50", "", verdict)]), flush=True)
        if given.part != "answers" and wrk.is_installed():
            print(to_markdown([ingest(folder, source, given.rounds, given.seconds)]), flush=True)


if __name__ == "__main__":
    main()
