"""How long each page takes on the server with a million calls in the database.

    python benchmarks/pages.py                 seeds var/pages.db the first time (some minutes), then measures
    python benchmarks/pages.py /calls?q=abc    measures these addresses instead
    python benchmarks/pages.py --calls 100000  with fewer calls, in a file of their own

The calls go through the real ingest, so the rows, the indexes and the ledger are what production would have; only
their times are made up, over the last 30 days.
"""

import argparse
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from app.clock import clock
from app.core.outcome import Outcome
from app.ingest.ingest import Ingest
from app.service.build import Service, build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.engine import connect
from app.store.migrate import migrate
from app.store.review import CallFilters, list_call_ids

ROOT = Path(__file__).parent.parent
TOKEN = "an-admin-token-for-benchmarks"  # noqa: S105  of a database of made-up calls
BEARER = "a-bearer-token-for-benchmarks"

BATCH = 100
DAYS = 30
CUSTOMERS = 1000
ROUNDS = 5
LIMIT_MS = 200

# What the mapped events come from: (event, weight, properties).
EVENTS: tuple[tuple[str, int], ...] = (
    ("API Call", 60),
    ("Order Completed", 12),
    ("Page Exported", 20),
    ("Member Added", 8),
)
_NAMES, _WEIGHTS = zip(*EVENTS, strict=True)
# Of 200 calls: this many are repeated, repeated with other content, of another type, without a customer, unreadable.
SHARES = {"again": 6, "changed": 2, "identify": 8, "nobody": 3, "broken": 1}

PAGES = (
    "/",
    "/?range=hour",
    "/?range=week",
    "/calls",
    "/calls?since=all",
    "/calls?outcome=rejected",
    "/calls?outcome=stored",
    "/calls?outcome=conflict&since=all",
    "/calls?reason=event_invalid&since=all",
    "/calls?reason=unstorable&since=all",
    "/calls?event=Order+Completed&since=all",
    "/calls?event=No+such+event&since=all",
    "/calls?customer=customer-7&since=all",
    "/calls?customer=nobody&since=all",
    "/calls?transform=api_call&since=all",
    "/calls?transform=rare&since=all",
    "/calls?transform=rare&outcome=stored&since=all",
    "/calls?id=message-500000",
    "/calls?q=eu-central&since=all",
    "/calls?q=not+there+at+all&since=all",
    "/calls?q=not+there+at+all&event=API+Call&since=all",
    "/calls?q=not+there&customer=customer-7&since=all",
    "/calls?since=29d&until=28d",
    "/calls/newer?newest=0",
    "/problems",
    "/deliveries",
    "/transforms",
    "/transforms/api_call",
    "/setup",
)


def seed(file: Path, count: int) -> None:
    """Fill a database through the real ingest."""
    part = file.with_suffix(".part")
    for old in part.parent.glob(f"{part.name}*"):
        old.unlink()
    database = connect(f"sqlite:///{part}")
    migrate(database)
    database.close()
    service = a_service(part)
    moment = 0
    ingest = Ingest(
        credentials=service.ingest._credentials,  # noqa: SLF001  the same, with another clock
        require_full_auth=False,
        catalog=service.catalog,
        writer=service.ingest._writer,  # noqa: SLF001
        ids=service.ids,
        clock=lambda: moment,
    )
    began = clock()
    first, step = began - DAYS * 86_400_000_000, DAYS * 86_400_000_000 // (count // BATCH)
    for number, body in enumerate(bodies(count)):
        moment = first + number * step
        ingest.take(ingest.from_webhook(None, f"Bearer {BEARER}"), body)
        if number % 500 == 0:
            print(f"\rseeding {part}: {number * BATCH:,} of {count:,}", end="", file=sys.stderr)
    print(file=sys.stderr)
    service.database.close()
    with sqlite3.connect(part) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    part.rename(file)


def bodies(count: int) -> Iterator[bytes]:
    """Give request bodies of BATCH calls each."""
    draw = random.Random(7)  # noqa: S311  nothing is secret here
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    kinds += ["new"] * (200 - len(kinds))
    for start in range(0, count, BATCH):
        batch = []
        for number in range(start, start + BATCH):
            kind = draw.choice(kinds) if number > 1000 else "new"
            repeated = kind in {"again", "changed"}
            call = a_call(draw.randrange(number - 1000, number) if repeated else number)
            if kind == "changed":
                call["properties"] = {
                    "endpoint": "another",
                    "order_id": "another",
                    "revenue": "1.00",
                    "currency": "USD",
                }
            elif kind == "identify":
                call["type"] = "identify"
            elif kind == "nobody":
                call["userId"] = None
            elif kind == "broken":
                call["properties"] = "no object"
            batch.append(call)
        yield msgspec.json.encode(batch)


def a_call(number: int) -> dict[str, object]:
    """Return a call of about 800 bytes, the same for the same number."""
    draw = random.Random(number)  # noqa: S311
    event = draw.choices(_NAMES, _WEIGHTS)[0]
    return {
        "type": "track",
        "event": "Rare Event" if number % 100_000 == 50_000 else event,
        "messageId": f"message-{number}",
        "userId": f"customer-{draw.randrange(CUSTOMERS)}",
        "timestamp": "2026-11-01T10:00:00.123Z",
        "projectId": "pRoj3ctIdExample",
        "context": {
            "groupId": f"acct-{number % 50}",
            "ip": "203.0.113.7",
            "locale": "en-US",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
            "page": {"path": "/app/projects", "url": "https://app.example.com/app/projects?tab=recent"},
            "library": {"name": "@segment/analytics-node", "version": "3.1.0"},
        },
        "integrations": {"All": True},
        "properties": {
            "endpoint": f"/v1/{number % 90}",
            "region": draw.choice(("eu-central-1", "us-east-1", "ap-south-1")),
            "order_id": f"order-{number}",
            "currency": "USD",
            "revenue": f"{draw.randrange(10_000) / 100:.2f}",
            "products": [{"product_id": "p1", "price": 19.95, "quantity": 1 + number % 3}],
            "input_tokens": draw.randrange(4000),
            "output_tokens": draw.randrange(400),
        },
    }


def a_service(file: Path) -> Service:
    """Put the service together on a file, with the project's transforms and a rare one."""
    folder = file.parent / "pages-transforms"
    folder.mkdir(parents=True, exist_ok=True)
    for source in (ROOT / "transforms").glob("*.yaml"):
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "rare.yaml").write_text("match: {event: Rare Event}\n")
    return build(
        Settings(
            database_url=f"sqlite:///{file}",
            admin_token=TOKEN,
            segment_bearer_tokens=(BEARER,),
            segment_shared_secrets=("a shared secret",),
            transforms_dir=folder,
        )
    )


def measure(file: Path, addresses: list[str]) -> bool:
    """Time each page with Flask's own client; return whether all stay below the limit."""
    service = a_service(file)
    client = create_app(service).test_client()
    client.post("/sign-in", data={"token": TOKEN})
    if not addresses:
        addresses = [*PAGES, *(f"/calls/{one}" for one in some_calls(service))]
    well = True
    width = max(map(len, addresses))
    print(f"| {'page':<{width}} | first ms | median ms | worst ms | KB   |")
    print(f"| {'-' * width} | -------- | --------- | -------- | ---- |")
    for address in addresses:
        times = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            answer = client.get(address)
            size = len(answer.get_data())
            times.append((time.perf_counter() - began) * 1000)
        first, rest = times[0], times[1:]
        note = "" if answer.status_code == 200 else f" status {answer.status_code}"
        note += " SLOW" if max(times) >= LIMIT_MS else ""
        well = well and not note
        print(
            f"| {address:<{width}} | {first:8.1f} | {median(rest):9.1f} | {max(rest):8.1f} | {size / 1000:4.0f} |{note}"
        )
    service.database.close()
    return well


def some_calls(service: Service) -> Iterator[int]:
    """Give one call of each outcome."""
    with service.database.reading() as conn:
        for outcome in Outcome:
            yield from list_call_ids(conn, CallFilters(outcomes=(outcome,)), limit=1)


def main() -> None:
    """Seed where there is nothing yet, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("addresses", nargs="*")
    asked = parser.parse_args()
    file = ROOT / "var" / ("pages.db" if asked.calls == 1_000_000 else f"pages-{asked.calls}.db")
    if not file.exists():
        seed(file, asked.calls)
    sys.exit(0 if measure(file, asked.addresses) else 1)


if __name__ == "__main__":
    main()
