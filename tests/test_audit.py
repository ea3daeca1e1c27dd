"""The report on known vulnerabilities: what was found, what could not be asked about, and that it fails nothing."""

import pytest

from tools import audit

SAFE = {"name": "click", "version": "8.5", "vulns": []}
FAULTY = {
    "name": "jinja2",
    "version": "3.1.6",
    "vulns": [{"id": "CVE-2099-1", "fix_versions": ["3.1.7", "3.2"]}, {"id": "CVE-2099-2", "fix_versions": []}],
}
UNKNOWN = {"name": "flask", "skip_reason": "it is not to be found"}


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ([SAFE], ["0 of 1 locked packages"]),
        (
            [SAFE, FAULTY],
            ["1 of 2 locked", "jinja2 3.1.6: CVE-2099-1, fixed in 3.1.7, 3.2", "CVE-2099-2, fixed in no release"],
        ),
        ([SAFE, UNKNOWN], ["0 of 1 locked packages", "1 could not be asked about: flask"]),
        ([UNKNOWN, UNKNOWN], ["not asked about", "cannot be reached", "it is not to be found"]),
        ([], ["not asked about"]),
    ],
)
def test_a_report_says_what_is_known_and_what_was_not_asked(packages: list[object], words: list[str]) -> None:
    text = audit.describe({"dependencies": packages})
    assert all(word in text for word in words), text


def test_without_an_answer_in_time_it_says_so_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "SECONDS", 0.01)
    audit.main()
    assert "not asked about, since there was no answer" in capsys.readouterr().out
