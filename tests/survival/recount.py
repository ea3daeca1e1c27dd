"""A second count, from the raw calls alone: which events there must be, at which price, and how each call ended."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from app.forward.sql_deliveries import DeliveryState
from app.store.ledger import CALL, DELIVERY, EVENT, VOIDED, Entry, sum_counts
from app.store.schema import calls, deliveries, events
from tests.survival.lanes import MAIN, SECOND, Seats
from tests.survival.oddities import OddBook
from tests.survival.whole import opened


@dataclass
class Recount:
    """What is in the database, sorted by what the calls are about."""

    calls: dict[str, list[sa.Row[Any]]]
    """By Segment's event name, the oldest first."""
    live: dict[str, list[sa.Row[Any]]]
    """The events that count, by Segment's event name."""
    void: int
    counts: Counter[Entry]
    waiting: set[int]
    """The events that are to reach Lotus."""
    delivery_states: Counter[str]

    @classmethod
    def read(cls, url: str) -> "Recount":
        """Read all of it in one transaction."""
        with opened(url) as database, database.reading() as conn:
            rows = conn.execute(sa.select(calls).order_by(calls.c.id)).all()
            made = conn.execute(sa.select(events).order_by(events.c.id)).all()
            outbox = conn.execute(sa.select(deliveries.c.event_id, deliveries.c.state)).all()
            counts = sum_counts(conn)
        names = {row.id: row.event for row in rows}
        live = [event for event in made if event.voided_at is None]
        return cls(
            calls=_by_name(rows, [row.event for row in rows]),
            live=_by_name(live, [names[event.call_id] for event in live]),
            void=len(made) - len(live),
            counts=counts,
            waiting={row.event_id for row in outbox if row.state == DeliveryState.WAITING},
            delivery_states=Counter(row.state for row in outbox),
        )

    def check_ledger(self) -> None:
        """The ledger balances, and what counts, and nothing else, is to reach Lotus once."""
        rows = [row for some in self.calls.values() for row in some]
        in_ledger = {entry[1:]: count for entry, count in self.counts.items() if entry[0] == CALL and count}
        assert in_ledger == Counter((row.outcome, row.reason or "") for row in rows)
        live = {event.id for some in self.live.values() for event in some}
        assert self.counts[EVENT, "stored", ""] == len(live) + self.void
        assert self.counts[EVENT, VOIDED, ""] == self.void
        assert self.waiting == live
        queued = Counter({entry[1]: count for entry, count in self.counts.items() if entry[0] == DELIVERY})
        assert +queued == self.delivery_states

    def check_lines(self, messages: set[str], price: int) -> set[str]:
        """Each line of the orders counts once at this price; return the lines."""
        rows = self.calls["Order"]
        assert messages <= {row.message_id for row in rows}
        wanted = {line for row in rows for line in json.loads(row.raw)["properties"]["lines"]}
        live = Counter(_base(event) for event in self.live["Order"])
        assert set(live) == wanted
        assert set(live.values()) == {1}
        assert {json.loads(event.properties)["price"] for event in self.live["Order"]} == {price}
        # Of one line all calls say the same, by whatever version they came: nothing is a conflict.
        assert {row.outcome for row in rows} == {"stored", "duplicate"}
        return wanted

    def check_odd_calls(self, book: OddBook, price: int) -> None:
        """Each odd call ended as the contract has it, and the first of a message has its event, if it can."""
        ends: defaultdict[bytes, Counter[str]] = defaultdict(Counter)
        # A name that no index can hold is kept in another form, so these are found by their bytes.
        for row in (row for some in self.calls.values() for row in some if row.raw in book.outcomes):
            ends[row.raw][row.outcome] += 1
        assert ends == {raw: Counter(outcomes) for raw, outcomes in book.outcomes.items()}
        made = {_base(event): event for event in self.live["Odd"]}
        assert len(made) == len(self.live["Odd"])
        assert made.keys() == book.events.keys()
        for message, properties in book.events.items():
            kept = json.loads(made[message].properties, parse_float=Decimal)
            assert kept == {**properties, "price": price}, message

    def check_seats(self, seats: Seats, prices: Sequence[int]) -> int:
        """No message counts twice or is lost, whatever moved; return how many calls a correction leaves whole."""
        firsts = {row.message_id: json.loads(row.raw)["properties"]["n"] for row in reversed(self.calls["Seat"])}
        assert seats.lanes.keys() <= firsts.keys()
        made: defaultdict[str, list[sa.Row[Any]]] = defaultdict(list)
        messages = {row.id: row.message_id for row in self.calls["Seat"]}
        for event in self.live["Seat"]:
            made[messages[event.call_id]].append(event)
        left = set()
        for message, n in firsts.items():
            lanes = {event.lane for event in made[message]}
            assert len(made[message]) == len(lanes), f"{message} counts twice in a lane"
            assert lanes in seats.allowed(message), f"{message} has events in {lanes}"
            # Who came first makes all of it; only what a replay filled may be of another call with the same content.
            assert len({event.call_id for event in made[message] if event.lane != SECOND}) == 1, message
            for call_id in {event.call_id for event in made[message]}:
                own = [event for event in made[message] if event.call_id == call_id]
                whole = seats.is_whole({event.lane for event in own})
                left |= set() if whole else {call_id}
                for event in own:
                    self._check_seat(seats, message, n, event, prices[-1:] if whole else prices)
        self._check_ends(seats, firsts)
        return len(left)

    def _check_seat(self, seats: Seats, message: str, n: int, event: "sa.Row[Any]", prices: Sequence[int]) -> None:
        found = {
            "event_name": event.event_name,
            "base": _base(event),
            "properties": json.loads(event.properties),
        }
        allowed = [seats.expect(message, n, event.lane, price) for price in prices]
        if len(prices) > 1 and event.lane == MAIN:
            # Left whole, it is what the main lane was at some time.
            was = [{**allowed[0], "event_name": "Seat", "properties": {"n": n}}]
            was += [{**allowed[0], "event_name": "seats", "properties": {"n": n, "price": price}} for price in prices]
            allowed = was
        assert found in allowed, message

    def _check_ends(self, seats: Seats, firsts: dict[str, int]) -> None:
        """What was sent again is a duplicate, with other content a conflict."""
        seen = set()
        for row in self.calls["Seat"]:
            if row.message_id not in seats.lanes:
                assert row.outcome in {"stored", "duplicate"}
                continue
            equal = json.loads(row.raw)["properties"]["n"] == firsts[row.message_id]
            again = "duplicate" if equal else "conflict"
            assert row.outcome == (again if row.message_id in seen else "stored"), row.message_id
            seen.add(row.message_id)


def _by_name(rows: Sequence["sa.Row[Any]"], names: Sequence[str]) -> dict[str, list["sa.Row[Any]"]]:
    sorted_: defaultdict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row, name in zip(rows, names, strict=True):
        sorted_[name].append(row)
    return sorted_


def _base(event: "sa.Row[Any]") -> str:
    """Return the id that the transform gave it, before any correction."""
    return event.base_id or event.idempotency_id  # type: ignore[no-any-return]
