from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SettingInvalid
from app.settings import (
    SETTINGS,
    WITH_WORKER,
    Setting,
    Settings,
    list_source_warnings,
    list_warnings,
    load,
    load_for_serving,
)

A_SECRET = "s3cret-that-must-not-be-shown"

ENOUGH_TO_SERVE = {
    "DATABASE_URL": "postgresql://lotus:pw@db/lotus",
    "SEGMENT_SHARED_SECRETS": "one",
    "ADMIN_TOKEN": "0123456789abcdefghij",
}


def refusal_of(environ: Mapping[str, str], dotenv: Path | None = None) -> str:
    with pytest.raises(SettingInvalid) as raised:
        load(environ, dotenv)
    return raised.value.message


def a_dotenv(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_set_gives_the_defaults() -> None:
    assert load({}) == Settings()
    assert load({}).database_url == "sqlite:///var/segment-lotus.db"
    assert load({}).max_body_bytes == 16 * 1024 * 1024
    assert load({}).transforms_dir == Path("transforms")


def test_an_empty_value_is_the_same_as_none() -> None:
    assert load({setting.name: "  " for setting in SETTINGS}) == Settings()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_default_is_the_text_that_gives_it(setting: Setting) -> None:
    assert load({setting.name: setting.default}) == Settings()


def test_every_setting_is_named_as_its_field_and_has_one_sentence() -> None:
    assert [setting.name.lower() for setting in SETTINGS] == [field.name for field in fields(Settings)]
    for setting in SETTINGS:
        assert setting.sentence.endswith("."), setting.name


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://u:p@h:5432/d", "postgresql+psycopg://u:p@h:5432/d"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+psycopg://u:p@h/d?sslmode=require"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql://postgres:@/d?host=/tmp/socket", "postgresql+psycopg://postgres:@/d?host=/tmp/socket"),
        ("sqlite:///var/x.db", "sqlite:///var/x.db"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
    ],
)
def test_a_database_url_becomes_what_sqlalchemy_wants(text: str, url: str) -> None:
    assert load({"DATABASE_URL": text}).database_url == url


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://u:s3cret@h/d", "must start with"),
        ("u:s3cret@h/d", "must start with"),
        ("postgresql+psycopg2://u:s3cret@h/d", "must start with"),
        ("postgresql://", "names no server"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///file::memory:?cache=shared", "must name a file"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_showing_the_url(url: str, sentence: str) -> None:
    message = refusal_of({"DATABASE_URL": url})
    assert message.startswith("DATABASE_URL ")
    assert sentence in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("one", ("one",)),
        (" one , two,,", ("one", "two")),
        ("a b:c=#\"'$`{x}", ("a b:c=#\"'$`{x}",)),
        ("schlüssel", ("schlüssel",)),
        (",", ()),
    ],
)
def test_a_list_is_split_at_commas_and_nothing_else(text: str, secrets: tuple[str, ...]) -> None:
    assert load({"SEGMENT_SHARED_SECRETS": text}).segment_shared_secrets == secrets


def test_a_basic_pair_keeps_the_colons_of_its_password() -> None:
    assert load({"SEGMENT_BASIC_AUTH": "u:p:q, v:w"}).segment_basic_auth == ("u:p:q", "v:w")


@pytest.mark.parametrize("pair", ["hunter2", "hunter2:", ":hunter2", ":"])
def test_a_basic_pair_without_user_or_password_is_refused_by_its_number(pair: str) -> None:
    message = refusal_of({"SEGMENT_BASIC_AUTH": f"u:p,{pair}"})
    assert message.startswith("SEGMENT_BASIC_AUTH ")
    assert "entry 2" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Kolkata", "Asia/Kolkata"),
        ("Europe/Vien", "Europe/Vienna"),
        ("Mars/Base", ""),
    ],
)
def test_a_time_zone_that_there_is_not_is_refused_with_those_that_are_near(text: str, near: str) -> None:
    assert str(load({"TIME_ZONE": "Europe/Berlin"}).time_zone) == "Europe/Berlin"
    message = refusal_of({"TIME_ZONE": text})
    assert message.startswith("TIME_ZONE must be the IANA name of a time zone, such as Europe/Berlin")
    assert message.endswith("?)." if near else "Berlin.")
    assert near in message.partition(" (did you mean ")[2]


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("False", False), ("no", False)]
)
def test_a_switch_can_be_said_in_words(text: str, value: bool) -> None:
    assert load({"METRICS_PUBLIC": text}).metrics_public is value


@pytest.mark.parametrize(
    ("text", "size"),
    [("2000", 2000), ("16MB", 16_000_000), ("16mib", 16_777_216), ("1 GiB", 1_073_741_824), ("5kb", 5000)],
)
def test_a_size_can_have_a_unit(text: str, size: int) -> None:
    assert load({"MAX_BODY_BYTES": text, "MAX_INFLIGHT_BYTES": "8GiB"}).max_body_bytes == size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "80a"),
        ("PORT", "٨٠"),
        ("PORT", "9" * 5000),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "-1"),
        ("MAX_BODY_BYTES", "16 parsecs"),
        ("MAX_BODY_BYTES", "1.5MB"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BODY_BYTES", "2GiB"),
        ("METRICS_PUBLIC", "maybe"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(name: str, text: str) -> None:
    assert refusal_of({name: text}).startswith(f"{name} must be ")


def test_every_wrong_value_is_named_at_once() -> None:
    message = refusal_of({"PORT": "x", "LOG_LEVEL": "x", "METRICS_PUBLIC": "x"})
    assert [line.split()[0] for line in message.splitlines()] == ["PORT", "METRICS_PUBLIC", "LOG_LEVEL"]


def test_a_secret_that_is_not_utf_8_is_refused_and_not_shown() -> None:
    message = refusal_of({"SEGMENT_SHARED_SECRETS": "hunter2\udcff"})
    assert message == "SEGMENT_SHARED_SECRETS is not UTF-8 text."


def test_a_body_that_could_never_be_taken_is_refused() -> None:
    assert "MAX_INFLIGHT_BYTES" in refusal_of({"MAX_BODY_BYTES": "65MiB"})


@given(
    texts=st.dictionaries(
        st.sampled_from([setting.name for setting in SETTINGS]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text("0123456789kKmMbBi:,@/ "),
    )
)
def test_any_text_gives_settings_or_a_sentence(texts: dict[str, str]) -> None:
    try:
        settings = load(texts)
    except SettingInvalid as error:
        assert error.message.split()[0] in texts  # noqa: PT017 (either end is right)
    else:
        assert isinstance(settings, Settings)


def test_a_repr_shows_no_secret() -> None:
    secrets = [setting for setting in SETTINGS if setting.secret]
    values = {setting.name: A_SECRET for setting in secrets}
    values |= {"DATABASE_URL": f"postgresql://u:{A_SECRET}@h/d", "SEGMENT_BASIC_AUTH": f"u:{A_SECRET}"}
    assert A_SECRET not in repr(load(values))
    assert {setting.name for setting in secrets} == {
        "DATABASE_URL",
        "SEGMENT_SHARED_SECRETS",
        "SEGMENT_BEARER_TOKENS",
        "SEGMENT_BASIC_AUTH",
        "SEGMENT_WRITE_KEYS",
        "LOTUS_INGEST_KEYS",
        "ADMIN_TOKEN",
        "PSEUDONYM_KEY",
        "LOTUS_API_KEY",
    }


@pytest.mark.parametrize("name", ["SEGMENT_WRITE_KEYS", "LOTUS_INGEST_KEYS"])
def test_a_key_of_a_tracking_api_alone_is_enough_to_serve(name: str) -> None:
    needed = {"DATABASE_URL": "sqlite:///x.db", "ADMIN_TOKEN": "x" * 20}
    with pytest.raises(SettingInvalid, match=name):
        load_for_serving(needed)
    settings = load_for_serving({**needed, name: "one, two"})
    assert getattr(settings, name.lower()) == ("one", "two")


def test_the_environment_wins_over_dotenv(tmp_path: Path) -> None:
    dotenv = a_dotenv(tmp_path, "PORT=1111\nHOST=10.0.0.1\n")
    settings = load({"PORT": "2222", "HOST": ""}, dotenv)
    assert (settings.port, settings.host) == (2222, "10.0.0.1")


def test_dotenv_is_text_and_no_program(tmp_path: Path) -> None:
    dotenv = a_dotenv(
        tmp_path,
        "\ufeff# a comment\nexport PORT=1111\nADMIN_TOKEN='a#b $HOME ${HOME} \"c'\nSEGMENT_SHARED_SECRETS=a$b # why\n",
    )
    settings = load({"HOME": "/root"}, dotenv)
    assert settings.port == 1111
    assert settings.admin_token == 'a#b $HOME ${HOME} "c'
    assert settings.segment_shared_secrets == ("a$b",)


def test_a_missing_dotenv_is_no_error(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env") == Settings()


@pytest.mark.parametrize("line", ["ADMIN_TOKEN hunter2", "ADMIN_TOKEN='hunter2", "hunter2"])
def test_a_line_of_dotenv_that_cannot_be_read_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    dotenv = a_dotenv(tmp_path, f"PORT=1111\n\n# a comment\n\n{line}\nHOST=127.0.0.1\n")
    message = refusal_of({}, dotenv)
    assert message == f"{dotenv}, line 5, is not of the form NAME=value: correct or remove it."


def test_a_dotenv_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin-1").write_bytes(b"ADMIN_TOKEN=\xe4\n")
    assert "not UTF-8" in refusal_of({}, tmp_path / "latin-1")
    assert "cannot be read" in refusal_of({}, tmp_path)


def test_serving_takes_what_is_enough() -> None:
    assert load_for_serving(ENOUGH_TO_SERVE) == load(ENOUGH_TO_SERVE)


@pytest.mark.parametrize(
    "credential",
    [{"SEGMENT_SHARED_SECRETS": "x"}, {"SEGMENT_BEARER_TOKENS": "x"}, {"SEGMENT_BASIC_AUTH": "u:p"}],
    ids=lambda credential: next(iter(credential)),
)
def test_serving_takes_any_one_credential(credential: dict[str, str]) -> None:
    load_for_serving(ENOUGH_TO_SERVE | {"SEGMENT_SHARED_SECRETS": ""} | credential)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", ""),
        ("SEGMENT_SHARED_SECRETS", ""),
        ("SEGMENT_SHARED_SECRETS", " , "),
        ("ADMIN_TOKEN", ""),
        ("ADMIN_TOKEN", "x" * 251),
    ],
)
def test_serving_ends_with_a_sentence_where_something_is_missing(name: str, text: str) -> None:
    with pytest.raises(SettingInvalid, match=name) as raised:
        load_for_serving(ENOUGH_TO_SERVE | {name: text})
    if text.strip(" ,"):
        assert text not in raised.value.message


@pytest.mark.parametrize("host", ["::", "0::0", "10.0.0.1", "billing.example.com"])
def test_a_token_that_can_be_guessed_is_refused_where_others_reach_it(host: str) -> None:
    short = ENOUGH_TO_SERVE | {"HOST": host, "ADMIN_TOKEN": "0123456789abcdefghi"}
    with pytest.raises(SettingInvalid, match="ADMIN_TOKEN is missing or shorter than 20 characters") as raised:
        load_for_serving(short)
    assert short["ADMIN_TOKEN"] not in raised.value.message
    assert list_warnings(load_for_serving(short | {"ADMIN_TOKEN": "0123456789abcdefghij"})) == []


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_token_that_can_be_guessed_is_warned_of_where_only_this_machine_reaches_it(host: str) -> None:
    short = ENOUGH_TO_SERVE | {"HOST": host, "ADMIN_TOKEN": "short-one"}
    [warning] = list_warnings(load_for_serving(short))
    assert "ADMIN_TOKEN is shorter than 20 characters" in warning
    assert "short-one" not in warning
    with pytest.raises(SettingInvalid, match="ADMIN_TOKEN is missing"):
        load_for_serving(short | {"ADMIN_TOKEN": ""})


def test_serving_names_all_that_is_missing_at_once() -> None:
    with pytest.raises(SettingInvalid) as raised:
        load_for_serving({})
    for name in ENOUGH_TO_SERVE:
        assert name in raised.value.message


def test_a_database_url_in_dotenv_is_one_that_was_asked_for(tmp_path: Path) -> None:
    dotenv = a_dotenv(tmp_path, "".join(f"{name}={text}\n" for name, text in ENOUGH_TO_SERVE.items()))
    load_for_serving({}, dotenv)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SEGMENT_SHARED_SECRET", "SEGMENT_SHARED_SECRETS"),
        ("SEGMENT_SECRET", "SEGMENT_SHARED_SECRETS"),
        ("LOTUS_APIKEY", "LOTUS_API_KEY"),
        ("lotus_host", "LOTUS_HOST"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("TIMEZONE", "TIME_ZONE"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("WEB-CONCURRENCY", "WEB_CONCURRENCY"),
    ],
)
def test_a_name_that_looks_like_a_setting_is_said_with_the_one_that_is_meant(
    tmp_path: Path, name: str, meant: str
) -> None:
    end = f"is no setting, and is not used: did you mean {meant}?"
    assert list_source_warnings({name: A_SECRET}) == [f"{name} in the environment {end}"]
    if "-" not in name:
        assert list_source_warnings({}, a_dotenv(tmp_path, f"{name}={A_SECRET}\n")) == [f"{name} in .env {end}"]
    # Where the right one is there, another program may need its neighbour.
    assert list_source_warnings({name: A_SECRET, meant: A_SECRET}) == []


@pytest.mark.parametrize("name", ["HOSTNAME", "HOME", "TZ", "PATH", "METRICS_PORT", "PYTHON_VERSION", WITH_WORKER])
def test_names_of_other_programs_are_left_alone(tmp_path: Path, name: str) -> None:
    assert list_source_warnings({name: "x"}, a_dotenv(tmp_path, f"{name}=x\n")) == []


def test_a_name_in_dotenv_that_begins_like_a_setting_is_said_even_if_it_resembles_none(tmp_path: Path) -> None:
    assert "SEGMENT_REGION in .env is no setting" in list_source_warnings({}, a_dotenv(tmp_path, "SEGMENT_REGION=x"))[0]
