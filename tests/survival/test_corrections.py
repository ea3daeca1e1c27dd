"""Corrections while two nodes take calls: publishes, kill -9 of replays and of a node, and then every price is right.

Each order holds lines that other orders hold, too, and is sent again now and then. Whatever came when, and whatever was
killed, each line counts once, at the last price. The judge reads tables, and knows nothing of how they are written.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.store.ledger import CALL, EVENT, sum_counts
from app.store.schema import calls, events
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, ROOT, WEBHOOK, Served, served, signed
from tests.survival.load import Load
from tests.survival.whole import opened

pytestmark = pytest.mark.survival

TRANSFORM = """\
match: {event: Order}
each: properties.lines
event:
  event_name: {const: line}
  idempotency_id: item
  customer_id: {const: acme}
  properties: {line: item, price: '`%d`'}
"""
DEFAULT = """\
match: {type: track}
event:
  {event_name: event, idempotency_id: messageId, customer_id: userId, time_created: timestamp, properties: properties}
"""
PRICES = 3
PAGES = ("/", "/calls", "/problems", "/replays", "/transforms", "/api/v1/calls", "/api/v1/events", "/api/v1/ledger")


def an_order(message_id: str) -> bytes:
    """Return the raw order of a message; three messages in a row share lines."""
    sender, _, number = message_id.removesuffix("-again").partition("~")
    lines = [f"{sender}/{(int(number) + place) // 2}" for place in range(3)]
    return to_raw(a_document(messageId=f"{sender}~{number}", event="Order", properties={"lines": sorted({*lines})}))


def by_order(ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    """Send orders as Segment sends them; each fifth message is sent twice."""
    items = []
    for id_ in ids:
        sender, number, place = id_.rsplit("-", 2)
        message = int(number) * 20 + int(place)
        items.append(an_order(f"{sender}~{message - message % 5 if message % 5 == 1 else message}"))
    if len(items) == 1:
        return WEBHOOK, items[0], signed(items[0])
    return WEBHOOK, b"[" + b",".join(items) + b"]", signed(b"", over=items[0])


class Shell:
    """Commands as an operator types them, on the same database."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "transforms").mkdir()
        (folder / "transforms" / "_default.yaml").write_text(DEFAULT)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url,
            "SEGMENT_SHARED_SECRETS": SECRET,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "TRANSFORMS_DIR": str(folder / "transforms"),
        }

    @property
    def transforms(self) -> str:
        """The folder of the files, which the nodes watch, too."""
        return self._environment["TRANSFORMS_DIR"]

    def write(self, price: int) -> None:
        """Change the file: it publishes itself."""
        (Path(self.transforms) / "order.yaml").write_text(TRANSFORM % price)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command."""
        command = [sys.executable, "-m", "app.service", *words]
        return subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str) -> str:
        """Run a command to its end; return what it says."""
        process = self.begin(*words)
        output, trouble = process.communicate(timeout=100)
        assert process.returncode == 0, trouble
        return output


def wait_for_price(url: str, price: int) -> None:
    """Wait until calls that come in are mapped at a price."""
    query = sa.select(sa.func.count()).where(events.c.properties.contains(f'"price":{price}'))
    until = time.monotonic() + 30
    with opened(url) as database:
        while time.monotonic() < until:
            with database.reading() as conn:
                if conn.execute(query).scalar_one():
                    return
            time.sleep(0.1)
    raise AssertionError(f"nothing is mapped at the price {price}")


def judge(url: str, messages: set[str], price: int) -> None:
    """Recompute from the raw calls which lines there are, and hold the events that count against them."""
    with opened(url) as database, database.reading() as conn:
        rows = conn.execute(sa.select(calls.c.raw, calls.c.outcome, calls.c.message_id)).all()
        columns = (events.c.idempotency_id, events.c.base_id, events.c.properties, events.c.voided_at)
        made = conn.execute(sa.select(*columns)).all()
        counts = sum_counts(conn)
    wanted = {line for row in rows for line in json.loads(row.raw)["properties"]["lines"]}
    assert messages <= {row.message_id for row in rows}
    live = Counter(row.base_id or row.idempotency_id for row in made if row.voided_at is None)
    assert set(live) == wanted
    assert set(live.values()) == {1}
    assert {json.loads(row.properties)["price"] for row in made if row.voided_at is None} == {price}
    in_ledger: Counter[str] = Counter()
    for (kind, outcome, _reason), count in counts.items():
        in_ledger[outcome] += count if kind == CALL else 0
    # Of one line all calls say the same, by whatever version they came: nothing is a conflict.
    assert +in_ledger == Counter(row.outcome for row in rows)
    assert {outcome for outcome, count in in_ledger.items() if count} == {"stored", "duplicate"}
    assert counts[EVENT, "stored", ""] == len(made)


def read_everything(node: Served) -> None:
    """Read pages and routes as they are after all that: none fails."""
    sign_in = node.request(
        "POST", "/sign-in", f"token={ADMIN_TOKEN}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    cookie = {"Cookie": sign_in.headers["set-cookie"].partition(";")[0]}
    for path in PAGES:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if path.startswith("/api") else cookie
        assert node.request("GET", path, headers=headers).status == 200, path


def test_after_publishes_corrections_and_kills_on_two_nodes_each_line_counts_once_at_the_last_price(
    database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(12)  # noqa: S311  the same order of kills in each run
    shell = Shell(database_url, tmp_path / "shell")
    shell.write(1)
    sent: set[str] = set()
    with served(database_url, tmp_path / "one", WEB_CONCURRENCY="1", TRANSFORMS_DIR=shell.transforms) as first:
        with served(database_url, tmp_path / "two", WEB_CONCURRENCY="1", TRANSFORMS_DIR=shell.transforms) as second:
            loads = [Load(first, 2, "first", (by_order,)), Load(second, 2, "second", (by_order,))]
            with loads[0], loads[1]:
                for price in range(2, PRICES + 1):
                    shell.write(price)
                    wait_for_price(database_url, price)
                    # On a node that may not have heard of it, and broken off at some moment.
                    for _ in range(2):
                        replay = shell.begin("replay", "--correct", "--yes")
                        time.sleep(0.8 + chance.random())
                        replay.kill()
                        replay.communicate()
                    if price == PRICES:
                        second.kill9()
                        # What the node that is alive takes meanwhile is a part of it.
                        time.sleep(0.5)
            for load in loads:
                sent |= {str(json.loads(by_order([id_])[1])["messageId"]) for id_ in load.answered}
        shell.run("replay", "--correct", "--yes")
        judge(database_url, sent, PRICES)
        summary = json.loads(shell.run("replay", "--correct", "--yes", "--json"))
        assert (summary["corrected"], summary["changed"]) == (0, {})
        read_everything(first)
    assert len(sent) > 100
