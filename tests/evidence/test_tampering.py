"""Whatever is changed in an evidence file is found: by its signature, by its digests, or by the number itself."""

import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from app.errors import BadQuery
from app.evidence import reader
from app.evidence.manifest import CONTENTS
from app.evidence.signature import make_private_key, read_public_key, to_key_text, to_public_key
from app.store.engine import Database
from tests.evidence.proving import (
    Files,
    check,
    make,
    pack,
    problems,
    public_key,
    read_rows,
    signed_by_another,
    unpack,
    with_cell,
    with_digests,
)
from tests.metrics.conftest import keep_events, publish
from tests.metrics.metrics import a_metric, some_events

DATED = (("2026-09-30T23:59:40Z", 1), ("2026-10-02T10:00:00.5Z", "1.5"), ("2026-10-03T10:00:00Z", "x"))


class Proof(NamedTuple):
    """An evidence file, and the key of the service that made it."""

    file: Path
    key: bytes


@pytest.fixture(scope="module")
def original(
    make_database: Callable[[str], AbstractContextManager[Database]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proof]:
    file = tmp_path_factory.mktemp("evidence") / "e.zip"
    with make_database("sqlite") as database:
        publish(database, a_metric(group_by=["kind"]))
        told = [(time, {"n": number, "kind": "=a"}) for time, number in DATED]
        keep_events(database, some_events(*told, ("2026-10-09T10:00:00Z", {"n": 7, "kind": "b"})))
        make(database, file)
        yield Proof(file, public_key(database))


@pytest.fixture
def proof(original: Proof, tmp_path: Path) -> Proof:
    """A copy, to be changed."""
    return Proof(Path(shutil.copy(original.file, tmp_path / "e.zip")), original.key)


def test_as_it_was_made_it_is_right_with_the_key_and_without(proof: Proof) -> None:
    assert problems(proof.file, proof.key) == problems(proof.file) == []
    assert check(proof.file).manifest_digest == hashlib.sha256(unpack(proof.file)["manifest.json"]).hexdigest()


@pytest.mark.parametrize("name", CONTENTS)
def test_a_changed_file_is_found_and_named(proof: Proof, name: str) -> None:
    files = unpack(proof.file)
    changed = {**files, name: files[name] + b"\n"}
    assert any(f"{name} was changed" in problem for problem in problems(pack(changed, proof.file)))
    # A manifest made anew for it is not the one that was signed.
    again = pack(with_digests(changed), proof.file)
    assert problems(again, proof.key)[0] == "the signature does not fit the manifest: one of them was changed"


CELLS = {
    "time": lambda _: "2026-10-02T10:00:00.6+00:00",
    "customer_id": lambda _: "bob",
    "kind": lambda _: "c",
    "value": lambda _: "2",
    "standing": lambda _: "filtered",
    "skipped": lambda _: "null",
    "before": lambda _: "yes",
    "call_id": lambda _: "1",
    "received": lambda _: "2026-10-02T10:00:00+00:00",
    "transform_version": lambda _: "ff",
    "delivery_state": lambda _: "delivered",
    "base_id": lambda _: "e-0",
    "properties": lambda cell: cell.replace("1.5", "1.6"),
}
# A sum does not depend on them, or not on so little: only the signature finds these.
BEYOND_THE_NUMBER = {"time", "call_id", "received", "transform_version", "delivery_state", "base_id"}


@pytest.mark.parametrize("column", CELLS)
def test_one_changed_cell_is_found_although_the_manifest_was_made_anew(proof: Proof, column: str) -> None:
    files = unpack(proof.file)
    events = with_cell(files["events.csv"], 1, column, CELLS[column])
    forged = pack(signed_by_another(with_digests({**files, "events.csv": events})), proof.file)
    assert problems(forged, proof.key)[0] == "it is signed with another key than this one"
    without_key = problems(forged)
    assert bool(without_key) == (column not in BEYOND_THE_NUMBER), without_key


def test_a_changed_number_is_found_without_any_key(proof: Proof) -> None:
    files = unpack(proof.file)
    number = files["number.json"].replace(b'"value":"7"', b'"value":"8"')
    forged = pack(with_digests({**files, "number.json": number}), proof.file)
    assert problems(forged) == ["number.json says that value of {'kind': 'b'} is 8, and the events give 7"]
    lines = files["events.csv"].splitlines(keepends=True)
    shorter = pack(with_digests({**files, "events.csv": b"".join(lines[:-1])}), proof.file)
    assert problems(shorter) == ["number.json has 2 numbers, and the events give 1, or of other groups"]
    doubled = pack(with_digests({**files, "events.csv": b"".join([*lines, lines[-1]])}), proof.file)
    assert problems(doubled) == [
        "number.json says that value of {'kind': 'b'} is 7, and the events give 14",
        "number.json says that events_count of {'kind': 'b'} is 1, and the events give 2",
    ]


def test_what_was_forged_as_a_whole_is_found_by_the_key_alone(proof: Proof) -> None:
    files = unpack(proof.file)
    events = with_cell(files["events.csv"], 3, "value", lambda _: "8")
    events = with_cell(events, 3, "properties", lambda cell: cell.replace("7", "8"))
    number = files["number.json"].replace(b'"value":"7"', b'"value":"8"')
    forged = pack(signed_by_another(with_digests({**files, "events.csv": events, "number.json": number})), proof.file)
    assert problems(forged) == []
    assert problems(forged, proof.key) == ["it is signed with another key than this one"]


CHANGES: dict[str, tuple[Callable[[Files], Files], str]] = {
    "a file is missing": (
        lambda files: {n: r for n, r in files.items() if n != "events.csv"},
        "does not hold events.csv",
    ),
    "a file too many": (lambda files: {**files, "more.txt": b""}, "in place of 9"),
    "a path that leads out": (lambda files: {**_but(files, "events.csv"), "../x": b""}, "'../x', which is no part"),
    "no manifest": (lambda files: {**files, "manifest.json": b"{}"}, "manifest.json cannot be read"),
    "no JSON": (lambda files: {**files, "manifest.json": b"\xff"}, "manifest.json cannot be read"),
    "a large manifest": (lambda files: {**files, "manifest.json": b" " * (2 << 20)}, "larger than 1,048,576 bytes"),
    "no signature": (lambda files: {**files, "signature.json": b"[]"}, "signature.json is no signature"),
    "an algorithm": (
        lambda files: {**files, "signature.json": files["signature.json"].replace(b"Ed25519", b"none")},
        "not of Ed25519",
    ),
    "a metric": (lambda files: with_digests({**files, "metric.yaml": b"]"}), "the number cannot be computed"),
    "another metric": (
        lambda files: with_digests({**files, "metric.yaml": files["metric.yaml"].replace(b'"sum"', b'"max"')}),
        "and the manifest says",
    ),
    "a number": (lambda files: with_digests({**files, "number.json": b"{}"}), "the number cannot be computed"),
    "columns": (lambda files: with_digests({**files, "events.csv": b"a,b\n"}), "events.csv has other columns"),
    "no CSV": (lambda files: with_digests({**files, "events.csv": files["events.csv"] + b'"'}), "it is not CSV"),
    "bytes": (lambda files: with_digests({**files, "events.csv": b"\xff"}), "events.csv is damaged"),
    "cells": (lambda files: with_digests({**files, "events.csv": files["events.csv"] + b"1,2\n"}), "it has 2 cells"),
    "a time": (
        lambda files: with_digests({**files, "events.csv": with_cell(files["events.csv"], 1, "time", lambda _: "x")}),
        "x is no time",
    ),
    "a zone": (lambda files: {**files, "manifest.json": files["manifest.json"].replace(b"UTC", b"Mars")}, "tz must be"),
    "a month": (
        lambda files: {**files, "manifest.json": files["manifest.json"].replace(b'"2026-10"', b'"2026-09"')},
        "the manifest says otherwise",
    ),
    "a format": (
        lambda files: {**files, "manifest.json": files["manifest.json"].replace(b"evidence 1", b"evidence 9")},
        "this program reads",
    ),
}


def _but(files: Files, name: str) -> Files:
    return {other: raw for other, raw in files.items() if other != name}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_that_is_no_evidence_is_told_in_a_sentence(proof: Proof, what: str) -> None:
    change, sentence = CHANGES[what]
    forged = pack(change(unpack(proof.file)), proof.file)
    assert any(sentence in problem for problem in problems(forged, proof.key)), problems(forged, proof.key)


def test_a_damaged_zip_is_told_in_a_sentence(proof: Proof, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = proof.file.read_bytes()
    for damaged in (b"", b"PK", raw[: len(raw) // 2], raw[100:], raw[:200] + bytes(100) + raw[300:]):
        (tmp_path / "damaged.zip").write_bytes(damaged)
        assert problems(tmp_path / "damaged.zip", proof.key)
    assert problems(tmp_path / "nowhere.zip") == ["No such file or directory"]
    assert problems(tmp_path) == ["Is a directory"]
    # A size that is not true, and files that are too large together.
    at = raw.rindex(b"PK\x01\x02")
    smaller = raw[: at + 24] + struct.pack("<L", 3) + raw[at + 28 :]
    (tmp_path / "damaged.zip").write_bytes(smaller)
    assert problems(tmp_path / "damaged.zip", proof.key)
    monkeypatch.setattr(reader, "TOTAL_BYTES", 1000)
    assert problems(proof.file) == ["it unpacks to more than 1,000 bytes"]
    monkeypatch.undo()
    monkeypatch.setattr(reader, "_LINE_BYTES", 100)
    assert "line of more than 100 bytes" in problems(proof.file)[-1]
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in unpack(proof.file).items():
            archive.writestr(name, content)
    assert "packed in an unusual way" in problems(tmp_path / "odd.zip")[0]


def test_of_many_problems_the_first_are_told(proof: Proof) -> None:
    files = unpack(proof.file)
    line = files["events.csv"].splitlines(keepends=True)[1].replace(b"1.5", b"2.5", 1)
    assert len(read_rows(files["events.csv"])) == 3
    many = pack(with_digests({**files, "events.csv": files["events.csv"] + line * 100}), proof.file)
    assert problems(many)[-1] == "there may be more: these are the first"
    assert json.loads(files["manifest.json"])["files"].keys() == set(CONTENTS)


def test_a_key_is_read_as_text_or_from_a_file(tmp_path: Path) -> None:
    key = to_public_key(make_private_key())
    (tmp_path / "key").write_text(f"{to_key_text(key)}\n")
    assert {read_public_key(text) for text in (to_key_text(key), key.hex(), str(tmp_path / "key"))} == {key}
    for wrong in ("", "x", key.hex()[:-1], to_key_text(key)[:-4], str(tmp_path), "a\0b"):
        with pytest.raises(BadQuery, match="evidence-keys"):
            read_public_key(wrong)
