"""What other programs and people depend on is named in the README or in docs/: one list for each kind of name."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app import errors
from app.core.outcome import Outcome, Reason
from app.service.build import build
from app.service.commands import main
from app.service.flask_app import create_app
from app.service.telemetry import Telemetry
from app.settings import SETTINGS, Settings
from app.store.engine import connect
from app.store.migrate import migrate

ROOT = Path(__file__).parent.parent


def setting_names() -> Iterable[str]:
    return [setting.name for setting in SETTINGS]


def error_codes() -> Iterable[str]:
    # Codes that a class was given itself: the two bases are never raised.
    return [
        each.__dict__["code"]
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.SegmentLotusError) and "code" in each.__dict__
        if each is not errors.SegmentLotusError
    ]


def commands() -> Iterable[str]:
    return [f"segment-lotus {name}" for name in main.commands]


def routes() -> Iterable[str]:
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/docs.db"
        database = connect(url)
        migrate(database)
        database.close()
        service = build(Settings(database_url=url, admin_token="x" * 16, transforms_dir=ROOT / "transforms"))
        rules = [rule.rule for rule in create_app(service).url_map.iter_rules()]
        service.database.close()
    return {re.sub("<.*>", "<id>", rule) for rule in rules}


def metric_names() -> Iterable[str]:
    exposed = Telemetry(shared=False).expose().decode()
    # prometheus_client tells of each counter when it began, too.
    return [name for name in re.findall(r"^# TYPE (\S+)", exposed, re.MULTILINE) if not name.endswith("_created")]


NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "setting": setting_names,
    "error code": error_codes,
    "outcome": lambda: Outcome,
    "reason": lambda: Reason,
    "command": commands,
    "route": routes,
    "metric": metric_names,
}


def code_in(markdown: str) -> str:
    """What stands in code blocks and between backticks: `stored` in a sentence is a name, stored is a word."""
    blocks = re.findall(r"^ *```.*?^ *```", markdown, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`[^`\n]+`", re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def is_named(name: str, code: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code) is not None


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_is_documented(kind: str) -> None:
    pages = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if path.exists()]
    code = "\n".join(code_in(page.read_text(encoding="utf-8")) for page in pages)
    names = list(NAMES[kind]())
    assert names
    missing = [name for name in names if not is_named(name, code)]
    assert not missing, f"not named as code in README.md or docs/*.md: {', '.join(missing)}"


def test_the_settings_that_the_page_about_security_names_are_there() -> None:
    code = code_in((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", code))
    assert named
    assert named <= set(setting_names())


def test_a_name_counts_as_documented_only_where_it_is_code() -> None:
    code = code_in("stored `filtered` my_port\n\n```sh\nPORT=1 x\n```\nmore `a b`, duplicate, `MAX_PORT`")
    assert is_named("filtered", code)
    assert is_named("PORT", code)
    assert not is_named("stored", code)
    assert not is_named("duplicate", code)
    assert not is_named("MAX", code)
