"""Looks at what is stored in every way there is: pages, the JSON API, commands, the folds of the metrics."""

import gc
import json
import re
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from app.calls.review import to_whole_document
from app.calls.steps import list_steps
from app.calls.text import call_text
from app.core.outcome import REASONS_OF
from app.service.commands import main
from app.store.review import get_call
from tests.served import ADMIN_TOKEN
from tools.fuzz.calls import StoredCall
from tools.fuzz.target import METRICS, TRANSFORMS, Fault, Target

_PAGE = 500
_NEWEST = 10

_VARYING = re.compile(r"0x[0-9a-f]+|\d+|'[^']*'|\"[^\"]*\"|`[^`]*`|(?<=properties)(?:: |\.)\S+")
_ID = re.compile(r"\d{2,}")
_LARGE = 1 << 15
_MARKS = (rb"\ud", rb"\u0000", b"NaN", b"\xff", b"\xed", b"e400", b"e309", b"\xef\xbb\xbf", b"\0", b"[[[[[[[[")

_COMBINED = 50
"""Of so many calls of each kind that are looked at, one of each combination of kinds is."""

_Kind = tuple[Any, ...]


class Readers:
    """All the ways of one target. Each raises Fault for what nobody may see."""

    def __init__(self, target: Target, folder: Path, *, each_kind: int | None, commands: int) -> None:
        """`each_kind`: look at so many calls of a kind one by one; None: at all. `commands`: type so many by hand.

        A call is of several kinds, see `_kinds_of`. Where all of them were seen often enough, it is looked at all the
        same while their combination is new.
        """
        self._target = target
        self._each_kind = each_kind
        self._commands = commands
        self._kinds: Counter[_Kind] = Counter()
        self._combinations: Counter[tuple[_Kind, ...]] = Counter()
        self._runner = CliRunner()
        self._environment = {
            "DATABASE_URL": target.database_url,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "TRANSFORMS_DIR": str(TRANSFORMS),
            "METRICS_DIR": str(METRICS),
        }
        self._draft = folder / "_default.draft.yaml"
        self._draft.write_text((TRANSFORMS / "_default.yaml").read_text("utf-8").replace("userId", "userId || 'x'"))
        self.looked = 0
        """Calls that were looked at one by one."""
        self.slowest: dict[str, float] = {}
        """The most seconds that each page, document and command took: what becomes slow with many calls is told."""

    def look_at(self, call: StoredCall) -> None:
        """Look at one call, unless enough of its kind were looked at."""
        kinds = _kinds_of(call)
        self._kinds.update(kinds)
        self._combinations[kinds] += 1
        if self._each_kind is not None and not self._is_rare(kinds, self._each_kind):
            return
        self.looked += 1
        page = self._get(f"/calls/{call.id}")
        if "<script>alert" in page:
            raise Fault(f"page script: /calls/{call.id}")
        if self._target.get(f"/calls/{call.id}/raw").body != call.raw:
            raise Fault(f"raw bytes: /calls/{call.id}/raw are not those that were stored")
        self._get(f"/calls/{call.id}/curl")
        document = read_json(self._get(f"/api/v1/calls/{call.id}"))
        if document["outcome"] != call.outcome:
            raise Fault(f"api outcome: of /api/v1/calls/{call.id} is {document['outcome']}")
        self._get(f"/api/v1/calls/{call.id}/metrics")
        self._show(call.id)
        if self._commands > 0 and self._kinds[kinds[0]] == 1:
            self._commands -= 1
            self._type(call, document)

    def _is_rare(self, kinds: tuple[_Kind, ...], each: int) -> bool:
        """Tell whether a call is among the first `each` of a kind, or the first fiftieth of that of a combination."""
        return any(self._kinds[kind] <= each for kind in kinds) or self._combinations[kinds] <= each // _COMBINED

    def _show(self, call_id: int) -> None:
        """Do what the command `show` does, without opening the database anew for each call."""
        service = self._target.service
        try:
            with service.database.reading() as conn:
                whole = get_call(conn, call_id)
                document = to_whole_document(whole, list_steps(conn, service.catalog, whole))
            call_text(document).encode()
        except Exception as error:
            raise Fault(f"show {type(error).__name__}: {call_id}\n{_end_of(error)}") from error

    def _type(self, call: StoredCall, document: Mapping[str, Any]) -> None:
        """Type the commands about one call, and open what a person goes to from its page."""
        self._run("show", str(call.id))
        read_json(self._run("show", str(call.id), "--json"))
        self._run("try", str(call.id), codes=(0, 1))
        self._run("replay", "--id", str(call.id), "--dry-run", "--json")
        self._get("/transforms/new", statuses=(303,), call=str(call.id))
        self._get("/transforms/_default", call=str(call.id))
        self._get("/calls", id=(document["message_id"] or "-")[:400])
        self._get("/calls", customer=(document["customer_id"] or "-")[:400])

    def look_at_all(self, since: int) -> None:
        """Look at the lists of what is stored, those of the calls from the id `since` on page by page."""
        for row in read_json(self._get("/api/v1/calls", limit=str(_NEWEST)))["calls"]:
            # However often its kind was seen: there is more now that stands on a page.
            self._get(f"/calls/{row['id']}")
            self._get(f"/api/v1/calls/{row['id']}/metrics")
        self._page_through("/api/v1/calls", "calls", since, lambda row: int(row["id"]))
        self._page_through("/api/v1/events", "events", since, lambda row: int(row["call_id"]))
        for outcome, reasons in REASONS_OF.items():
            self._get("/api/v1/calls", outcome=outcome, limit=str(_PAGE))
            self._get("/calls", outcome=outcome)
            for reason in reasons:
                self._get("/calls", reason=reason)
        for path in ("/", "/calls", "/problems", "/usage", "/transforms", "/setup", "/replays", "/deliveries"):
            self._get(path)
        for path in ("problems", "ledger", "refused", "transforms", "metrics", "replays"):
            read_json(self._get(f"/api/v1/{path}"))
        self._get("/calls", q="word")
        self._get("/calls/newer", newest=str(since))
        for file in sorted(METRICS.glob("*.yaml")):
            self._read_metric(file.stem)
        for path in ("/api/v1/transforms/_default/calls", "/api/v1/transforms/_default/paths", "/metrics", "/readyz"):
            self._get(path)

    def run_commands(self, limit: int) -> None:
        """Run the commands that look at many calls, at the newest `limit` of them."""
        for line in self._run("log", "--limit", str(limit), "--json").removesuffix("\n").split("\n"):
            read_json(line or "null")
        self._run("log", "--limit", str(limit))
        for outcome in ("conflict", "rejected"):
            self._run("log", "--outcome", outcome, "--limit", str(limit))
        for line in self._run("refused", "--limit", "1000", "--json").removesuffix("\n").split("\n"):
            read_json(line or "null")
        self._run("refused", "--limit", "1000")
        self._run("ledger")
        read_json(self._run("preview", str(self._draft), "--last", str(limit), "--json"))
        self._run("preview", str(self._draft), "--last", str(limit))
        self._run("replay", "--dry-run", "--limit", str(limit), "--json")
        self._run("replay", "--outcome", "conflict", "--dry-run", "--limit", str(limit), "--json")
        self._run("replay", "--outcome", "stored", "--correct", "--dry-run", "--limit", str(limit), "--json")
        for file in sorted(METRICS.glob("*.yaml")):
            self._run("usage", file.stem, "--start", "60d")

    def _read_metric(self, name: str) -> None:
        start, end = "2026-10-01", "2026-12-01"
        read_json(self._get(f"/api/v1/metrics/{name}/usage", statuses=(200, 400), start=start, end=end))
        read_json(self._get(f"/api/v1/metrics/{name}/events", statuses=(200, 400), start=start, end=end))
        self._get("/usage", metric=name, statuses=(200, 400), start=start, end=end)
        self._get("/usage/events", metric=name, statuses=(200, 400), start=start, end=end)

    def _page_through(self, path: str, member: str, since: int, to_id: Any) -> None:
        page = read_json(self._get(path, limit=str(_PAGE)))
        while page["next"] is not None and page[member] and to_id(page[member][-1]) >= since:
            page = read_json(self._get(path, limit=str(_PAGE), before=page["next"]))

    def _get(self, path: str, *, statuses: Sequence[int] = (200,), **query: str) -> str:
        began = time.monotonic()
        answer = self._target.get(path, **query)
        self._note_seconds(_ID.sub("#", path), began)
        if answer.status not in statuses:
            raise Fault(f"read {answer.status}: {path} {query!a} {answer.text[:300]}")
        return answer.text

    def _note_seconds(self, name: str, began: float) -> None:
        self.slowest[name] = max(self.slowest.get(name, 0.0), time.monotonic() - began)

    def _run(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        # A command's own process ends with it; here nothing it leaves to the collector of garbage may stay.
        began = time.monotonic()
        thresholds = gc.get_threshold()
        result = self._runner.invoke(main, words, env=self._environment, prog_name="segment-lotus")
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        self._note_seconds(f"`{words[0]}`", began)
        if result.exception is not None and not isinstance(result.exception, SystemExit | click.exceptions.Exit):
            kind = f"command {words[0]} {type(result.exception).__name__}"
            raise Fault(f"{kind}: {words[1:]!a}\n{_end_of(result.exception)}")
        if result.exit_code not in codes:
            raise Fault(f"command {words[0]} exit {result.exit_code}: {words[1:]!a} {result.output[-500:]!a}")
        return result.stdout


def read_json(text: str) -> Any:
    """Read JSON as any program may; integers as text. Raises Fault for what is none."""
    try:
        return json.loads(text, parse_int=str, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Fault(f"no JSON: {error} {text[:500]!a}") from error


def _refuse(token: str) -> None:
    raise ValueError(token)


def _kinds_of(call: StoredCall) -> tuple[_Kind, ...]:
    """Tell what is alike about calls: how they ended and why, how they came, and what is odd in their bytes."""
    end = call.outcome, call.reason
    detail = _VARYING.sub("", call.detail or "")[:80]
    marks = [mark for mark in _MARKS if mark in call.raw]
    if len(call.raw) > _LARGE:
        marks.append(b"large")
    return (*end, detail, bool(call.events)), (*end, call.route), *((*end, mark) for mark in marks)


def _end_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-4:])
