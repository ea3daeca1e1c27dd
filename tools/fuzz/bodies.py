"""Sends requests with calls to the application, judges what became of them, and looks at all that is stored."""

import gc
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

from tools.fuzz.calls import StoredCall, to_call
from tools.fuzz.model import Model
from tools.fuzz.readers import Readers
from tools.fuzz.requests import Request, make_request, read_captures, to_plain, to_text, with_body
from tools.fuzz.shrink import shrink
from tools.fuzz.tally import Finding, Tally
from tools.fuzz.target import Answer, Fault, Target, resident_bytes

BLOCK = 500
"""Requests between two looks at what is stored, at the log and at the memory."""

_SHARE = 0.05
"""Of the time, for the lists and for the commands each: what looks at all that is stored takes longer and longer."""

_COMMANDS_LIMIT = 10_000
_FORK = get_context("fork")
_TELL_SECONDS = 10.0

_WARM_UP = 0.25
"""Of all blocks; what the process holds after them it may hold on to."""

_GROWTH_BYTES = 64 << 20
_FAULTS_MAX = 20
_RECEIPT = ("stored", "duplicate", "conflict", "ignored", "rejected")


class _Review:
    """A look at all that is stored. It takes longer the more that is, so it comes the more rarely."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._due_at = 0.0

    def is_due(self) -> bool:
        """Tell whether it has had less than its share of the time."""
        return time.monotonic() >= self._due_at

    def run(self) -> None:
        """Do it. Raises Fault."""
        began = time.monotonic()
        try:
            self._work()
        finally:
            ended = time.monotonic()
            self._due_at = ended + (ended - began) / _SHARE


def _run_commands(readers: Readers, sender: Connection) -> None:
    # What was open before the fork is the parent's, and must not be closed here.
    gc.freeze()
    try:
        readers.run_commands(_COMMANDS_LIMIT)
    except Fault as error:
        sender.send((str(error), readers.slowest))
    else:
        sender.send((None, readers.slowest))


class BodyFuzzer:
    """One run over one target."""

    def __init__(
        self, target: Target, folder: Path, readers: Readers, *, seed: int, tell: Callable[[str], None]
    ) -> None:
        """`folder`: for its files."""
        self._target = target
        self._folder = folder
        self._seed = seed
        self._captures = read_captures()
        self._model = Model(folder / "model.db")
        self._readers = readers
        self.tally = Tally(slowest=readers.slowest)
        self._tell = tell
        self._kinds: Counter[str] = Counter()
        self._lists = _Review(self._look_at_lists)
        self._commands = _Review(self._run_commands)
        self._listed = 0
        self._told_at = 0.0
        self._last_request = 0
        self._numbers: dict[int, int] = {}
        """The number of each request of this block, by its id."""

    def run(self, first: int, count: int, until: float = math.inf) -> Tally:
        """Send `count` requests from number `first` on. Faults are told, kept and counted; it goes on after them.

        `until`: when to end sooner, on the clock of `time.monotonic`.
        """
        numbers = iter(range(first, first + count))
        while block := list(itertools.islice(numbers, BLOCK)):
            began = self._last_request
            self._numbers.clear()
            for number in block:
                self._send(number)
            last = block[-1] == first + count - 1 or time.monotonic() > until
            self._try(None, self._look, began)
            self._try(None, self._target.fold)
            for review in (self._lists, self._commands):
                if last or review.is_due():
                    self._try(None, review.run)
            for fault in self._target.read_log():
                self._note(fault, None)
            self.tally.resident.append(resident_bytes())
            self.tally.judged, self.tally.looked = self._model.judged, self._readers.looked
            if last or time.monotonic() - self._told_at > _TELL_SECONDS:
                self._told_at = time.monotonic()
                self._tell(self._line())
            if len(self.tally.faults) >= _FAULTS_MAX:
                self._tell("too many faults: it ends here")
                break
            if last:
                break
        self._try(None, self._check_memory)
        for finding in self.tally.faults:
            self._make_small(finding)
        self._model.close()
        return self.tally

    def _look_at_lists(self) -> None:
        since, self._listed = self._listed, self._last_request
        self._readers.look_at_all(since)
        self.tally.reviews["lists"] += 1
        self._check_balance()
        self.tally.reviews["ledger balanced"] += 1

    def _run_commands(self) -> None:
        # As elsewhere, in a process of their own: what is measured here is what the service holds.
        receiver, sender = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_run_commands, args=(self._readers, sender))
        process.start()
        sender.close()
        try:
            fault, slowest = receiver.recv()
        except EOFError:
            process.join()
            raise Fault(f"commands ended: with code {process.exitcode}") from None
        process.join()
        self._readers.slowest.update(slowest)
        if fault is not None:
            raise Fault(fault)
        self.tally.reviews["commands"] += 1

    def _send(self, number: int) -> None:
        request = make_request(self._seed, number, self._captures)
        self.tally.requests += 1
        try:
            answer = self._target.send(request, by_flask=number % 5 == 0)
            self.tally.statuses[answer.status] += 1
            self._check_answer(number, request, answer)
        except Fault as fault:
            self._note(fault, number)
            # What it stored all the same belongs to no other request.
            self._last_request = self._newest_request()

    def _check_answer(self, number: int, request: Request, answer: Answer) -> None:
        """Hold an answer against what is stored: one request's calls, or none."""
        rows = self._target.execute(
            "SELECT id, '', 0 FROM requests WHERE id > :id UNION ALL SELECT request_id, outcome, count(*) FROM calls"
            " WHERE id > :id AND request_id > :id GROUP BY request_id, outcome ORDER BY 1, 3",
            id=self._last_request,
        )
        ids = {row[0] for row in rows}
        document: dict[str, Any] = json.loads(answer.body) if answer.body else {}
        if answer.status >= 400:
            native = request.path.startswith("/api/track") and "success" in document
            if not native and set(document) != {"code", "message"}:
                raise Fault(f"answer shape: {answer.status} {answer.text[:300]}")
            if rows and not native:
                raise Fault(f"answer {answer.status}: a refused request stored calls")
        if not rows:
            if document.get("received"):
                raise Fault(f"answer lost: {answer.text[:300]} and nothing is stored")
            return
        if len(ids) > 1:
            raise Fault(f"answer twice: one request is stored as {len(ids)}")
        self._last_request = rows[0][0]
        self._numbers[self._last_request] = number
        if "received" in document:
            counts = {outcome: count for _, outcome, count in rows if count}
            said = {name: document[name] for name in _RECEIPT if document[name]}
            if counts != said or sum(said.values()) != document["received"]:
                raise Fault(f"answer receipt: {answer.text[:300]} and stored is {counts}")

    def _look(self, after: int) -> None:
        """Judge the calls of the requests after an id, and look at them one by one."""
        for request_id, calls in self._stored(after):
            self.tally.calls += len(calls)
            self.tally.outcomes.update(call.outcome for call in calls)
            self.tally.routes.update(call.route for call in calls)
            number = self._numbers.get(request_id)
            self._try(number, self._model.judge, calls)
            for call in calls:
                self._try(number, self._readers.look_at, call)

    def _stored(self, after: int) -> Iterator[tuple[int, list[StoredCall]]]:
        """Give each request after an id with its stored calls."""
        made: dict[int, list[tuple[str, int, str]]] = {}
        for call_id, lane, position, identifier in self._target.execute(
            "SELECT call_id, lane, position, idempotency_id FROM events WHERE call_id > :id", id=after
        ):
            made.setdefault(call_id, []).append((lane, position, identifier))
        rows = self._target.execute(
            "SELECT c.id, c.route, c.raw, c.outcome, c.reason, c.detail, c.results, r.envelope, c.request_id"
            " FROM calls c LEFT JOIN requests r ON r.id = c.request_id WHERE c.id > :id AND c.request_id > :id"
            " ORDER BY c.request_id, c.position",
            id=after,
        )
        for request_id, group in itertools.groupby(rows, key=itemgetter(8)):
            yield request_id, [to_call(row, made.get(row[0], ())) for row in group]

    def _newest_request(self) -> int:
        return int(self._target.execute("SELECT coalesce(max(id), 0) FROM requests")[0][0])

    def _check_balance(self) -> None:
        """Hold the ledger, the tables and what senders were told against each other."""
        counted = Counter(dict(self._target.execute("SELECT outcome, count(*) FROM calls GROUP BY outcome")))
        ledger = Counter(
            {
                (subject, outcome): int(total)
                for subject, outcome, total in self._target.execute(
                    "SELECT subject, outcome, sum(count) FROM ledger GROUP BY subject, outcome"
                )
            }
        )
        calls = Counter({outcome: total for (subject, outcome), total in ledger.items() if subject == "call"})
        if calls != counted:
            raise Fault(f"ledger calls: {calls} and stored are {counted}")
        events = self._target.execute("SELECT count(*) FROM events")[0][0]
        if ledger["event", "stored"] != events:
            raise Fault(f"ledger events: {ledger['event', 'stored']} and stored are {events}")

    def _check_memory(self) -> None:
        resident = self.tally.resident
        if len(resident) < 8:
            return
        warm = resident[: max(2, int(len(resident) * _WARM_UP))]
        grown = int(median(resident[-4:])) - max(warm)
        if grown > _GROWTH_BYTES:
            raise Fault(f"memory: it grew by {grown >> 20} MB after {len(warm)} of {len(resident)} blocks")

    def _try(self, number: int | None, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Fault as fault:
            self._note(fault, number)

    def _note(self, fault: Fault, number: int | None) -> None:
        """Keep a fault with its request; of one kind only the first."""
        self._kinds[fault.kind] += 1
        if self._kinds[fault.kind] > 1:
            return
        finding = Finding(fault, number)
        if number is not None:
            finding.file = self._folder / f"fault-{len(self.tally.faults)}.http"
            finding.file.write_bytes(to_text(make_request(self._seed, number, self._captures)))
        self.tally.faults.append(finding)
        where = "no request alone" if number is None else f"--seed {self._seed} --first {number} --bodies 1"
        self._tell(f"FAULT ({where}) {fault}")

    def _make_small(self, finding: Finding) -> None:
        """Make the request of a fault as small as it still shows it, where it shows it alone."""
        if finding.number is None or finding.file is None:
            return
        request = to_plain(make_request(self._seed, finding.number, self._captures))
        kind = finding.fault.kind
        if self._find_kind(request) != kind:
            self._tell(f"not to be seen alone: {kind}")
            return
        body = shrink(request.body, lambda body: self._find_kind(with_body(request, body)) == kind)
        small = with_body(request, body)
        finding.file.write_bytes(to_text(small))
        self._tell(f"SMALL {kind}: {small.method} {small.path} {small.body[:1000]!a} (in {finding.file})")

    def _find_kind(self, request: Request) -> str | None:
        """Send a request, look at its calls, and return the kind of the fault that this shows."""
        before = self._newest_request()
        try:
            self._target.send(request)
            readers = Readers(self._target, self._folder, each_kind=None, commands=9)
            for _, calls in self._stored(before):
                for call in calls:
                    readers.look_at(call)
            self._target.fold()
        except Fault as fault:
            return fault.kind
        return None

    def _line(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.tally.outcomes.items()))
        resident = self.tally.resident[-1] >> 20
        return f"{self.tally.requests} requests, {self.tally.calls} calls ({outcomes}), {resident} MB"
