"""The log: one line a call, for programs or for people, and nothing in it that must not be."""

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from app.calls.log import CallLog, to_line, to_text
from app.cli.log_output import configure
from app.core.outcome import REASONS_OF, Outcome, Reason
from app.core.times import format_time
from app.errors import EventInvalid
from app.store.engine import connect
from app.store.migrate import migrate
from app.store.record import Record
from app.store.writer import Commit
from tests.builders import (
    NOW,
    a_document,
    a_lane,
    a_record,
    a_record_of,
    a_rejected_run,
    a_run,
    an_event,
    an_ingest,
    post,
    some_transforms,
    to_raw,
)
from tests.served import ADMIN_TOKEN, ROOT, served, signed, wait_until


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def settled(record: Record | None = None, outcome: Outcome = Outcome.STORED, reason: Reason | None = None) -> Record:
    record = record or a_record()
    record.outcome, record.reason = outcome, reason
    return record


def written(
    *records: Record,
    stream: io.StringIO | None = None,
    level: str = "info",
    properties: bool = False,
    colour: bool = True,
) -> str:
    stream = stream or io.StringIO()
    log = CallLog(stream, lambda: NOW + 12_345, level=level, properties=properties, colour=colour)
    log.watch_commit(Commit(records=records, seconds=0.0, waiting=0))
    return stream.getvalue()


def documents(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    # Not splitlines(): a line of JSON may hold U+2028 and the like.
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def test_a_stored_call_is_one_json_object_with_what_a_reviewer_asks_for() -> None:
    record = settled(a_record_of(a_document(), some_transforms()))
    (line,) = documents(written(record))
    assert line == {
        "logger": "calls",
        "timestamp": format_time(NOW),
        "level": "info",
        "call_id": str(record.id),
        "outcome": "stored",
        "type": "track",
        "event": "API Call",
        "transform": "_default",
        "transform_digest": record.run.digest.hex() if record.run.digest else None,
        "message_id": "message-1",
        "idempotency_id": "message-1",
        "event_name": "API Call",
        "customer_id": "customer-1",
        "ms": 12.345,
    }


def test_each_outcome_has_its_level_and_its_reason() -> None:
    for outcome, reasons in REASONS_OF.items():
        for reason in reasons or (None,):
            (line,) = documents(written(settled(outcome=outcome, reason=reason)))
            assert line["outcome"] == outcome
            assert line.get("reason") == reason
            assert line["level"] == ("warning" if outcome in {Outcome.CONFLICT, Outcome.REJECTED} else "info")


def test_a_call_that_could_not_be_read_has_a_line_as_well() -> None:
    record = a_record(a_rejected_run(), message_id=None)
    record.detail = "A call must be an object; this is null."
    (line,) = documents(written(settled(record, Outcome.REJECTED, Reason.NOT_AN_OBJECT)))
    assert line["reason"] == "not_an_object"
    assert line["detail"] == "A call must be an object; this is null."
    assert "idempotency_id" not in line


def test_properties_are_there_only_when_asked_for() -> None:
    record = settled(a_record(a_run(a_lane(an_event(properties={"card": "4111-1111"}), an_event(idempotency_id="2")))))
    assert "4111-1111" not in written(record)
    assert "4111-1111" not in written(record, stream=Terminal())
    (line,) = documents(written(record, properties=True))
    assert line["properties"] == [{"card": "4111-1111"}, {"tokens": 10}]
    assert line["events"] == 2
    assert '{"card":"4111-1111"}' in written(record, stream=Terminal(), properties=True)


@pytest.mark.parametrize(("level", "outcomes"), [("debug", 5), ("info", 5), ("warning", 2), ("error", 0)])
def test_the_level_filters(level: str, outcomes: int) -> None:
    records = [settled(outcome=outcome, reason=(*REASONS_OF[outcome], None)[0]) for outcome in Outcome]
    assert len(documents(written(*records, level=level))) == outcomes


ANY_TEXT = st.text(st.characters(codec=None), max_size=40)


@given(event=ANY_TEXT, message_id=ANY_TEXT, user_id=ANY_TEXT, detail=ANY_TEXT)
def test_whatever_a_sender_writes_is_one_json_line_and_one_line_on_a_terminal(
    event: str, message_id: str, user_id: str, detail: str
) -> None:
    record = a_record(a_rejected_run(), message_id=message_id)
    record.event, record.user_id, record.detail = event, user_id, detail
    settled(record, Outcome.REJECTED, Reason.EVENT_INVALID)
    text = written(record)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert documents(text)[0]["outcome"] == "rejected"
    text.encode()

    shown = to_text(to_line(record, NOW, properties=True), colour=False)
    assert shown.isprintable()
    assert "event_invalid" in shown
    shown.encode()


@example(event="half \ud83d", message_id="m", properties={"a": 1})
@given(event=ANY_TEXT, message_id=ANY_TEXT, properties=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3))
def test_properties_are_logged_beside_whatever_else_a_sender_writes(
    event: str, message_id: str, properties: dict[str, Any]
) -> None:
    try:
        record = settled(a_record(an_event(properties=properties), message_id=message_id))
    except EventInvalid:
        # A NUL, which Lotus does not take.
        return
    record.event = event
    (line,) = documents(written(record, properties=True))
    assert line["properties"] == [properties]
    assert written(record, stream=Terminal(), properties=True).count("\n") == 1


def test_a_line_that_cannot_be_written_does_not_lose_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    good = [settled(a_record(message_id=str(number))) for number in range(32)]
    # What no call of ours has: every way in which rendering may fail ends here.
    odd = settled(a_record(message_id="odd"))
    odd.run = msgspec.structs.replace(odd.run, digest=5)
    for stream in (io.StringIO(), Terminal()):
        text = written(*good[:16], odd, *good[16:], stream=stream, properties=True)
        assert text.count("\n") == 32
    assert capsys.readouterr().out.count(str(odd.id)) == 2


class FullDisk(io.StringIO):
    """A stream that cannot be written to once."""

    failures = 1

    def write(self, text: str) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "no space left")
        return super().write(text)


def test_a_piece_that_cannot_be_written_does_not_lose_the_next_ones() -> None:
    records = [settled(a_record(message_id=f"{number}-{'x' * 200}")) for number in range(100)]
    lines = documents(written(*records, stream=FullDisk()))
    assert 50 < len(lines) < 100
    assert lines[-1]["message_id"].startswith("99-")


def test_a_sender_cannot_steer_the_terminal() -> None:
    attack = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\u2028\x08\x00"
    record = settled(a_record(message_id=attack))
    record.event = record.user_id = record.detail = attack
    shown = written(record, stream=Terminal())
    colours = re.findall(r"\x1b\[\d+m", shown)
    assert len(colours) == 2
    assert re.sub(r"\x1b\[\d+m", "", shown).removesuffix("\n").isprintable()


def test_on_a_terminal_a_line_says_when_what_who_and_why() -> None:
    record = settled(a_record(a_rejected_run()), Outcome.REJECTED, Reason.EVENT_INVALID)
    record.detail = "customer_id is missing"
    shown = written(record, stream=Terminal())
    for part in ("2026-11-01 10:00:00", "rejected", "API Call", "user-1", "event_invalid: customer_id is missing"):
        assert part in shown
    assert not shown.startswith("{")


class Counting(io.StringIO):
    """A stream that remembers the size of each piece that is handed on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._done = 0

    def flush(self) -> None:
        if self.getvalue()[self._done :]:
            self.pieces.append(self.getvalue()[self._done :])
        self._done = len(self.getvalue())


@pytest.mark.parametrize("event", ["E", "É", "\N{PILE OF POO}" * 20])
def test_lines_are_handed_on_in_pieces_that_a_pipe_takes_whole(event: str) -> None:
    """Two workers write to one pipe: a larger piece could end up in the middle of the other's line."""
    stream = Counting()
    records = [settled() for _ in range(100)]
    for record in records:
        record.event = event
    written(*records, stream=stream)
    assert len(documents(stream.getvalue())) == 100
    assert all(piece.endswith("\n") and len(piece.encode()) <= 4096 for piece in stream.pieces)
    assert len(stream.pieces) < 100


def test_a_line_longer_than_a_pipe_takes_is_written_all_the_same() -> None:
    long = settled()
    long.event = "E" * 10_000
    assert len(documents(written(settled(), long, settled()))) == 3


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_does_not_fail_the_calls_it_is_about() -> None:
    assert written(settled(), stream=Full()) == ""


def test_lines_of_a_program_are_utf_8_whatever_the_locale_says() -> None:
    code = (
        "import sys, structlog; from app.cli.log_output import configure; configure('info');"
        "structlog.get_logger('x').info('Zoë \\ud83d \\N{SNOWMAN}'); sys.stdout.write('Zoë \\N{SNOWMAN} \\ud83d\\n')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, check=True)
    first, second = done.stdout.decode().splitlines()
    assert "Zoë" in json.loads(first)["event"]
    assert second == "Zoë \N{SNOWMAN} \\ud83d"
    assert done.stderr == b""


@pytest.fixture
def logs(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield capsys
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_other_lines_ours_and_the_libraries_are_json_and_a_traceback_is_one_line(
    logs: pytest.CaptureFixture[str],
) -> None:
    configure("info")
    structlog.get_logger("ours").warning("something", code="x", thing=object())
    logging.getLogger("theirs").error("of %s", "theirs\nin two lines")
    logging.getLogger("theirs").debug("not this")
    try:
        {"a": 1}["trouble"]
    except KeyError:
        structlog.get_logger("ours").exception("it failed")
    ours, theirs, failed = documents(logs.readouterr().out)
    assert (ours["event"], ours["level"], ours["logger"], ours["code"]) == ("something", "warning", "ours", "x")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("of theirs\nin two lines", "error", "theirs")
    assert "KeyError: 'trouble'" in failed["exception"]
    assert all(line["timestamp"].endswith("Z") for line in (ours, theirs, failed))


def test_half_a_surrogate_pair_in_another_line_does_not_lose_it(logs: pytest.CaptureFixture[str]) -> None:
    configure("info")
    structlog.get_logger("ours").warning("half \ud83d", **{"key \ud83d": "value \ud83d"})
    (line,) = documents(logs.readouterr().out)
    assert line["event"].startswith("half")


def on_a_terminal(code: str, **variables: str) -> str:
    """Run Python with its output on a pseudo-terminal; return what it wrote."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables},
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
    ):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            # Linux says so when the other side has gone.
            pass
        os.close(ours)
    return shown.decode()


def test_on_a_terminal_other_lines_are_for_people_and_a_traceback_shows_no_values_of_variables() -> None:
    shown = on_a_terminal(
        "import structlog; from app.cli.log_output import configure; configure('info')\n"
        "log = structlog.get_logger('web')\n"
        "log.info('started', port=8000)\n"
        "def handle(secret):\n"
        "    try: raise RuntimeError('trouble')\n"
        "    except RuntimeError as error: log.error('unexpected error', exc_info=error)\n"
        "handle('hunt' + 'er2')\n"
    )
    assert "started" in shown
    assert not shown.startswith("{")
    assert "RuntimeError" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(("no_colour", "colours"), [("", True), ("1", False)])
def test_no_line_of_the_service_has_colours_where_no_color_is_set(
    migrated_sqlite_url: str, no_colour: str, *, colours: bool
) -> None:
    shown = on_a_terminal(
        "import structlog; from app.cli.log_output import configure; configure('info')\n"
        "from app.service.build import build; from app.settings import Settings\n"
        "from tests.builders import SECRET, a_document, post, to_raw\n"
        f"service = build(Settings(database_url={migrated_sqlite_url!r}, segment_shared_secrets=(SECRET,)))\n"
        "post(service.ingest, to_raw(a_document()))\n"
        "structlog.get_logger('web').warning('another line')\n",
        NO_COLOR=no_colour,
    )
    lines = {what: line for line in shown.splitlines() for what in ("stored", "another line") if what in line}
    assert {what: "\x1b[" in line for what, line in lines.items()} == {"stored": colours, "another line": colours}


PRIVATE = {
    "property": "the-value-of-a-property",
    "nested": "the-nested-value",
    "trait": "the-trait",
    "context": "the-context",
    "write key": "the-write-key",
    "body": "the-rest-of-a-body",
    "bearer": "the-known-bearer-token",
    "basic": "the-known-password",
    "unknown bearer": "the-unknown-bearer-token",
    "secret": "the-shared-secret",
    "header": "the-custom-header",
    "query": "the-query-string",
    "admin": ADMIN_TOKEN,
    "wrong admin": "the-wrong-admin-token",
}


@pytest.fixture(scope="module")
def whole_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Everything that a service wrote which was sent all kinds of requests, with values that must not be seen."""
    folder = tmp_path_factory.mktemp("output")
    transforms = folder / "transforms"
    transforms.mkdir()
    default = (ROOT / "transforms" / "_default.yaml").read_text()
    (transforms / "_default.yaml").write_text(default)
    (transforms / "failing.yaml").write_text(
        "match:\n  event: Failing\nevent:\n  properties:\n    sum: sum([properties.card])\n"
    )
    (transforms / "invalid.yaml").write_text(
        "match:\n  event: Invalid\nevent:\n  event_name: properties\n  time_created: properties.card\n"
    )
    seen = PRIVATE
    properties = {"card": seen["property"], "deep": [{"er": seen["nested"]}], seen["property"]: 1}
    one = a_document(properties=properties, context={"ip": seen["context"]}, traits={"mail": seen["trait"]})
    bodies = [
        one,
        one,
        {**one, "properties": {"other": seen["property"]}},
        {**one, "messageId": "2", "event": "Failing"},
        {**one, "messageId": "3", "event": "Invalid"},
        {**one, "messageId": "4", "timestamp": seen["property"]},
        {**one, "messageId": "5", "userId": {"deep": seen["property"]}},
        {**one, "messageId": "6", "properties": seen["property"]},
        {**one, "messageId": "7", "properties": {"n": 10**400}},
        {**one, "type": "identify"},
        {"batch": [one, None, seen["body"]], "writeKey": seen["write key"], "context": {"ip": seen["context"]}},
        seen["body"],
    ]
    with served(
        f"sqlite:///{folder / 'test.db'}",
        folder,
        WEB_CONCURRENCY="1",
        LOG_LEVEL="debug",
        TRANSFORMS_DIR=str(transforms),
        SEGMENT_SHARED_SECRETS=seen["secret"],
        SEGMENT_BEARER_TOKENS=seen["bearer"],
        SEGMENT_BASIC_AUTH=f"user:{seen['basic']}",
    ) as service:
        for document in bodies:
            raw = to_raw(document)
            assert service.post(raw, signed(raw, secret=seen["secret"])).status == 200
        raw = to_raw(one)
        for headers in (
            {},
            {"Authorization": f"Bearer {seen['bearer']}"},
            {"Authorization": f"Bearer {seen['unknown bearer']}"},
            {"Authorization": seen["unknown bearer"]},
            {"Authorization": f"Basic {seen['unknown bearer']}"},
            {"X-Signature": "0" * 40, "X-Api-Key": seen["header"], "Cookie": seen["header"]},
            {"X-Signature": "0" * 40, "Content-Encoding": seen["header"][:5]},
        ):
            service.post(raw, headers)
        broken = raw[:-1]
        assert service.post(broken, signed(broken, secret=seen["secret"])).status == 400
        for path in ("/webhooks/segment", "/nowhere", "/metrics", "/api/v1/calls"):
            service.get(f"{path}?token={seen['query']}", seen["wrong admin"])
            service.get(path, seen["admin"])
        wait_until(lambda: "unparsable_json" in service.output())
        # A database that cannot be used, and what is said of it.
        database = connect(f"sqlite:///{folder / 'test.db'}")
        migrate(database)
        with database.writing():
            assert service.post(raw, signed(raw, secret=seen["secret"])).status == 503
        database.close()
    return service.output()


@pytest.mark.parametrize("kind", PRIVATE)
def test_nothing_private_is_in_the_output_of_a_service_without_log_properties(whole_output: str, kind: str) -> None:
    assert PRIVATE[kind] not in whole_output


def test_that_output_holds_a_line_for_each_call_and_each_refused_request(whole_output: str) -> None:
    lines = documents(whole_output)
    assert sum(line["logger"] == "calls" for line in lines) == 14 + 1
    assert sum(line["logger"] == "refused" for line in lines) == 6 + 1 + 1
    assert all({"timestamp", "level"} <= line.keys() for line in lines)
    reasons = {line["reason"] for line in lines if line.get("outcome") == "rejected"}
    assert reasons >= {"transform_error", "event_invalid"}


def test_every_call_of_a_batch_has_its_line(capsys: pytest.CaptureFixture[str], migrated_sqlite_url: str) -> None:
    database = connect(migrated_sqlite_url)
    ingest = an_ingest(database)
    records = post(ingest, to_raw([a_document(messageId=str(number)) for number in range(250)]))
    lines = documents(written(*records))
    assert [line["message_id"] for line in lines] == [str(number) for number in range(250)]
    database.close()
