"""How fast kept calls are run again: all still rejected, all become stored, and a dry run, on both databases.

    PYTHONPATH=. python benchmarks/replay.py [--calls 100000] [--folder var/bench] [--only sqlite]

Every call was rejected, since the transform of its time asked for a customer that it does not have.
"""

import argparse
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import sqlalchemy as sa
from databases import Source, folder_on_disk, postgresql

from app.catalog.live import Catalog
from app.cli.program import tune_garbage_collection
from app.clock import clock
from app.core.outcome import Outcome
from app.core.pipeline import run
from app.core.segment import read
from app.core.transform.transform import TransformSet, parse_transform
from app.replay.plan import Plan, ReplayRequest, Tally
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store import ledger
from app.store.calls import append_calls, append_requests
from app.store.engine import Database, connect
from app.store.ids import Ids
from app.store.record import Record, Request

REACH = 20_000

_FIELDS = """\
match: {type: track}
event:
  event_name: event
  idempotency_id: messageId
  customer_id: %s
  time_created: timestamp
  properties: properties
"""
_WRONG, _STILL_WRONG, _FIXED = (_FIELDS % path for path in ("properties.account", "properties.acount", "userId"))
_AT_ONCE = 5000


def _set(text: str) -> TransformSet:
    return TransformSet([parse_transform("_default", text, None)])


def _raw(number: int) -> bytes:
    return msgspec.json.encode(
        {
            "type": "track",
            "event": "API Call",
            "messageId": f"message-{secrets.token_hex(12)}",
            "userId": f"customer-{number % 1000}",
            "anonymousId": secrets.token_hex(8),
            "timestamp": "2026-11-01T10:00:00.123Z",
            "properties": {"endpoint": "/v1/complete", "tokens": number, "region": "eu", "model": "large", "ms": 12.5},
            "context": {"library": {"name": "analytics-node", "version": "2.0"}, "ip": "127.0.0.1"},
        }
    )


def seed(database: Database, calls: int) -> None:
    """Store rejected calls, as they would stand there had they come one by one."""
    ids, transforms, now = Ids(secrets.randbelow), _set(_WRONG), clock()
    for start in range(0, calls, _AT_ONCE):
        request = Request(ids.next(now), now, "signature", "array", None, [])
        for position in range(min(_AT_ONCE, calls - start)):
            raw = _raw(start + position)
            done = run(raw, read(raw), transforms, now)
            assert done.call is not None
            call = done.call
            request.records.append(
                Record(
                    ids.next(now),
                    now,
                    done,
                    call.message_id,
                    call.user_id,
                    request.id,
                    position,
                    "webhook",
                    raw,
                    call.type,
                    call.event,
                    outcome=done.outcome,
                    fault=done.fault,
                    reason=done.reason,
                    detail=done.detail,
                )
            )
        with database.writing() as conn:
            append_requests(conn, [request])
            append_calls(conn, request.records)
            ledger.append(conn, ids.tag, now, ledger.count_records(request.records))
    if database.file is None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            # As calls of other days stand there: what the seeding left to the vacuum is not part of a replay.
            conn.execute(sa.text("VACUUM ANALYZE"))
            conn.execute(sa.text("CHECKPOINT"))


class Fixed(Catalog):
    """A catalog whose active set is given, and not read from the database."""

    def refresh(self, conn: object, *_: object) -> bool:  # noqa: ARG002
        """Leave what is active."""
        return False


def _measure(database: Database, text: str, *, dry: bool) -> tuple[Plan, float]:
    catalog = Fixed(_set(text))
    ids = Ids(secrets.randbelow)
    replayer = Replayer(
        database=database, catalog=catalog, ids=ids, clock=clock, hooks=replay_hooks(ids, forwards=False)
    )
    began = time.perf_counter()
    plan = replayer.plan(ReplayRequest(outcomes=(Outcome.IGNORED, Outcome.REJECTED)), (None, None), again=True)
    (replayer.dry_run if dry else replayer.run)(plan, lambda _count: None)
    return plan, time.perf_counter() - began


def bench(source: Source, calls: int) -> None:
    """Measure one kind of database."""
    told: Callable[[Tally], int | None]
    for rows in (
        (
            ("all still rejected", _WRONG, False, lambda tally: tally.same),
            ("dry run", _FIXED, True, lambda tally: tally.changed.get("rejected > stored")),
            ("all become stored", _FIXED, False, lambda tally: tally.changed.get("rejected > stored")),
        ),
        (("all rejected, otherwise", _STILL_WRONG, False, lambda tally: tally.changed["rejected > rejected"]),),
    ):
        database = connect(source.fresh(), bulk=True)
        seed(database, calls)
        for what, text, dry, told in rows:
            plan, seconds = _measure(database, text, dry=dry)
            assert plan.tally.read == told(plan.tally) == calls, plan.tally
            speed = calls / seconds
            verdict = "" if speed >= REACH else f"  BELOW {REACH:,}/s"
            print(f"{source.title:<12}{what:<26}{speed:>12,.0f} calls/s{verdict}", flush=True)
        database.close()


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args(words)
    tune_garbage_collection()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_on_disk(given.folder))
        if given.only != "postgresql":
            bench(Source("sqlite", folder), given.calls)
        if given.only != "sqlite":
            bench(stack.enter_context(postgresql(folder)), given.calls)


if __name__ == "__main__":
    main()
