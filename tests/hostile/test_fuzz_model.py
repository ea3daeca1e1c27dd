"""The judge of the fuzzers finds what it is there for: each wrong outcome that is planted is a fault."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_document, to_raw
from tools.fuzz.calls import StoredCall
from tools.fuzz.model import Model
from tools.fuzz.mutation import mutate
from tools.fuzz.requests import make_request, read_captures
from tools.fuzz.shrink import shrink
from tools.fuzz.target import Fault

IDS = iter(range(1, 1000))


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    model = Model(tmp_path / "model.db")
    yield model
    model.close()


def kept(outcome: str, *, message: str = "m-1", customer: str = "ann", n: Any = 1, also: bool = False) -> StoredCall:
    """Return a call as the database has it, of one lane or of two."""
    event = "API Call" if also else "Storage"
    time = "2026-11-01T10:00:00.000Z"
    properties = {"n": n}
    raw = to_raw(a_document(messageId=message, userId=customer, event=event, timestamp=time, properties=properties))
    lanes = [("main", message), *([("copies", f"{message}:copy")] if also else [])]
    if outcome == "stored":
        return StoredCall(
            next(IDS), "webhook", raw, outcome, None, None, None, tuple((lane, 0, id_) for lane, id_ in lanes)
        )
    results = json.dumps(
        [{"lane": lane, "position": 0, "idempotency_id": identifier, "result": outcome} for lane, identifier in lanes]
    )
    return StoredCall(next(IDS), "webhook", raw, outcome, outcome, None, results, ())


def inherited(outcome: str, envelope: bytes) -> StoredCall:
    """Return a call of a batch of the tracking API beside which something stood."""
    return kept(outcome)._replace(route="/v1/batch", envelope=envelope)


RIGHT: dict[str, list[StoredCall]] = {
    "once": [kept("stored")],
    "a retry": [kept("stored"), kept("duplicate"), kept("duplicate")],
    "other content": [kept("stored"), kept("conflict", n=2), kept("duplicate")],
    "another customer": [kept("stored"), kept("conflict", customer="bob")],
    "two lanes": [kept("stored", also=True), kept("duplicate", also=True), kept("stored", message="m-2", also=True)],
    "one number spelled in two ways": [kept("stored", n=2), kept("conflict", n=2.0)],
    "one number spelled in two ways, equal": [kept("stored", n=2), kept("duplicate", n=2.0)],
    "a call beside whose batch is JSON": [inherited("stored", b'{"context":{"a":1}}')],
}

WRONG: dict[str, list[StoredCall]] = {
    "stored twice": [kept("stored"), kept("stored")],
    "a retry that conflicts": [kept("stored"), kept("conflict")],
    "other content that is a duplicate": [kept("stored"), kept("duplicate", n=2)],
    "a duplicate of nothing": [kept("duplicate")],
    "a conflict with nothing": [kept("conflict", also=True)],
    "a good call that is rejected": [kept("rejected")],
    "a good call that is ignored": [kept("ignored")],
    "a lane that is missing": [kept("stored", also=True)._replace(events=(("main", 0, "m-1"),))],
    "an event under another id": [kept("stored")._replace(events=(("main", 0, "m-2"),))],
    "a good call beside whose batch is JSON that is rejected": [inherited("rejected", b'{"context":{"a":1}}')],
    "a call that inherits what is no JSON": [inherited("stored", b'{"context":{"a":NaN}}')],
    "a call that inherits what is no UTF-8": [inherited("duplicate", b'{"context":{"a":"\xf5"}}')],
}

REFUSED = [b'{"context":{"a":NaN}}', b'{"context":{"a":"\xf5"}}', rb'{"context":{"a":"\x41"}}']


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_no_fault(model: Model, name: str) -> None:
    for call in RIGHT[name]:
        model.judge([call])
    assert model.judged == len(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_a_fault(model: Model, name: str) -> None:
    *before, last = WRONG[name]
    for call in before:
        model.judge([call])
    with pytest.raises(Fault):
        model.judge([last])


@pytest.mark.parametrize("envelope", REFUSED)
def test_a_call_that_inherits_what_is_no_json_is_rightly_refused(model: Model, envelope: bytes) -> None:
    model.judge([inherited("rejected", envelope)])
    assert model.judged == 0


def test_a_call_with_bytes_that_are_no_utf_8_is_rightly_refused_also_where_another_member_replaces_them(
    model: Model,
) -> None:
    call = kept("rejected")
    model.judge([call._replace(raw=call.raw[:-1] + b',"traits":"\xed\xa0\xbd","traits":true}')])
    assert model.judged == 0


def test_a_request_follows_from_its_seed_and_number_alone() -> None:
    captures = read_captures()
    made = [make_request(7, number, captures) for number in range(50)]
    assert [make_request(7, number, captures) for number in reversed(range(50))] == made[::-1]
    assert make_request(8, 0, captures) != made[0]


def test_a_mutation_never_fails() -> None:
    for seed in range(300):
        rng = random.Random(seed)  # noqa: S311  chance, and no secret
        mutate(rng, rng.choice((b"", b"x", b'{"a":[1,"b"]}')), [b"", b"[1]"])


@pytest.mark.parametrize(
    ("fails", "smallest"),
    [
        (lambda text: b"x" in text, b'"x"'),
        (lambda text: text.startswith(b'{"a":') and text.endswith(b"}"), b'{"a":}'),
        (lambda text: text.count(b"[") > 3, b"[[[["),
    ],
    ids=["one token", "a frame", "a number of signs"],
)
def test_what_shows_a_fault_is_made_small(fails: Callable[[bytes], bool], smallest: bytes) -> None:
    text = b'{"a":' + b'[{"b": ["x", 1, [2, [[]]]]},' * 20 + b"1]}"
    assert shrink(text, fails) == smallest
