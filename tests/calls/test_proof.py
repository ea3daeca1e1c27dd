"""Why a call was counted, or not: each answer names what decided."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.calls.choice import list_candidates
from app.calls.conflict import differences_of, list_conflicts
from app.calls.curl import INLINE_BYTES, to_curl
from app.calls.fields import list_field_origins
from app.calls.pretty import SHOWN_BYTES, to_pretty, to_value_text
from app.core.outcome import Outcome
from app.core.signature import Coverage, verify
from app.core.transform.transform import TransformSet
from app.store.engine import Database
from app.store.review import get_call
from tests.builders import (
    SECRET,
    a_call,
    a_default,
    a_document,
    a_transform,
    an_ingest,
    outcomes_of,
    post,
    some_transforms,
    to_raw,
)

USAGE = """\
match: {event: Usage}
when: properties.tokens
event:
  event_name: {const: usage}
  properties:
    tokens: properties.tokens
    place: {region: "lower(properties.region)", source: {const: [1, null]}}
    '*': {rename: {old: new}, drop: [secret]}
"""


def test_each_field_leads_to_its_expression_and_to_the_file_that_writes_it() -> None:
    default = a_default()
    told = list_field_origins(a_transform(USAGE, "usage", default), default)
    assert [(".".join(one.path), one.expression or one.sentence, one.file) for one in told] == [
        ("when", "properties.tokens", "usage"),
        ("event_name", 'the constant "usage"', "usage"),
        ("idempotency_id", "messageId", "_default"),
        ("customer_id", "userId", "_default"),
        ("time_created", "timestamp", "_default"),
        ("properties.tokens", "properties.tokens", "usage"),
        ("properties.place.region", "lower(properties.region)", "usage"),
        ("properties.place.source", "the constant [1,null]", "usage"),
        ("properties.*", "all properties of the call; old as new; without secret", "usage"),
    ]


def test_an_expression_for_the_whole_event_is_told_with_what_it_leaves_to_the_default() -> None:
    default = a_default()
    told = list_field_origins(
        a_transform("each: properties.items\nevent: '{event_name: item.name}'\n", "x", default), default
    )
    assert [one.path for one in told][:3] == [("each",), ("event",), ("event_name",)]
    assert list_field_origins(default, None)[-1].expression == "properties"
    short = a_transform("event: {properties: '*'}\n", "y", default)
    assert list_field_origins(short, default)[-1].sentence == "all properties of the call"


def test_every_transform_is_told_with_why_it_takes_a_call_or_does_not() -> None:
    default = a_default()
    files = {
        "usage": "match: {event: Usage}\npriority: 5\n",
        "also_usage": "match: {event: [Usage, Other]}\nalso: true\n",
        "later": "match: {event: 'Us*'}\n",
        "users": "match: {type: identify}\n",
        "sourced": "match: {event: Usage, source: abc}\n",
        "many": "match: {event: [a, b, c, d, e, f, g]}\n",
    }
    active = TransformSet([default, *(a_transform(text, name, default) for name, text in files.items())])
    told = list_candidates(active, a_call(event="Usage"))
    assert [(one.name, one.role.value, one.sentence) for one in told] == [
        ("usage", "chosen", "takes track calls named Usage"),
        ("also_usage", "also", "takes track calls named Usage or Other, beside the others (also: true)"),
        ("later", "passed over", "takes it too, but usage goes first: priority 5 against 0"),
        ("_default", "passed over", "takes what no other does, and usage does"),
        ("many", "other calls", "takes track calls named a or b or c or d or e or one of 2 more"),
        ("sourced", "other calls", "takes track calls named Usage of the source abc"),
        ("users", "other calls", "takes identify calls"),
    ]
    assert {one.name for one in told} == {one.name for one in active.transforms}


def test_of_equal_priority_the_name_decides_and_a_disabled_transform_says_so() -> None:
    default = a_default()
    first = a_transform("match: {event: Usage}\nenabled: false\n", "a", default)
    second = a_transform("match: {event: Usage}\n", "b", default)
    told = list_candidates(TransformSet([default, second, first]), a_call(event="Usage"))
    assert told[0].sentence == "takes track calls named Usage; it is disabled, so the call is ignored"
    assert told[1].sentence == "takes it too, but a goes first: of equal priority, its name comes first"


def told_of(database: Database, *documents: object) -> list[Any]:
    """What is told of the conflicts of the last of these calls."""
    ingest = an_ingest(database, some_transforms(lines=LINES))
    records = [post(ingest, to_raw(document)) for document in documents]
    assert outcomes_of(records[-1]) == [Outcome.CONFLICT]
    with database.reading() as conn:
        return list_conflicts(conn, get_call(conn, records[-1][0].id).call)


LINES = """\
match: {event: Lines}
each: properties.lines
event: {idempotency_id: item.id, properties: {total: item.total, more: item.more}}
"""


def test_a_conflict_is_told_by_each_path_that_differs(database: Database) -> None:
    [told] = told_of(
        database,
        a_document(),
        a_document(userId="else", timestamp="2026-11-01T11:00:00Z", properties={"tokens": 11, "new": [1, {"a": "x"}]}),
    )
    assert told.stored is not None
    assert told.stored.customer_id == "customer-1"
    assert [(one.path, one.stored, one.incoming, one.compared) for one in told.differences] == [
        ("customer_id", '"customer-1"', '"else"', True),
        ("properties.new", None, '[1,{"a":"x"}]', True),
        ("properties.tokens", "10", "11", True),
        ("time_created", '"2026-11-01T10:00:00.123000Z"', '"2026-11-01T11:00:00.000000Z"', False),
    ]


def test_each_conflicting_event_of_several_is_held_against_its_own_rival(database: Database) -> None:
    def lines(message: str, *lines: tuple[str, int]) -> object:
        return a_document(
            event="Lines", messageId=message, properties={"lines": [{"id": one, "total": two} for one, two in lines]}
        )

    told = told_of(database, lines("m-1", ("a", 1)), lines("m-2", ("b", 2)), lines("m-3", ("b", 3), ("a", 4), ("c", 5)))
    assert [(one.idempotency_id, [(d.path, d.stored, d.incoming) for d in one.differences]) for one in told] == [
        ("b", [("properties.total", "2", "3")]),
        ("a", [("properties.total", "1", "4")]),
    ]


def test_a_message_with_other_ids_is_held_against_what_stands_in_its_place(database: Database) -> None:
    first, second = (
        a_document(event="Lines", properties={"lines": [{"id": name, "total": total}]})
        for name, total in (("a", 1), ("z", 2))
    )
    [told] = told_of(database, first, second)
    assert [(one.path, one.compared) for one in told.differences] == [
        ("properties.total", True),
        ("idempotency_id", False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, [("a", 1, 1.0)]),
        ({"a": 1}, {"a": True}, [("a", 1, True)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a[1]", 2, 3)]),
        ({"a": [1, 2]}, {"a": [1]}, [("a", [1, 2], [1])]),
        ({"a": {"b": None}}, {"a": {}}, [("a.b", None, ...)]),
        (1, {"a": 1}, [("", 1, {"a": 1})]),
    ],
)
def test_differences_are_told_by_path(old: Any, new: Any, expected: list[Any]) -> None:
    assert list(differences_of(old, new)) == expected


def test_json_is_laid_out_with_its_numbers_and_keys_as_they_came() -> None:
    shown = to_pretty(b'{"b":1.50,"a":[12345678901234567890123,"\\u202e"],"a":{}}')
    assert shown.text == '{\n  "b": 1.50,\n  "a": [\n    12345678901234567890123,\n    "\\u202e"\n  ],\n  "a": {}\n}'
    assert (shown.cut, shown.note) == (False, None)
    assert to_pretty(b"\xef\xbb\xbf{}").text == "{}"
    assert to_pretty(b'"\\ud83d"').text == '"\\ud83d"'


def test_what_is_no_json_is_shown_as_it_came() -> None:
    for raw, text in (
        (b"{", "{"),
        (b"\xff\x00a", "\\xff\x00a"),
        (b"[" * 300 + b"]" * 300, "[" * 300 + "]" * 300),
        (b"", ""),
    ):
        shown = to_pretty(raw)
        assert shown.text == text
        assert shown.note


def test_of_a_huge_call_the_beginning_is_shown() -> None:
    shown = to_pretty(b'"' + b"x" * 5_000_000 + b'"')
    assert (len(shown.text), shown.size, shown.cut) == (SHOWN_BYTES, 5_000_002, True)


def test_a_value_stands_on_one_line_and_is_cut() -> None:
    assert to_value_text({"b": 1, "a": "\ud83d"}, 100) == '{"a":"\\ud83d","b":1}'
    assert to_value_text("x" * 100, 5) == '"xxxx\N{HORIZONTAL ELLIPSIS}'
    assert to_value_text(float("inf"), 100) == "inf"


BODIES = [
    b'{"a": "it\'s", "b": "$HOME `ls` \\\\n"}',
    '{"a": "Gr\u00fc\u00dfe \u0645"}'.encode(),
    '{"a": "\u202e"}'.encode(),
    b"\xff\x00\x01%s\\n'",
    b"%d \\t",
    b"",
    b"a\nb\n",
]


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("body", BODIES)
def test_the_curl_command_sends_the_very_bytes_with_their_signature(tmp_path: Path, body: bytes, shell: str) -> None:
    # A curl that keeps what it is given, in place of the one that sends it.
    (tmp_path / "curl").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\ncat > {tmp_path}/body\n')
    (tmp_path / "curl").chmod(0o755)
    command = to_curl("7", body, "https://billing.example.com/", SECRET)
    subprocess.run([shell, "-c", command], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "body").read_bytes() == body
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[:3] == ["-X", "POST", "https://billing.example.com/webhooks/segment"]
    signature = next(one for one in arguments if one.startswith("X-Signature: "))
    assert verify(body, signature.removeprefix("X-Signature: "), (SECRET,)) is Coverage.WHOLE
    assert SECRET not in command


def test_a_large_call_is_sent_from_its_download_and_without_a_secret_a_token_is_asked_for() -> None:
    raw = json.dumps("x" * INLINE_BYTES).encode()
    command = to_curl("7", raw, "http://localhost:8000", None)
    assert "--data-binary @call-7.json" in command
    assert "Authorization: Bearer <one of SEGMENT_BEARER_TOKENS>" in command
