"""All that shows calls, events, replays and usage: every page, every route of the API, the commands."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from app.store.schema import calls, deliveries, events, replays, versions
from tests.served import ADMIN_TOKEN, Served, ask
from tests.survival.shell import Shell
from tests.survival.whole import opened
from tests.web.test_odd_queries import GET

_ALL = "start=2026-10-01&end=2026-12-01&include_future=true"


@dataclass
class Things:
    """What there is to look at."""

    odd_ids: list[int]
    """Of all odd calls, each spelling as it came last."""
    call_ids: list[int]
    """Of some of them, and of the first call there is."""
    event_ids: list[int]
    replay_ids: list[int]
    transforms: list[tuple[str, bytes]]
    """Names and versions."""
    metrics: list[str]

    @classmethod
    def find(cls, url: str, odd: Collection[bytes], chance: Random) -> "Things":
        """Find them all; of the calls those with these bytes."""
        with opened(url) as database, database.reading() as conn:
            rows = conn.execute(sa.select(calls.c.id, calls.c.raw).order_by(calls.c.id)).all()
            newest = {row.raw: row.id for row in rows}
            odd_ids = [newest[raw] for raw in odd]
            return cls(
                odd_ids=odd_ids,
                # All of them are in the lists; every page about each would take its time.
                call_ids=[*chance.sample(odd_ids, 6), rows[0].id],
                event_ids=list(conn.scalars(sa.select(deliveries.c.event_id).order_by(deliveries.c.event_id).limit(2)))
                + list(conn.scalars(sa.select(events.c.id).where(events.c.voided_at.is_not(None)).limit(2))),
                replay_ids=list(conn.scalars(sa.select(replays.c.id))),
                transforms=[
                    (row.name, row.digest)
                    for row in conn.execute(sa.select(versions).where(versions.c.kind == "transform"))
                ],
                metrics=[row.name for row in conn.execute(sa.select(versions).where(versions.c.kind == "metric"))],
            )


def _addresses(things: Things) -> Iterator[str]:
    """Every route there is, about each thing that it can be about."""
    values: dict[str, list[Any]] = {
        "<call_id>": things.call_ids,
        "<event_id>": things.event_ids,
        "<replay_id>": things.replay_ids[-3:],
        "<name>": sorted({name for name, _ in things.transforms}),
        "<metric_name>": things.metrics,
        "<path:filename>": ["base.css"],
    }
    for rule in GET:
        if "<version>" in rule:
            yield from (
                rule.replace("<name>", name).replace("<version>", digest.hex())
                for name, digest in things.transforms[:3]
            )
            continue
        variable = next((name for name in values if name in rule), None)
        for value in values.get(variable or "", [""]):
            path = rule.replace(variable or "\0", quote(str(value)))
            yield path
            if variable == "<metric_name>":
                yield f"{path}?{_ALL}"
    yield from (f"/api/v1/calls/{call_id}" for call_id in things.odd_ids)
    for metric in things.metrics:
        yield from (f"{path}?metric={metric}&{_ALL}" for path in ("/usage", "/usage/events"))
        yield f"/api/v1/metrics/{metric}/usage?{_ALL}&format=csv"
    for outcome in ("stored", "duplicate", "conflict", "ignored", "rejected"):
        yield from (f"/api/v1/calls?outcome={outcome}&limit=500", f"/calls?outcome={outcome}&since=30d")
    for call_id in things.call_ids:
        yield from (f"/transforms/odd?call={call_id}", f"/transforms/new?call={call_id}")


def read_pages(node: Served, things: Things) -> list[str]:
    """Read every page and route; return those that fail."""
    failed = []
    sign_in = node.request(
        "POST", "/sign-in", f"token={ADMIN_TOKEN}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    cookie = {"Cookie": sign_in.headers["set-cookie"].partition(";")[0]}
    connection = node.connect()
    for address in _addresses(things):
        wants_token = address.startswith(("/api", "/metrics", "/readyz"))
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if wants_token else cookie
        answer = ask(connection, "GET", address, headers=headers)
        # What lacks a parameter, or asks for what is not there, may be told so.
        if answer.status > 499:
            failed.append(f"{address}: {answer.status} {answer.body[:200]!r}")
    connection.close()
    return failed


def run_commands(shell: Shell, things: Things) -> list[str]:
    """Run every command that reads; return those that end otherwise than with a sentence."""
    commands = [
        *(["show", str(call_id), *more] for call_id in things.call_ids[:3] for more in ([], ["--json"])),
        *([*words, str(call_id)] for call_id in things.call_ids[:1] for words in (["try"], ["metrics", "explain"])),
        *(["log", "--limit", "100000", *more] for more in ([], ["--json"], ["--outcome", "conflict"])),
        *(["usage", metric, "--start", "2026-10-01", "--verify", "--include-future"] for metric in things.metrics),
        *(["usage", metric, "--start", "2026-10-01", "--explain"] for metric in things.metrics[:2]),
        ["transforms", "history", "odd"],
        ["preview", "transforms/odd.yaml"],
        ["replay", "--correct", "--dry-run", "--json"],
        *([word] for word in ("ledger", "refused", "doctor", "check")),
        *([word, "list"] for word in ("deliveries", "metrics", "transforms")),
    ]
    failed = []
    for words, code, output, trouble in shell.run_each(commands):
        # `try` of a call that is rejected ends with 1, and so does `doctor` where something is to be said.
        if trouble or code not in {0, 1} or (code == 1 and words[0] not in {"try", "doctor"}):
            failed.append(f"{' '.join(words)}: {code} {trouble or output[-500:]}")
    return failed
