"""The numbers: every call and every refused request counted once, over all processes, under labels known beforehand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import RequestRefused, Unavailable
from app.service.telemetry import REFUSAL_CODES, Telemetry
from app.store.record import Record
from app.store.writer import Commit
from tests.builders import a_record
from tests.served import ROOT


def settled(outcome: Outcome, reason: Reason | None = None) -> Record:
    record = a_record()
    record.outcome, record.reason = outcome, reason
    return record


def samples(telemetry: Telemetry) -> dict[str, float]:
    return parse(telemetry.expose().decode())


def parse(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def calls(outcome: str, reason: str = "") -> str:
    return f'segment_lotus_calls_total{{outcome="{outcome}",reason="{reason}"}}'


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(shared=False)


def test_every_outcome_with_each_of_its_reasons_and_every_code_is_there_at_zero(telemetry: Telemetry) -> None:
    found = samples(telemetry)
    expected = {calls(outcome, reason) for outcome, reasons in REASONS_OF.items() for reason in reasons or ("",)}
    expected |= {f'segment_lotus_requests_refused_total{{code="{code}"}}' for code in REFUSAL_CODES}
    assert expected <= found.keys()
    assert {name for name in found if "_total" in name} == expected
    assert {found[name] for name in expected} == {0.0}


def test_the_codes_are_those_of_all_errors_that_refuse_a_request() -> None:
    assert set(REFUSAL_CODES) == {kind.code for kind in RequestRefused.__subclasses__()} | {Unavailable.code}
    assert len(set(REFUSAL_CODES)) == len(REFUSAL_CODES)


def test_a_commit_counts_its_calls_by_outcome_and_reason(telemetry: Telemetry) -> None:
    records = [settled(outcome, reason) for outcome, reasons in REASONS_OF.items() for reason in reasons or (None,)]
    telemetry.watch_commit(Commit(records=records * 2, seconds=0.02, waiting=7))
    found = samples(telemetry)
    assert {value for name, value in found.items() if name.startswith("segment_lotus_calls_total")} == {2.0}
    assert found["segment_lotus_commit_calls_sum"] == 2 * len(records)
    assert found["segment_lotus_commit_calls_count"] == 1
    assert found["segment_lotus_commit_seconds_sum"] == 0.02
    assert found["segment_lotus_queue_depth"] == 7


def test_a_refused_request_is_counted_by_its_code_and_an_answered_one_by_its_time(telemetry: Telemetry) -> None:
    for code in REFUSAL_CODES:
        telemetry.count_refused(code)
    telemetry.time_request(0.003)
    found = samples(telemetry)
    assert {value for name, value in found.items() if name.startswith("segment_lotus_requests_refused_total")} == {1.0}
    assert found["segment_lotus_request_seconds_count"] == 1
    assert found['segment_lotus_request_seconds_bucket{le="0.0025"}'] == 0
    assert found['segment_lotus_request_seconds_bucket{le="0.005"}'] == 1


def test_no_call_and_no_request_adds_a_name(telemetry: Telemetry) -> None:
    before = samples(telemetry).keys()
    for outcome, reasons in REASONS_OF.items():
        for reason in reasons or (None,):
            telemetry.watch_commit(Commit(records=[settled(outcome, reason)], seconds=100, waiting=1))
    for code in REFUSAL_CODES:
        telemetry.count_refused(code)
    telemetry.time_request(100)
    assert samples(telemetry).keys() == before


def test_two_of_them_do_not_share_numbers(telemetry: Telemetry) -> None:
    telemetry.time_request(1)
    assert samples(Telemetry(shared=False))["segment_lotus_request_seconds_count"] == 0


_PROCESS = """
import sys
from app.core.outcome import Outcome
from app.store.writer import Commit
from app.service.telemetry import Telemetry
from tests.builders import a_record

telemetry = Telemetry(shared=True)
record = a_record()
record.outcome = Outcome.STORED
for _ in range(int(sys.argv[1])):
    telemetry.watch_commit(Commit(records=[record, record], seconds=0.5, waiting=3))
    telemetry.count_refused("too_large")
sys.stdout.write(telemetry.expose().decode())
"""


def run_process(folder: Path, times: int) -> dict[str, float]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _PROCESS, str(times)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return parse(done.stdout)


def test_processes_that_share_add_up_and_what_one_counted_outlives_it(tmp_path: Path) -> None:
    first = run_process(tmp_path, 0)
    assert first[calls("stored")] == 0
    assert first[calls("rejected", "unstorable")] == 0
    assert first['segment_lotus_requests_refused_total{code="unavailable"}'] == 0
    run_process(tmp_path, 3)
    last = run_process(tmp_path, 4)
    assert last[calls("stored")] == 2 * (3 + 4)
    assert last['segment_lotus_requests_refused_total{code="too_large"}'] == 3 + 4
    assert last["segment_lotus_commit_seconds_count"] == 3 + 4
    assert last["segment_lotus_commit_calls_sum"] == 2 * (3 + 4)
