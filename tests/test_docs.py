"""What other programs and people depend on is on its page of docs/, and what is there exists: one list a kind."""

import re
from collections.abc import Callable, Iterable
from tempfile import TemporaryDirectory

import click
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
from app.web.errors import STATUS_OF
from tests.docs import DOCS, README, ROOT, blocks_of, first_cells, section_of


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
    return list(command_options())


def command_options() -> dict[str, set[str]]:
    """Every command that can be typed, with its options."""

    def walk(name: str, command: click.Command) -> Iterable[tuple[str, set[str]]]:
        if isinstance(command, click.Group):
            for word, below in command.commands.items():
                yield from walk(f"{name} {word}", below)
        else:
            long = {
                option
                for parameter in command.params
                if not getattr(parameter, "hidden", False)
                for option in parameter.opts
                if option.startswith("--")
            }
            yield name, long - {"--help"}

    return dict(walk("segment-lotus", main))


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


NAMES: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
    "setting": ("settings", setting_names),
    "error code": ("responses", error_codes),
    "outcome": ("responses", lambda: Outcome),
    "reason": ("responses", lambda: Reason),
    "command": ("cli", commands),
    "route": ("api", routes),
    "metric": ("operate", metric_names),
}
"""The page for each kind of name, below docs/."""


def code_in(markdown: str) -> str:
    """What stands in code blocks and between backticks: `stored` in a sentence is a name, stored is a word."""
    blocks = re.findall(r"^ *```.*?^ *```", markdown, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`[^`\n]+`", re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def is_named(name: str, code: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code) is not None


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_is_documented(kind: str) -> None:
    where, list_names = NAMES[kind]
    code = code_in(page(where))
    names = list(list_names())
    assert names
    missing = [name for name in names if not is_named(name, code)]
    assert not missing, f"not named as code in docs/{where}.md: {', '.join(missing)}"


def test_every_setting_has_its_row_with_its_default_and_every_row_is_a_setting() -> None:
    rows = [(re.findall(r"`(.+?)`", name), default.strip("`")) for name, default in first_cells(page("settings"), 2)]
    documented = {name: default for (name,), default in rows}
    assert len(documented) == len(rows)
    assert documented == {setting.name: setting.default for setting in SETTINGS}


def test_every_command_has_its_row_with_its_options_and_every_row_is_a_command() -> None:
    documented = {
        re.sub(r" [\[A-Z].*", "", typed.strip("`")): set(re.findall(r"`(--[\w-]+)", options))
        for typed, _, options in first_cells(page("cli"), 3)
    }
    assert documented == command_options()


def test_the_page_of_commands_has_the_sections_of_the_help() -> None:
    documented = {}
    for section in page("cli").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        documented[title] = {typed.strip("`").split()[1] for (typed,) in first_cells(text)}
    assert documented == {title: set(names) for title, names in main.sections().items()}


def test_every_path_with_a_method_is_a_route() -> None:
    paths = {path for path in re.findall(r"`(?:[A-Z]+ )?(/[^ `?]*)`", page("api")) if path != "/v1/*"}
    assert paths
    assert paths <= set(routes())


def test_every_error_code_has_its_status() -> None:
    rows = {(status, code.strip("`")) for status, code in first_cells(page("responses"), 2) if code}
    missing = {(str(status), kind.code) for kind, status in STATUS_OF.items()} - rows
    assert not missing


def test_every_metric_in_the_table_is_exposed() -> None:
    documented = {name.strip("`") for (name,) in first_cells(section_of(DOCS / "operate.md", "## Monitoring"))}
    outbox = {"segment_lotus_deliveries", "segment_lotus_delivery_late_seconds", "segment_lotus_destination_paused"}
    assert documented == set(metric_names()) | outbox


def test_each_metric_says_what_it_means_and_what_to_do() -> None:
    rows = first_cells(section_of(DOCS / "operate.md", "## Monitoring"), 3)
    assert [row for row in rows if len(row) != 3 or not all(row)] == []


def test_the_readme_is_short_and_its_transform_and_event_are_those_of_the_page_about_transforms() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    shown = [block.text for block in blocks_of(README) if block.info in {"yaml", "json"}]
    explained = [block.text for block in blocks_of(DOCS / "transforms.md")]
    assert shown[1] == (ROOT / "transforms" / "api_call.yaml").read_text(encoding="utf-8")
    assert {shown[1], shown[2]} <= set(explained)


def test_every_page_is_on_the_index() -> None:
    index = page("index")
    missing = [path.name for path in DOCS.glob("*.md") if path.name != "index.md" and f"({path.name})" not in index]
    assert not missing


def test_the_settings_that_the_page_about_security_names_are_there() -> None:
    code = code_in(page("security"))
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
