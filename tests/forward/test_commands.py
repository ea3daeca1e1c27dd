"""The commands about Lotus: they show, queue, send again, reconcile and diagnose."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from app.clock import clock
from app.core.lotus import LotusEvent
from app.core.times import format_time
from app.forward.fake_lotus.server import FakeLotus
from app.service.commands import main
from app.service.doctor import judge_lock_release
from app.settings import SETTINGS
from app.store.engine import Database, connect
from app.store.nodes import UNTRUSTED_PROXY, save_sighting
from app.store.postgresql import LockRelease
from app.store.schema import events
from tests.builders import DEFAULT_TEXT
from tests.forward.amending import correct
from tests.forward.forwarding import DAY, KEY, MADE, Clock, a_recent, a_worker, balanced, states_of, store, work
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric

Type = Callable[..., Result]


def a_use(id_: str, n: object = 5, age: int = 0, customer: str = "ann") -> LotusEvent:
    return a_recent(id_, age, event_name="use", customer_id=customer, properties={"n": n})


@pytest.fixture
def database(migrated_sqlite_url: str) -> Iterator[Database]:
    database = connect(migrated_sqlite_url)
    yield database
    database.close()
    while MADE:
        MADE.pop().close()


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: Database, address: str) -> Type:
    """Types a command, with forwarding set up."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "transforms"
    folder.mkdir()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    given = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'test.db'}",
        "LOTUS_HOST": address,
        "LOTUS_API_KEY": KEY,
        "SEGMENT_SHARED_SECRETS": "secret",
        "ADMIN_TOKEN": "x" * 32,
    }
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    return lambda *words: CliRunner().invoke(main, words)


def test_a_pause_is_ended(type_: Type, database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent("id-1")])
    assert type_("deliveries", "try-now").output == "Forwarding is not paused.\n"
    a_worker(database, address, key="wrong").step()
    assert type_("deliveries", "try-now").output.startswith("A running worker tries Lotus now;")
    a_worker(database, address).step()
    assert list(lotus.events) == ["id-1"]


def test_what_was_stored_before_is_queued_later_once(type_: Type, database: Database) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(5)], forwards=False)
    # Events of tests are stored on 2026-11-01, or later where other tests moved the clock of their ids.
    assert type_("forward", "--enqueue", "--since", "2095-01-01").output == "Queued 0 events.\n"
    assert (
        type_("forward", "--enqueue", "--since", "2026-10-01", "--until", "2026-10-02").output == "Queued 0 events.\n"
    )
    assert type_("forward", "--enqueue", "--since", "2026-10-01").output == "Queued 5 events.\n"
    assert type_("forward", "--enqueue", "--since", "2026-10-01").output == "Queued 0 events.\n"
    assert balanced(database) == {"waiting": 5}
    assert type_("forward", "--since", "7d").exit_code == 2


def test_deliveries_are_listed_counted_and_tried_again(type_: Type, database: Database, address: str) -> None:
    store(database, [a_recent("new"), a_recent("old", 31 * DAY), a_recent("big", properties={"x": "y" * 475_000})])
    work(a_worker(database, address), Clock())
    rows = [json.loads(line) for line in type_("deliveries", "list", "--json").stdout.splitlines()]
    assert [(row["idempotency_id"], row["state"]) for row in rows] == [
        ("new", "delivered"),
        ("old", "unforwardable"),
        ("big", "failed"),
    ]
    shown = type_("deliveries", "list", "--state", "failed")
    assert "big" in shown.stdout
    assert "new" not in shown.stdout
    assert shown.stderr == "0 waiting, 1 failed, 1 not forwardable.\n"
    groups = [json.loads(line) for line in type_("deliveries", "list", "--groups", "--json").stdout.splitlines()]
    assert {(one["state"], one["count"]) for one in groups} == {("failed", 1), ("unforwardable", 1)}
    assert type_("deliveries", "retry").exit_code == 2
    assert type_("deliveries", "retry", "--id", "nobody").output == "0 deliveries queued again.\n"
    assert type_("deliveries", "retry", "--id", "big").output == "1 delivery queued again.\n"
    refused = type_("deliveries", "retry", "--state", "unforwardable", "--yes")
    assert (refused.exit_code, "deliveries export" in refused.output) == (1, True)
    assert balanced(database) == {"delivered": 1, "unforwardable": 1, "waiting": 1}
    work(a_worker(database, address), Clock())
    assert states_of(database) == {"delivered": 1, "unforwardable": 1, "failed": 1}


def test_the_ledger_of_events_balances_on_its_own(type_: Type, database: Database, address: str) -> None:
    store(database, [a_recent("before")], forwards=False)
    store(database, [a_recent("new"), a_recent("old", 31 * DAY)])
    work(a_worker(database, address), Clock())
    store(database, [a_recent("last")])
    document = json.loads(type_("ledger", "--json").stdout)
    assert document["balances"] is True
    assert document["deliveries"] == {
        "waiting": 1,
        "delivered": 1,
        "failed": 0,
        "unforwardable": 1,
        "voided": 0,
        "surplus": 0,
        "credited": 0,
        "held": 0,
        "not_requested": 1,
        "differences": 0,
    }
    assert document["events"]["stored"] == sum(document["deliveries"].values())
    assert "not requested" in type_("ledger").stdout


def test_reconcile_names_what_lotus_lost_and_sends_it_again(
    type_: Type, database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_recent(f"id-{number}") for number in range(5)])
    work(a_worker(database, address), Clock())
    well = type_("reconcile", "--since", "29d")
    assert (well.exit_code, "all 5 events" in well.stdout) == (0, True)
    del lotus.events["id-3"]
    lost = type_("reconcile", "--since", "29d")
    assert (lost.exit_code, "missing in Lotus: 1\n  id-3\n" in lost.stdout) == (1, True)
    assert type_("reconcile", "--since", "29d", "--resend").exit_code == 0
    assert balanced(database) == {"delivered": 4, "waiting": 1}
    work(a_worker(database, address), Clock())
    assert "id-3" in lotus.events
    lotus.key = "another"
    assert "Lotus does not say" in type_("reconcile", "--since", "29d").output


def test_a_surplus_is_listed_credited_and_what_it_held_is_released(
    type_: Type, database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_use(f"id-{number}") for number in range(3)])
    work(a_worker(database, address), Clock())
    correct(database, {"id-0": {"properties": {"n": 1}}, "id-1": None, "id-2": {"properties": {"n": 2}}})
    shown = type_("deliveries", "list", "--state", "surplus")
    assert shown.stdout.count("surplus") == 3
    assert "3 surplus, which Lotus bills too much; 2 held back." in shown.stderr
    assert "Lotus has event" in type_("deliveries", "list", "--state", "held").stdout
    assert type_("deliveries", "credit", "id-1").exit_code == 2
    assert type_("deliveries", "credit", "--note", " ", "--yes").exit_code == 1
    credit = ("deliveries", "credit", "id-0", "id-1", "--note", "credit note 114", "--author", "bob")
    assert type_(*credit, "--dry-run").output == "2 surplus events would be settled.\n"
    assert type_(*credit, "--yes").output == "2 surplus events settled.\n"
    assert "credit note 114" in type_("deliveries", "list", "--state", "credited").stdout
    said = type_("deliveries", "release", "--dry-run").output
    assert said == "2 held events; of 1 the surplus is not settled: Lotus will count both.\n"
    assert type_("deliveries", "release", "id-0~2", "--yes").output == "1 event queued.\n"
    assert balanced(database) == {"surplus": 1, "credited": 2, "held": 1, "waiting": 1}
    ledger = type_("ledger").output
    assert "surplus: void, and Lotus has them" in ledger
    assert "It balances" in ledger
    assert "surplus" not in type_("deliveries", "list", "--groups").stdout


def test_what_lotus_does_not_take_is_exported_for_an_invoice(type_: Type, database: Database, address: str) -> None:
    publish(database, a_metric("total"), a_metric("most", usage_aggregation_type="max"))
    old = [a_use("old-1", "5", 31 * DAY), a_use("old-2", 1.5, 31 * DAY, customer="=cmd()"), a_use("new", 7)]
    store(database, old)
    work(a_worker(database, address), Clock())
    month = format_time(clock() - 31 * DAY)[:7]
    table = type_("deliveries", "export").stdout.splitlines()
    assert table[0] == "customer_id,event_name,time_created,idempotency_id,state,reason,note,properties"
    assert [row.split(",")[:2] for row in table[1:]] == [["'=cmd()", "use"], ["ann", "use"]]
    sums = type_("deliveries", "export", "--format", "sums").stdout.splitlines()
    assert sums == [
        "customer_id,metric,month,events,amount",
        f"'=cmd(),most,{month},1,",
        f"'=cmd(),total,{month},1,1.5",
        f"ann,most,{month},1,",
        f"ann,total,{month},1,5",
    ]
    both = json.loads(type_("deliveries", "export", "--format", "json", "--customer", "ann").stdout)
    assert [(row["idempotency_id"], row["properties"]) for row in both["events"]] == [("old-1", {"n": "5"})]
    assert [(row["metric"], row["amount"]) for row in both["sums"]] == [("most", None), ("total", "5")]
    nothing = json.loads(type_("deliveries", "export", "--format", "json", "--customer", "nobody").stdout)
    assert nothing == {"events": [], "sums": []}


def test_reconcile_compares_both_directions_by_customer_and_metric(
    type_: Type, database: Database, lotus: FakeLotus, address: str
) -> None:
    large = [{"property_name": "n", "operator": "gt", "comparison_value": 60}]
    publish(database, a_metric("total"), a_metric("most", usage_aggregation_type="max", numeric_filters=large))
    store(database, [a_use("not-requested", 100)], forwards=False)
    store(database, [a_use(f"id-{number}", number) for number in range(5)])
    store(database, [a_use("bob", 50, customer="bob"), a_use("old", 9, 29 * DAY), a_use("older", 9, 31 * DAY)])
    work(a_worker(database, address), Clock())
    changes: dict[str, dict[str, object] | None] = {"id-1": {"properties": {"n": 1000}}, "id-2": None, "bob": None}
    correct(database, changes)
    correct(database, {"id-3": {"properties": {"n": 4}}}, "difference")
    work(a_worker(database, address), Clock())
    type_("deliveries", "credit", "bob", "--note", "paid back", "--yes")
    # Lotus has one that was void before anybody knew that it had it, and lost another one.
    store(database, [a_use("unheard", 30)])
    correct(database, {"unheard": None})
    lotus.events["unheard"] = {**lotus.events["id-0"], "idempotency_id": "unheard"}
    del lotus.events["id-4"]
    done = type_("reconcile", "--since", "60d", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert [event["idempotency_id"] for event in report["missing"]] == ["id-4"]
    assert [event["idempotency_id"] for event in report["unknown"]] == ["unheard"]
    assert (report["surplus"], report["credited"], report["not_confirmable"]) == (2, 2, 0)
    assert report["not_there"] == {"held": 2, "not requested": 1, "unforwardable": 1}
    here, there = Counter[str](), Counter[str]()
    for row in report["rows"]:
        if row["metric"] == "total":
            here[row["customer_id"]] += int(row["here"])
            there[row["customer_id"]] += int(row["in_lotus"])
            assert int(row["difference"]) == int(row["in_lotus"]) - int(row["here"])
        else:
            assert row["here"] is row["in_lotus"] is row["difference"] is None
    assert here == {"ann": 100 + 0 + 1000 + 4 + 4 + 9 + 9, "bob": 0}
    assert there == {"ann": 0 + 1 + 2 + 3 + 1 + 9 + 30, "bob": 50}
    text = type_("reconcile", "--since", "60d").stdout
    assert "too much in Lotus, and void here: 1\n  unheard" in text
    assert "not in Lotus: 2 held back for a surplus" in text
    assert type_("reconcile", "--since", "60d", "--resend", "--mark-surplus").exit_code == 0
    assert balanced(database)["surplus"] == 3
    assert balanced(database)["waiting"] == 1


def test_of_events_that_are_too_old_lotus_says_nothing(
    type_: Type, database: Database, lotus: FakeLotus, address: str
) -> None:
    store(database, [a_use("a", 5, 29 * DAY)])
    work(a_worker(database, address), Clock())
    with database.writing() as conn:
        conn.execute(sa.update(events).values(time_created=clock() - 31 * DAY))
    lotus.forget()
    text = type_("reconcile", "--since", "60d").stdout
    assert "not confirmable: 1" in text
    assert "missing" not in text


def test_the_doctor_finds_nothing_where_all_is_well(type_: Type) -> None:
    done = type_("doctor")
    assert done.exit_code == 0, done.output
    names = ["settings", "database", "pages", "disk", "transforms", "signature"]
    names += ["tracking", "track-api", "public-url", "lotus", "drift", "growth", "last-call", "refusals", "proxy"]
    names += ["outbox"]
    not_set_up = {"tracking", "track-api", "public-url", "last-call"}
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["--" if name in not_set_up else "ok", name] for name in names
    ]


@pytest.mark.parametrize(
    ("release", "ok", "sentence"),
    [
        (LockRelease("17.2", has_timeout=True, has_keepalives=True), True, "for about 9 s"),
        (LockRelease("16.9", has_timeout=False, has_keepalives=True), None, "by TCP keepalives alone: PostgreSQL 16.9"),
        (LockRelease("16.9", has_timeout=False, has_keepalives=False), False, "for hours: PostgreSQL 16.9"),
    ],
)
def test_the_doctor_says_how_long_a_vanished_node_holds_its_locks(
    release: LockRelease, ok: bool | None, sentence: str
) -> None:
    finding = judge_lock_release(release)
    assert (finding.name, finding.ok) == ("locks", ok)
    assert sentence in finding.sentence


def test_the_doctor_says_that_the_tracking_apis_are_open(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEYS", "a-long-enough-key,another-long-key")
    monkeypatch.setenv("LOTUS_INGEST_KEYS", "a-long-enough-key")
    done = type_("doctor")
    assert done.exit_code == 0, done.output
    assert "2 keys set: Segment's tracking API (/v1/*) is on" in done.output
    assert "1 key set: Lotus's track API (/api/track/) is on" in done.output
    assert "long-enough" not in done.output


@pytest.mark.parametrize(
    ("variable", "text", "name", "hint"),
    [
        ("LOTUS_API_KEY", "wrong", "lotus", "LOTUS_API_KEY"),
        ("LOTUS_HOST", "http://127.0.0.1:1", "lotus", "cannot be reached"),
        ("LOTUS_HOST", "", "lotus", "LOTUS_HOST is not set"),
        ("ADMIN_TOKEN", "short", "settings", "ADMIN_TOKEN is missing or shorter than 20"),
        ("SEGMENT_WRITE_KEYS", "short,long enough it is", "tracking", "1 key of SEGMENT_WRITE_KEYS shorter than 8"),
        ("LOTUS_INGEST_KEYS", "short", "track-api", "can be guessed"),
        ("TRANSFORMS_DIR", "nowhere", "transforms", "_default.yaml"),
        ("DATABASE_URL", "sqlite:///other.db", "database", "segment-lotus migrate"),
        ("MIN_FREE_DISK_BYTES", "1000GIB", "disk", "make room"),
        ("PORT", "none", "settings", "PORT"),
    ],
)
def test_the_doctor_says_what_is_wrong_and_what_to_do(
    type_: Type, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, hint: str
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")  # noqa: S104  nothing is bound here
    monkeypatch.setenv(variable, text)
    done = type_("doctor")
    assert done.exit_code == 1
    [line] = [line for line in done.stdout.splitlines() if line.split()[:2] == ["NO", name]]
    assert hint in line
    assert "wrong" not in line


def test_the_doctor_warns_of_a_token_that_can_be_guessed_on_this_machine(
    type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_TOKEN", "short-one")
    done = type_("doctor")
    assert done.exit_code == 0, done.output
    assert "complete; ADMIN_TOKEN is shorter than 20 characters" in done.output
    assert "short-one" not in done.output


def test_the_doctor_tells_of_a_proxy_that_no_setting_tells_of(
    type_: Type, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "ok  proxy       none seen in the last 24 hours" in type_("doctor").output
    with database.writing() as conn:
        save_sighting(conn, UNTRUSTED_PROXY, clock())
    done = type_("doctor")
    assert done.exit_code == 0, done.output
    assert "--  proxy       X-Forwarded-For arrives" in done.output
    monkeypatch.setenv("TRUSTED_PROXIES", "2")
    assert "ok  proxy       TRUSTED_PROXIES is 2" in type_("doctor").output
    monkeypatch.delenv("TRUSTED_PROXIES")
    with database.writing() as conn:
        save_sighting(conn, UNTRUSTED_PROXY, clock() - 25 * 3_600_000_000)
    assert "ok  proxy       none seen in the last 24 hours" in type_("doctor").output


def test_the_doctor_tells_of_a_pause(type_: Type, database: Database, lotus: FakeLotus, address: str) -> None:
    store(database, [a_recent("a")])
    a_worker(database, address, key="wrong").step()
    done = type_("doctor")
    assert (done.exit_code, "paused since" in done.stdout) == (1, True)
    shown = type_("deliveries", "list")
    assert "Forwarding is paused until" in shown.stderr
    assert "Invalid API key" in shown.stdout


def test_forwarding_needs_both_settings(type_: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOTUS_HOST", "")
    assert "LOTUS_HOST" in type_("reconcile", "--since", "1d").output
    assert "LOTUS_API_KEY is set and LOTUS_HOST is not" in type_("serve").output
    monkeypatch.setenv("LOTUS_HOST", "lotus.example.com")
    assert "LOTUS_HOST must be an address" in type_("settings").output
    shutil.rmtree(tmp_path / "transforms")


def test_the_stand_in_says_what_to_set_and_knows_its_faults(type_: Type) -> None:
    assert "there are slow, error" in type_("fake-lotus", "--fault", "nothing").output
