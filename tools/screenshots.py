"""Takes the pictures of the pages that stand in docs/screenshots: a real service, samples of every outcome, a Chromium.

python -m tools.screenshots                  the pictures of the documentation
python -m tools.screenshots --all FOLDER     every page, wide and narrow, light and dark, to look at
"""

import argparse
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from app.clock import clock
from app.core.credentials import Credentials
from app.core.outcome import Outcome
from app.core.signature import sign
from app.forward.fake_lotus.server import FakeLotus, running
from app.forward.lotus import Lotus
from app.forward.sql_claims import Attempt, DeliveryResult, claim, record_results, release
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_destination import pause, read_destination, resume
from app.forward.sql_lists import count_undelivered
from app.forward.worker import ForwardWorker
from app.ingest.ingest import Ingest
from app.service.build import build, event_hooks
from app.settings import Settings
from app.store import ledger
from app.store.commit import Committer
from app.store.engine import Database, connect
from app.store.ids import Ids
from app.store.migrate import migrate
from app.store.writer import Writer
from tests.browser.conftest import CHROMIUM
from tests.builders import SECRET
from tests.programs import find_program
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until

FOLDER = ROOT / "docs" / "screenshots"
WIDE: ViewportSize = {"width": 1280, "height": 800}
NARROW: ViewportSize = {"width": 375, "height": 760}

# A page draws itself, and fetches what it shows beside the rest.
SETTLED_MS = 1500
HOURS = 24 * 6

WRONG = "match: {event: Backup Finished}\nevent:\n  event_name: {const: backup}\n  customer_id: properties.account\n"
"""Rejects its calls, until it is mended."""

A_REQUEST = 20

KEY = "a-key"
"""Of the stand-in for Lotus."""

USAGE = "/usage?metric=order_revenue&start=6d&window=day"

Scheme = Literal["light", "dark"]


class Shot(NamedTuple):
    """One picture."""

    name: str
    path: str
    narrow: bool = False
    scheme: Scheme = "light"
    click: str = ""
    """Words of a button to press first."""
    height: int = 0
    """Of the window, where it is another than usual."""
    paused: bool = False
    """While forwarding to Lotus is paused."""


def shots(ids: dict[str, str], replay: str) -> list[Shot]:
    """Return the pictures of the documentation; `ids` of a call of each outcome."""
    editor = f"/transforms/order_completed?call={ids['rejected']}"
    return [
        Shot("overview", "/"),
        Shot("overview-phone-dark", "/", narrow=True, scheme="dark"),
        Shot("calls", "/calls"),
        Shot("call", f"/calls/{ids['stored']}"),
        Shot("deliveries", "/deliveries", height=1100),
        Shot("deliveries-paused-phone-dark", "/deliveries", narrow=True, scheme="dark", height=1300, paused=True),
        Shot("call-conflict-dark", f"/calls/{ids['conflict']}", scheme="dark"),
        Shot("problems", "/problems"),
        Shot("problems-phone-dark", "/problems", narrow=True, scheme="dark"),
        Shot("replay", f"/replays/{replay}"),
        Shot("transforms", "/transforms"),
        Shot("editor", editor),
        Shot("editor-dark", editor, scheme="dark"),
        Shot("usage", USAGE, height=1000),
        Shot("usage-phone-dark", USAGE, narrow=True, scheme="dark", height=1700),
        Shot("setup", "/setup"),
    ]


def every(ids: dict[str, str], replay: str) -> list[Shot]:
    """Return every page in every way."""
    pages = {
        "overview": "/",
        "calls": "/calls",
        "calls-rejected": "/calls?outcome=rejected",
        **{f"call-{outcome}": f"/calls/{number}" for outcome, number in ids.items() if outcome in set(Outcome)},
        "problems": "/problems",
        "deliveries": "/deliveries",
        "deliveries-failed": "/deliveries?state=failed",
        "deliveries-none": "/deliveries?customer=nobody",
        "delivery": f"/deliveries/{ids['delivered']}",
        "delivery-failed": f"/deliveries/{ids['failed']}",
        "replays": "/replays",
        "replay": f"/replays/{replay}",
        "transforms": "/transforms",
        "editor": f"/transforms/order_completed?call={ids['rejected']}",
        "usage": "/usage",
        "usage-days": USAGE,
        "usage-whole": "/usage?metric=api_calls&start=7d",
        "usage-hours": "/usage?metric=api_calls&start=7d&window=hour&group_by=none&tz=Europe/Berlin",
        "usage-rate": "/usage?metric=api_calls_per_minute&start=7d&window=day",
        "usage-seats": "/usage?metric=seats&start=7d&window=day",
        "usage-none": "/usage?metric=storage",
        "usage-wrong": "/usage?metric=storage&window=minute",
        "usage-events": "/usage/events?metric=order_revenue&start=7d",
        "setup": "/setup",
        "help": "/help/responses",
        "sign-in": "/sign-in",
        "missing": "/nowhere",
    }
    return [
        *(
            Shot(f"{name}-{'narrow' if narrow else 'wide'}-{scheme}", path, narrow, scheme)
            for name, path in pages.items()
            for narrow in (False, True)
            for scheme in _SCHEMES
        ),
        *(
            Shot(f"{name}-paused-{scheme}", path, narrow=bool(number), scheme=scheme, paused=True)
            for number, (name, path) in enumerate([("call", f"/calls/{ids['stored']}"), ("deliveries", "/deliveries")])
            for scheme in _SCHEMES
        ),
        *(
            Shot(f"retry-{'narrow' if narrow else 'wide'}-light", "/deliveries", narrow, click="Retry this group")
            for narrow in (False, True)
        ),
        *(
            Shot(f"ask-{'narrow' if narrow else 'wide'}-light", "/problems", narrow, click="Replay this group")
            for narrow in (False, True)
        ),
    ]


_SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", metavar="FOLDER", type=Path, help="every page in every way, into this folder")
    to_look_at: Path | None = parser.parse_args().all
    if find_program(*CHROMIUM) is None:
        sys.exit("No Chromium is found: install one (Debian: apt-get install chromium).")
    with tempfile.TemporaryDirectory(prefix="segment-lotus-") as name:
        home = Path(name)
        transforms = home / "transforms"
        shutil.copytree(ROOT / "transforms", transforms)
        # Left as it is, it would take every track call, and no event would be without a transform.
        default = transforms / "_default.yaml"
        default.write_text(default.read_text().replace("type: track", "event: Signed Up"))
        (transforms / "backup_finished.yaml").write_text(WRONG)
        url = f"sqlite:///{home / 'screenshots.db'}"
        seed(url, transforms)
        lotus = FakeLotus(KEY, clock=clock)
        with (
            running(lotus) as address,
            served(
                url,
                home / "served",
                LOTUS_HOST=address,
                LOTUS_API_KEY=KEY,
                TRANSFORMS_DIR=str(transforms),
                METRICS_DIR=str(ROOT / "metrics"),
                PUBLIC_URL="https://billing.example.com",
            ) as it,
        ):
            take(it, home, transforms, address, to_look_at)


def take(service: Served, home: Path, transforms: Path, address: str, to_look_at: Path | None) -> None:
    """Let there be a mended transform, a replay and a refusal; then take the pictures."""
    report, before = transforms / "backup_finished.yaml", _live(service, "backup_finished")
    report.write_text(report.read_text().replace("properties.account", "userId"))
    wait_until(lambda: _live(service, "backup_finished") != before)
    url = f"sqlite:///{home / 'screenshots.db'}"
    environment = {"DATABASE_URL": url, "PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app.service", "replay", "--by=backup_finished", f"--version={before}", "--yes"]
    subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True)
    _send_some(service)
    forward(url, address)
    body = _encode(_call("API Call", "refused-1", "acme", {}))
    service.post(body, {"X-Signature": sign(body, "another secret"), "User-Agent": "Segment (Actions)"})
    ids = {}
    for outcome in ("stored", "duplicate", "conflict", "ignored", "rejected"):
        narrower = "&transform=order_completed" if outcome == "rejected" else ""
        [call] = service.get(f"/api/v1/calls?outcome={outcome}{narrower}&limit=1", ADMIN_TOKEN).json["calls"]
        ids[outcome] = call["id"]
    for state in ("delivered", "failed"):
        [delivery] = service.get(f"/api/v1/deliveries?state={state}&limit=1", ADMIN_TOKEN).json["deliveries"]
        ids[state] = delivery["event_id"]
    [replayed] = service.get("/api/v1/replays?limit=1", ADMIN_TOKEN).json["replays"]
    replay = replayed["id"]
    folder = to_look_at or FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program(*CHROMIUM), args=["--no-sandbox"])
        for shot in every(ids, replay) if to_look_at else shots(ids, replay):
            set_paused(url, paused=shot.paused)
            _take(browser, service, shot, folder, whole=to_look_at is not None)
        browser.close()


def forward(url: str, address: str) -> None:
    """Let all events reach the stand-in for Lotus, but for some that it refuses."""
    database = connect(url)
    ids = Ids(secrets.randbelow)
    now = clock()
    with database.writing() as conn:
        held = claim(conn, 1, now, now + 1, 500)
    why = "No customer_id provided"
    refused = [one for number, one in enumerate(held) if number % 20 == 0]
    answer = json.dumps({"success": "some", "failed_events": {one.idempotency_id: why for one in refused[:1]}})
    attempt = Attempt(ids.next(now), now, 41, 100, 201, answer)
    ended = [DeliveryResult(one.event_id, DeliveryState.FAILED, one.due_at, 1, attempt.id, why) for one in refused]
    with database.writing() as conn:
        ledger.append(conn, ids.tag, now, record_results(conn, 1, now, attempt, ended))
        release(conn, 1, held)
    lotus = Lotus(address, KEY)
    worker = ForwardWorker(database=database, ids=ids, lotus=lotus, clock=clock, draw=random.random)
    while states(database)[DeliveryState.WAITING]:
        worker.step()
    lotus.close()
    database.close()


def states(database: Database) -> Counter[str]:
    """Count what is not delivered."""
    with database.reading() as conn:
        return count_undelivered(conn)


def set_paused(url: str, *, paused: bool) -> None:
    """Let forwarding be paused, or go on."""
    database = connect(url)
    now = clock()
    sentence = "Lotus cannot be reached: ConnectionRefusedError: Connection refused"
    with database.writing() as conn:
        resume(conn)
        if paused:
            pause(conn, read_destination(conn), "network", sentence, now=now - 600_000_000, probe_at=now + 90_000_000)
    database.close()


def _take(browser: Browser, service: Served, shot: Shot, folder: Path, *, whole: bool) -> None:
    usual = NARROW if shot.narrow else WIDE
    viewport: ViewportSize = {"width": usual["width"], "height": shot.height or usual["height"]}
    context = browser.new_context(viewport=viewport, color_scheme=shot.scheme)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{service.port}/sign-in")
    if shot.path != "/sign-in":
        page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.goto(f"http://127.0.0.1:{service.port}{shot.path}")
    if shot.click:
        page.get_by_role("button", name=shot.click).first.click()
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=folder / f"{shot.name}.png", full_page=whole)
    context.close()
    print(folder / f"{shot.name}.png")


def _send_some(service: Served) -> None:
    """Send a few calls one by one, so that there are times of requests to show."""
    draw, now = random.Random(8), datetime.now(UTC)
    for number in range(60):
        service.post(_encode(_some_call(draw, 900_000 + number, now)))


def _live(service: Served, name: str) -> Any:
    return service.get(f"/api/v1/transforms/{name}", ADMIN_TOKEN).json["live"]["version"]


def seed(url: str, transforms: Path) -> None:
    """Let a week of calls come in, through the real ingest; only its clock is ahead of its time."""
    database = connect(url)
    migrate(database)
    database.close()
    service = build(
        Settings(database_url=url, transforms_dir=transforms, segment_shared_secrets=(SECRET,), log_level="error")
    )
    moment = 0
    # Of their own: the service's ids have gone beyond these times already.
    ids = Ids(secrets.randbelow)
    ingest = Ingest(
        credentials=Credentials(shared_secrets=(SECRET,)),
        require_full_auth=False,
        catalog=service.catalog,
        writer=Writer(
            Committer(service.database, ids, service.catalog.map_again, event_hooks(ids, forwards=True)),
            lambda _commit: None,
        ),
        ids=ids,
        clock=lambda: moment,
    )
    for at, body, signed in requests():
        moment = int(at.timestamp() * 1_000_000)
        ingest.take(ingest.from_webhook(sign(signed, SECRET), None), body)
    service.database.close()


def requests() -> Iterator[tuple[datetime, bytes, bytes]]:
    """Give when each request came, its body, and the part that is signed."""
    draw = random.Random(7)
    now = datetime.now(UTC)
    number = 0
    for late in range(30):
        # Sent again from an archive: too old for Lotus.
        call = _call("API Call", f"archived-{late}", "acme", {"endpoint": "/v1/complete", "region": "eu"})
        body = _encode({**call, "timestamp": (now - timedelta(days=40)).isoformat()})
        yield now - timedelta(hours=HOURS + 1, seconds=-late), body, body
    for hour in range(HOURS, -1, -1):
        # More by day than by night.
        busy = 1 + round(5 * max(0, 1 - abs((now - timedelta(hours=hour)).hour - 14) / 9))
        for part in range(busy):
            at = now - timedelta(hours=hour, minutes=55 * part / busy, seconds=draw.randrange(1, 50))
            batch = []
            for _ in range(A_REQUEST):
                number += 1
                batch.append(_encode(_some_call(draw, number, at)))
            yield at, b"[" + b",".join(batch) + b"]", batch[0]


def _some_call(draw: random.Random, number: int, at: datetime) -> dict[str, Any]:
    customer = draw.choice(["acme", "globex", "initech", "umbrella", "hooli", "stark"])
    kind = draw.choices(
        ["api", "order", "seats", "report", "identify", "again", "changed", "nobody", "no id", "broken"],
        [60, 12, 6, 0.5, 4, 3, 1, 1.5, 1.5, 0.5],
    )[0]
    time_ = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    api = {"endpoint": draw.choice(["/v1/complete", "/v1/embed"]), "region": draw.choice(["eu", "us"])}
    tokens = {"input_tokens": draw.randrange(40, 4000), "output_tokens": draw.randrange(10, 900)}
    order = {
        "order_id": f"order-{number}",
        "currency": "USD",
        "revenue": f"{draw.randrange(900, 90_000) / 100:.2f}",
        "products": [{"product_id": "p1", "price": 19.95, "quantity": draw.randrange(1, 9)}],
    }
    match kind:
        case "order":
            made = _call("Order Completed", f"m-{number}", customer, order)
        case "no id":
            made = _call("Order Completed", f"m-{number}", customer, {**order, "order_id": None})
        case "seats":
            made = _call(
                "Seats Changed", f"m-{number}", customer, {"account_id": customer, "seats": draw.randrange(3, 90)}
            )
        case "report":
            made = _call(
                "Backup Finished", f"m-{number}", customer, {"format": "zip", "gigabytes": draw.randrange(1, 40)}
            )
        case "identify":
            made = {"type": "identify", "messageId": f"m-{number}", "userId": customer, "traits": {"plan": "pro"}}
        case "again":
            made = _call("API Call", f"again-{number % 40}", "acme", {"endpoint": "/v1/embed", "region": "eu"})
        case "changed":
            made = _call(
                "API Call", f"again-{number % 40}", "acme", {"endpoint": "/v1/embed", "region": f"eu-{number}"}
            )
        case "nobody":
            made = {**_call("API Call", f"m-{number}", customer, {**api, **tokens}), "userId": None}
        case "broken":
            made = _call("Seats Changed", f"m-{number}", customer, {"account_id": None, "seats": "many"})
        case _:
            made = _call("API Call", f"m-{number}", customer, {**api, **tokens})
    return {**made, "timestamp": time_}


def _call(event: str, message: str, user: str, properties: dict[str, Any]) -> dict[str, Any]:
    context = {"groupId": user, "library": {"name": "analytics-node", "version": "3.1.0"}}
    return {
        "type": "track",
        "event": event,
        "messageId": message,
        "userId": user,
        "context": context,
        "properties": properties,
    }


def _encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


if __name__ == "__main__":
    main()
