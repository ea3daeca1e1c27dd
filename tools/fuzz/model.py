"""What should have become of each call, computed anew from its stored bytes, by other means than the service's.

Of a call that anybody would take for a good one (`read_call` says which), the model knows the events by itself, and
tells new from duplicate from conflict by two dictionaries on disk. Of other calls it believes the service what events
they made, and goes on from there; whether they are well kept is for the readers to say.
"""

import json
import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from tools.fuzz.calls import MAIN, Event, Lanes, StoredCall, find_message, inherits_no_json, read_call
from tools.fuzz.target import Fault


class Model:
    """Knows who came first."""

    def __init__(self, file: Path) -> None:
        """`file`: where it remembers; a million calls must not stand in the memory that is measured."""
        self._db = sqlite3.connect(file, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -4096",
            "CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, content BLOB, loose BLOB) WITHOUT ROWID",
            # One for all: nobody else reads it, and each change would be a transaction.
            "BEGIN EXCLUSIVE",
        ):
            self._db.execute(statement)
        self.judged = 0
        """Calls of which it knew the events."""

    def judge(self, calls: Sequence[StoredCall]) -> None:
        """Hold the calls of one request, in their order, against what should have become of them. Raises Fault."""
        conflicts = len(calls) > 1 and any(call.outcome == "conflict" for call in calls)
        shared = _shared_keys(calls) if conflicts else set()
        for call in calls:
            known = read_call(call)
            if call.outcome not in {"rejected", "ignored"} and inherits_no_json(call):
                raise Fault(
                    f"judge beside: {call.outcome}, and beside its batch is no JSON: {(call.envelope or b'')[:2000]!a}"
                )
            if known is None:
                self._believe(call)
                continue
            self.judged += 1
            message, lanes = known
            if call.outcome in {"rejected", "ignored"}:
                raise Fault(f"judge {call.outcome} {call.reason}: a good call, {call.detail}: {call.raw[:2000]!a}")
            self._judge_lanes(call, message, lanes, ambiguous=shared)

    def _judge_lanes(self, call: StoredCall, message: str | None, lanes: Lanes, *, ambiguous: set[str]) -> None:
        actual = _actual_results(call, lanes)
        may_differ = message in ambiguous or any(event.id in ambiguous for lane in lanes.values() for event in lane)
        # A message is claimed once, whatever lanes it has.
        claimed = message is not None and self._find("claim", message, MAIN) is not None
        for name, events in lanes.items():
            allowed = [self._compare_lane(message, name, events)] * len(events) if claimed else self._try(events)
            for event, results, got in zip(events, allowed, actual[name], strict=True):
                if got not in results and not may_differ:
                    raise Fault(
                        f"judge {got}: of {event.id!a} in lane {name} it should be {' or '.join(sorted(results))}: "
                        f"{call.raw[:2000]!a}"
                    )
                if got == "stored":
                    self._keep(event, "event", event.id)
        if (
            message is not None
            and not claimed
            and {result for lane in actual.values() for result in lane} != {"conflict"}
        ):
            self._keep(_sum_up(next(iter(lanes.values()))), "claim", message, MAIN)
            for name, events in lanes.items():
                if set(actual[name]) != {"conflict"}:
                    self._keep(_sum_up(events), "claim", message, name)

    def _compare_lane(self, message: str | None, name: str, events: Sequence[Event]) -> set[str]:
        """Say what may become of the events of a lane whose message is claimed."""
        claim = self._find("claim", message or "", name)
        # The first call had no such lane: what it made first decides, and that takes more than is known here.
        return {"duplicate", "conflict"} if claim is None else self._compare(claim, _sum_up(events))

    def _try(self, events: Sequence[Event]) -> list[set[str]]:
        """Say what may become of each event of a lane whose message is new."""
        allowed = []
        for event in events:
            there = self._find("event", event.id)
            allowed.append(self._compare(there, event) if there else {"stored"})
        return allowed

    def _compare(self, there: tuple[bytes | None, bytes | None], event: Event) -> set[str]:
        content, loose = there
        if content is None or (content != event.content and loose == event.loose):
            # Unknown; or the same, spelled otherwise: today a conflict.
            return {"duplicate", "conflict"}
        return {"duplicate"} if content == event.content else {"conflict"}

    def _believe(self, call: StoredCall) -> None:
        """Take over what a call made of which only the service knows the events."""
        for _, _, identifier in call.events:
            self._keep(Event(identifier, b"", b""), "event", identifier, unknown=True)
        if call.outcome in {"rejected", "ignored"}:
            return
        message = find_message(call)
        if message is not None:
            results = json.loads(call.results) if call.results else []
            lanes = {str(result["lane"]) for result in results} | {lane for lane, _, _ in call.events}
            made = {
                lane
                for lane in lanes
                if {result["result"] for result in results if result["lane"] == lane} != {"conflict"}
            }
            for lane in {MAIN, *made} if made else ():
                self._keep(Event("", b"", b""), "claim", message, lane, unknown=True)

    def _find(self, *key: str) -> tuple[bytes | None, bytes | None] | None:
        row: tuple[bytes | None, bytes | None] | None = self._db.execute(
            "SELECT content, loose FROM seen WHERE key = ?", (_digest(key),)
        ).fetchone()
        return row

    def _keep(self, event: Event, *key: str, unknown: bool = False) -> None:
        values = (None, None) if unknown else (event.content, event.loose)
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (_digest(key), *values))

    def close(self) -> None:
        """Close its file."""
        self._db.execute("COMMIT")
        self._db.close()


def _sum_up(events: Sequence[Event]) -> Event:
    if len(events) == 1:
        return events[0]
    return Event("", b"".join(event.content for event in events), b"".join(event.loose for event in events))


def _actual_results(call: StoredCall, lanes: Lanes) -> dict[str, list[str]]:
    """Return what became of each event, as the database says. Raises Fault where that is not whole."""
    if call.results is None:
        made = {(lane, position): identifier for lane, position, identifier in call.events}
        should = {(lane, place): event.id for lane, events in lanes.items() for place, event in enumerate(events)}
        if call.outcome != "stored" or made != should:
            raise Fault(f"judge events: {made!a} and not {should!a}: {call.raw[:2000]!a}")
        return {lane: ["stored"] * len(events) for lane, events in lanes.items()}
    rows = {(row["lane"], row["position"]): (row["idempotency_id"], row["result"]) for row in json.loads(call.results)}
    found: dict[str, list[str]] = {}
    for lane, events in lanes.items():
        found[lane] = []
        for place, event in enumerate(events):
            identifier, result = rows.pop((lane, place), (None, ""))
            if identifier != event.id:
                raise Fault(f"judge results: {identifier!a} and not {event.id!a}: {call.raw[:2000]!a}")
            found[lane].append(result)
    results = {result for results in found.values() for result in results}
    outcome = next((word for word in ("conflict", "stored", "duplicate") if word in results), "")
    if rows or outcome != call.outcome:
        raise Fault(f"judge outcome: {call.outcome}, of {sorted(results)}: {call.raw[:2000]!a}")
    return found


def _shared_keys(calls: Sequence[StoredCall]) -> set[str]:
    """Return ids that several calls of a request have, where one of these calls conflicts: their order is free."""
    owners: dict[str, set[int]] = {}
    conflicting: set[int] = set()
    for call in calls:
        known = read_call(call)
        keys = {find_message(call) or ""} | {event[2] for event in call.events}
        if known is not None:
            keys |= {event.id for lane in known[1].values() for event in lane}
        for key in keys - {""}:
            owners.setdefault(key, set()).add(call.id)
        if call.outcome == "conflict":
            conflicting.add(call.id)
    return {key for key, ids in owners.items() if len(ids) > 1 and ids & conflicting}


def _digest(key: Sequence[str]) -> bytes:
    return blake2b(json.dumps(key).encode(), digest_size=16).digest()
