"""A month of stored calls: made by the pipeline and written by the committer, as if they had come in over the month.

Two processes take turns: one makes the next 1,000 calls while the other commits, so the rows lie in the order of time.
"""

import multiprocessing
import random
import secrets
import time
from functools import partial
from multiprocessing.synchronize import Semaphore
from typing import Any

import msgspec

from app.cli.program import tune_garbage_collection
from app.core.pipeline import run
from app.core.segment import read
from app.core.times import format_time, parse_time
from app.core.transform.transform import TransformSet, parse_transform
from app.service.build import event_hooks
from app.store.commit import Committer
from app.store.engine import connect
from app.store.ids import Ids
from app.store.record import Record, Request

START, END = parse_time("2026-10-01"), parse_time("2026-11-01")
CUSTOMERS = 1000

_EVENTS = random.Random(5).choices(("use", "api_call", "seats"), (50, 40, 10), k=10_000)  # noqa: S311
_AT_ONCE = 1000
_TURN_SECONDS = 120
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


def seed(url: str, count: int, customers: int = CUSTOMERS) -> None:
    """Store `count` calls of a month. Ends the program where that cannot be done."""
    # Forked processes would share what the parent has open.
    spawn = multiprocessing.get_context("spawn")
    turns = [spawn.Semaphore(1), spawn.Semaphore(0)]
    workers = [spawn.Process(target=_work, args=(url, count, customers, at, turns)) for at in range(len(turns))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("seeding failed")


def _work(url: str, count: int, customers: int, number: int, turns: list[Semaphore]) -> None:
    tune_garbage_collection()
    ids, transforms = Ids(secrets.randbelow), TransformSet([parse_transform("_default", _FIELDS, None)])
    database = connect(url)
    committer = Committer(database, ids, lambda *_: None, event_hooks(ids, forwards=False))
    draw = random.Random(number)  # noqa: S311  the same calls every time
    began = time.monotonic()
    for batch, first in enumerate(range(0, count, _AT_ONCE)):
        if batch % len(turns) == number:
            some = range(first, min(first + _AT_ONCE, count))
            request = _request(some, (END - START) // count, customers, ids, transforms, draw)
            if not turns[number].acquire(timeout=_TURN_SECONDS):
                raise SystemExit("the other process does not go on")
            committer.commit(partial(list, [request]))
            turns[1 - number].release()
            if first and first % 500_000 == 0:
                print(f"  {first:,} calls stored after {time.monotonic() - began:,.0f} s", flush=True)
    database.close()


def _request(
    numbers: range, step: int, customers: int, ids: Ids, transforms: TransformSet, draw: random.Random
) -> Request:
    began = START + numbers.start * step
    request = Request(ids.next(began), began, "signature", "array", None, [])
    for position, number in enumerate(numbers):
        moment = START + number * step
        raw = _raw(number, moment, f"customer-{draw.randrange(customers):04d}", draw)
        done = run(raw, read(raw), transforms, moment)
        call = done.call
        assert call is not None, done
        request.records.append(
            Record(
                ids.next(moment),
                moment,
                done,
                call.message_id,
                call.user_id,
                request.id,
                position,
                "webhook",
                raw,
                call.type,
                call.event,
            )
        )
    return request


def _raw(number: int, moment: int, customer: str, draw: random.Random) -> bytes:
    event = _EVENTS[number % len(_EVENTS)]
    amount: Any = draw.choice((1, -1, 1)) if event == "seats" else draw.randrange(1, 100_000) / 100
    return msgspec.json.encode(
        {
            "type": "track",
            "event": event,
            **_BESIDE,
            "messageId": f"node-next-{moment // 1000}-{number:032x}",
            "userId": customer,
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
