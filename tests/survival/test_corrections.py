"""Corrections while two nodes take calls: publishes, kill -9 of replays and of a node, and then every number is right.

Orders hold lines that other orders hold, too. Seats are counted by a transform that moves from lane to lane. Odd calls
come again in other spellings and with other content. All is sent again now and then, to either node. Whatever came
when, and whatever was killed, each line and seat counts once, at the last price, and everything can be read afterwards.
The judge reads tables, and knows nothing of how they are written.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from app.store.schema import calls, events
from tests.builders import a_document, to_raw
from tests.forward.forwarding import KEY
from tests.served import ADMIN_TOKEN, WEBHOOK, Served, served, signed
from tests.survival.conftest import Play
from tests.survival.lanes import DEFAULT, MAIN, SECOND, Files, Seats, a_seat, walk
from tests.survival.load import Load
from tests.survival.oddities import OddBook, an_odd_call, shuffled
from tests.survival.recount import Recount
from tests.survival.shell import Shell
from tests.survival.views import Things, read_pages, run_commands
from tests.survival.whole import opened

# It takes half a minute on a quiet machine; this only shows that it does not hang.
pytestmark = [pytest.mark.survival, pytest.mark.timeout(600)]

ORDER = """\
match: {event: Order}
each: properties.lines
event:
  event_name: {const: line}
  idempotency_id: item
  customer_id: {const: acme}
  properties: {line: item, price: '`%d`'}
"""
ODD = """\
match: {event: Odd}
event: {event_name: {const: odd}, properties: 'merge(properties || `{}`, {price: `%d`})'}
"""
DEFAULT_TEXT = """\
match: {type: track}
event:
  {event_name: event, idempotency_id: messageId, customer_id: userId, time_created: timestamp, properties: properties}
"""
METRICS = {
    "lines": "{metric_type: counter, event_name: line, usage_aggregation_type: sum, property_name: price}",
    "line_price": "{metric_type: counter, event_name: line, usage_aggregation_type: latest, property_name: price}",
    "seats": "{metric_type: counter, event_name: seats, usage_aggregation_type: sum, property_name: n}",
    "odd": "{metric_type: counter, event_name: odd, usage_aggregation_type: sum, property_name: n, group_by: [x]}",
    "odd_ones": "{metric_type: counter, event_name: odd, usage_aggregation_type: unique, property_name: n}",
    "odd_level": "{metric_type: gauge, event_name: odd, event_type: delta, property_name: n, granularity: days}",
}
_SECONDS = 120


def an_order(message_id: str) -> bytes:
    """Return the raw order of a message; three messages in a row share lines."""
    sender, _, number = message_id.partition("~")
    lines = [f"{sender}/{(int(number) + place) // 2}" for place in range(3)]
    return to_raw(a_document(messageId=message_id, event="Order", properties={"lines": sorted({*lines})}))


def to_message(id_: str) -> str:
    """Return the message that the load sends under its id: each fifth one is sent twice."""
    sender, number, place = id_.rsplit("-", 2)
    message = int(number) * 20 + int(place)
    return f"{sender}~{message - message % 5 if message % 5 == 1 else message}"


def to_request(items: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers with which Segment sends these calls."""
    return (items[0] if len(items) == 1 else b"[" + b",".join(items) + b"]"), signed(items[0])


def by_order(ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    """Send orders as Segment sends them."""
    return WEBHOOK, *to_request([an_order(to_message(id_)) for id_ in ids])


def by_seat(ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    """Send seats as Segment sends them."""
    return WEBHOOK, *to_request([a_seat(to_message(id_)) for id_ in ids])


class World:
    """Two nodes on one database, a shell, and what has to become of all that is sent."""

    def __init__(self, url: str, folder: Path, chance: Random) -> None:
        self.url = url
        self.chance = chance
        self.shell = Shell(url, folder / "shell")
        self.seats = Seats(self.shell.transforms, lambda name: self.shell.run("transforms", "publish", name, "--yes"))
        self.book = OddBook()
        self.price = 0
        self.nodes: list[Served] = []
        self._odd = shuffled(chance)
        self._probes = 0
        (self.shell.transforms / f"{DEFAULT}.yaml").write_text(DEFAULT_TEXT)
        for name, text in METRICS.items():
            (self.shell.metrics / f"{name}.yaml").write_text(text)

    def serve(self, folder: Path) -> AbstractContextManager[Served]:
        """Start a node. It knows Lotus's key, and no worker runs."""
        return served(
            self.url,
            folder,
            WEB_CONCURRENCY="1",
            TRANSFORMS_DIR=str(self.shell.transforms),
            METRICS_DIR=str(self.shell.metrics),
            LOTUS_HOST="http://127.0.0.1:9",
            LOTUS_API_KEY=KEY,
        )

    def raise_price(self) -> None:
        """Change the files: they publish themselves."""
        self.price += 1
        for name, text in (("order", ORDER), ("odd", ODD)):
            (self.shell.transforms / f"{name}.yaml").write_text(text % self.price)

    def post(self, node: Served, items: Sequence[bytes]) -> Counter[str]:
        """Send calls; return what became of them."""
        until = time.monotonic() + _SECONDS
        # A replay may hold a slow database for longer than a request waits: then nothing of it is stored.
        while (answer := node.post(*to_request(items))).status == 503 and time.monotonic() < until:
            time.sleep(0.2)
        assert answer.status == 200, answer
        return Counter({name: count for name, count in answer.json.items() if count and name != "received"})

    def wait_until_spread(self) -> None:
        """Wait until each node maps by the files as they are."""
        for node in self.nodes:
            until = time.monotonic() + _SECONDS
            while not self._is_mapped(self._probe(node)):
                assert time.monotonic() < until, f"no node maps {self.seats.files} at the price {self.price}"
                time.sleep(0.1)

    def _probe(self, node: Served) -> str:
        self._probes += 1
        message = f"probe~{self._probes * 10}"
        odd = an_odd_call(f"odd {message}")
        assert self.book.take([odd]) == {"stored": 1}
        assert self.post(node, [an_order(message), a_seat(f"seat {message}"), odd.raw]) == {"stored": 3}
        return message

    def _is_mapped(self, message: str) -> bool:
        query = (
            sa.select(events.c.lane, events.c.event_name, events.c.properties)
            .join(calls, calls.c.id == events.c.call_id)
            .where(calls.c.message_id.in_([message, f"seat {message}", f"odd {message}"]))
        )
        with opened(self.url) as database, database.reading() as conn:
            rows = conn.execute(query).all()
        prices = {json.loads(row.properties).get("price", self.price) for row in rows}
        rows = [row for row in rows if row.event_name not in {"line", "odd"}]
        lanes = {row.lane for row in rows}
        names = {row.event_name for row in rows if row.lane == MAIN}
        main = "Seat" if self.seats.files.main == DEFAULT else "seats"
        return prices == {self.price} and lanes == self.seats.files.lanes and names == {main}

    def send_seats(self) -> None:
        """Send some for the first time, each node's share, and earlier ones again: with their content, or another."""
        for node in self.nodes:
            fresh = [f"known {len(self.seats.lanes) + place}" for place in range(4)]
            assert self.post(node, [a_seat(message) for message in fresh]) == {"stored": len(fresh)}
            self.seats.note(fresh)
            again = self.chance.choices(sorted(self.seats.lanes), k=12)
            assert self.post(node, [a_seat(message) for message in again]) == {"duplicate": len(again)}
            assert self.post(node, [a_seat(message, more=1) for message in again[:3]]) == {"conflict": 3}

    def send_odd(self, share: int) -> None:
        """Send a share of the odd calls, in batches of any size, to either node."""
        count = len(self._odd) // share
        portion, self._odd = self._odd[:count], self._odd[count:]
        while portion:
            size = self.chance.randint(1, 12)
            batch, portion = portion[:size], portion[size:]
            expected = self.book.take(batch)
            taken = self.post(self.chance.choice(self.nodes), [call.raw for call in batch])
            assert taken == expected, [(call.message, call.raw[-40:]) for call in batch]

    def break_off(self, *words: str) -> None:
        """Begin a replay and kill it at some moment."""
        replay = self.shell.begin("replay", *words, "--yes")
        time.sleep(0.6 + self.chance.random())
        replay.kill()
        replay.communicate()

    def move(self, steps: Sequence[Files]) -> None:
        """Move lanes and change all prices, with corrections that are broken off before and after all nodes know."""
        self.raise_price()
        for files in steps:
            self.seats.step(files, self.price)
        self.break_off("--correct")
        self.wait_until_spread()
        self.send_seats()
        self.send_odd(self.chance.randint(2, 4))
        if SECOND in self.seats.files.also and self.chance.random() < 0.5:
            self.break_off("--transform", SECOND)
            self.shell.run("replay", "--transform", SECOND, "--yes")
            self.seats.note_fill()

    def resend(self, loads: Sequence[Load]) -> None:
        """Send what was answered again, all of it, cut otherwise, to any node."""
        for load in loads:
            messages = [to_message(id_) for id_ in load.answered]
            # A load of two threads: the first sends orders, the second seats.
            some = self.chance.sample(messages, min(len(messages), 300))
            items = [an_order(m) if m.partition("~")[0].endswith("-0") else a_seat(m) for m in some]
            node = self.chance.choice(self.nodes)
            for start in range(0, len(items), 37):
                part = items[start : start + 37]
                assert self.post(node, part) == {"duplicate": len(part)}

    def judge(self, orders: set[str], left: dict[str, int]) -> None:
        """Count again from the raw calls, and hold against it what is there, and what a correction left as it was."""
        recount = Recount.read(self.url)
        recount.check_ledger()
        lines = recount.check_lines(orders, self.price)
        recount.check_odd_calls(self.book, self.price)
        whole = recount.check_seats(self.seats, range(1, self.price + 1))
        assert sum(count for why, count in left.items() if "no event in the lane" in why) == whole
        seats = sum(json.loads(event.properties)["n"] for event in recount.live["Seat"] if event.event_name == "seats")
        for metric, value in (("lines", len(lines) * self.price), ("line_price", self.price), ("seats", seats)):
            period = "start=2026-10-01&end=2026-12-01&include_future=true&verify=1"
            answer = self.nodes[0].get(f"/api/v1/metrics/{metric}/usage?{period}", ADMIN_TOKEN)
            assert answer.status == 200, answer
            assert answer.json["verified"] is True
            assert [row["value"] for row in answer.json["rows"]] == ([str(value)] if value else [])


def play(url: str, folder: Path, seed: int) -> None:
    """Let it all happen on one database."""
    chance = Random(seed)  # noqa: S311  the same order of moves, sends and kills
    world = World(url, folder, chance)
    world.raise_price()
    world.seats.write(world.price)
    with ExitStack() as stack:
        for name in ("one", "two"):
            world.nodes.append(stack.enter_context(world.serve(folder / name)))
        first, second = nodes = tuple(world.nodes)
        ways = (by_order, by_seat)
        loads = [
            stack.enter_context(Load(node, 2, f"load{place}", ways, pause_seconds=0.2))
            for place, node in enumerate(nodes)
        ]
        world.wait_until_spread()
        world.send_seats()
        for steps in walk(chance):
            world.move(steps)
        world.nodes.remove(second)
        second.kill9()
        # What the node that is alive takes meanwhile is a part of it.
        world.break_off("--correct")
        for load in loads:
            load.stop()
        world.resend(loads)
        world.send_odd(1)
        world.shell.run("replay", "--correct", "--yes")
        world.send_seats()
        repeated = json.loads(world.shell.run("replay", "--correct", "--yes", "--json"))
        assert (repeated["corrected"], repeated["voided"], repeated["changed"]) == (0, [], {})
        orders = {to_message(id_) for load in loads for id_ in load.answered if id_.startswith(f"{load.name}-0")}
        world.judge(orders, repeated["left"])
        things = Things.find(url, world.book.outcomes, chance)
        assert read_pages(first, things) == []
        assert run_commands(world.shell, things) == []
        for node in nodes:
            assert "Traceback" not in node.output()
    assert len(orders) > 50


def test_after_moves_corrections_and_kills_on_two_nodes_each_thing_counts_once_at_the_last_price_and_can_be_read(
    play_on_both: Callable[[Play], None],
) -> None:
    def play_by_chance(url: str, folder: Path) -> None:
        seed = secrets.randbits(32)
        try:
            play(url, folder, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

    # Both at once: a publication needs its time until it has reached all nodes for sure.
    play_on_both(play_by_chance)
