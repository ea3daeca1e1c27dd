"""Every setting: its name, its default, and one sentence about it.

Read once, at the start, from the environment and `.env`, and passed to whatever needs them. An error message names the
setting and what to do, and never shows its value, which may be a secret.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from app.errors import SettingInvalid
from app.settings.sources import (
    DotenvUnreadable,
    is_complete,
    list_misspelt,
    list_overridden,
    read_dotenv,
    read_needed,
)
from app.settings.values import (
    GIB,
    KIB,
    parse_basic_auth,
    parse_bool,
    parse_bytes,
    parse_database_url,
    parse_int,
    parse_list,
    parse_log_level,
    parse_lotus_host,
    parse_public_url,
    parse_time_zone,
)

T = TypeVar("T")

WITH_WORKER = "SEGMENT_LOTUS_WITH_WORKER"
"""Set by `serve --with-worker` for the processes of the service. Not a setting: it records how they were started."""

# The token gives access to everything, and nothing limits guesses: 20 random characters cannot be guessed.
MIN_ADMIN_TOKEN_LENGTH = 20
# The form of /sign-in accepts no longer one.
MAX_ADMIN_TOKEN_LENGTH = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The description of one setting. `SETTINGS` lists them all."""

    name: str
    """Its name in the environment and in `.env`."""
    default: str
    """The text used if it is not set."""
    sentence: str
    """What it is for."""
    secret: bool
    """Its value must not be shown."""


def _setting(parse: Callable[[str], T], default: str, sentence: str, *, secret: bool = False) -> T:
    metadata = {"parse": parse, "default": default, "sentence": sentence, "secret": secret}
    # `dataclasses.field` is typed as returning T, so that a field can be written like a plain default.
    value: T = field(default=parse(default), repr=not secret, metadata=metadata)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of all settings. Each field has the name of its setting, in lower case."""

    database_url: str = _setting(
        parse_database_url,
        "sqlite:///var/segment-lotus.db",
        "Where everything is kept: a SQLite file, or a PostgreSQL database.",
        secret=True,
    )
    host: str = _setting(str, "127.0.0.1", "The address to listen on; 0.0.0.0 is every address of the machine.")
    port: int = _setting(parse_int(1, 65535), "8000", "The port to listen on.")
    segment_shared_secrets: tuple[str, ...] = _setting(
        parse_list,
        "",
        "The secrets with which Segment signs, comma-separated; all are accepted, so that one can be replaced.",
        secret=True,
    )
    segment_bearer_tokens: tuple[str, ...] = _setting(
        parse_list, "", "Tokens accepted in `Authorization: Bearer`, comma-separated.", secret=True
    )
    segment_basic_auth: tuple[str, ...] = _setting(
        parse_basic_auth,
        "",
        "`user:password` pairs accepted in `Authorization: Basic`, comma-separated.",
        secret=True,
    )
    segment_require_full_auth: bool = _setting(
        parse_bool, "0", "1 refuses a batch of which the signature covers only the first call."
    )
    segment_write_keys: tuple[str, ...] = _setting(
        parse_list,
        "",
        "Write keys for Segment's tracking API here (`/v1/*`), comma-separated; the API is off until you set one.",
        secret=True,
    )
    lotus_ingest_keys: tuple[str, ...] = _setting(
        parse_list,
        "",
        "API keys for Lotus's track API here (`/api/track/`), comma-separated; the API is off until you set one.",
        secret=True,
    )
    admin_token: str = _setting(
        str, "", "Gives access to the JSON API, the pages, the metrics and the details of /readyz.", secret=True
    )
    metrics_public: bool = _setting(parse_bool, "0", "1 serves /metrics without the admin token.")
    public_url: str = _setting(
        parse_public_url, "", "The address at which Segment reaches this service, such as https://billing.example.com."
    )
    trusted_proxies: int = _setting(
        parse_int(0, 10),
        "0",
        "How many proxies in front set X-Forwarded-For and X-Forwarded-Proto (the client's address and HTTPS).",
    )
    transforms_dir: Path = _setting(Path, "transforms", "The folder of the transform files.")  # noqa: RUF009 (a field)
    metrics_dir: Path = _setting(Path, "metrics", "The folder of the metric files.")  # noqa: RUF009 (a field)
    pseudonym_key: str = _setting(
        str,
        "",
        "The key of the pseudonyms that sha256() makes in transforms: a long random text, the same on every node.",
        secret=True,
    )
    lotus_host: str = _setting(
        parse_lotus_host, "", "The address of Lotus, such as https://lotus.example.com; events are forwarded there."
    )
    lotus_api_key: str = _setting(
        str, "", "The API key of Lotus. If set, every stored event is forwarded to LOTUS_HOST.", secret=True
    )
    max_body_bytes: int = _setting(
        parse_bytes(KIB, GIB), "16MiB", "The largest request body, counted after it is inflated."
    )
    max_inflight_bytes: int = _setting(
        parse_bytes(KIB, 64 * GIB),
        "64MiB",
        "The most bytes of request bodies that one process holds at a time; a request beyond it is answered with 503.",
    )
    min_free_disk_bytes: int = _setting(
        parse_bytes(0, 1024 * GIB),
        "100MB",
        "With less free space than this on the disk of the data, /readyz reports not ready.",
    )
    log_level: str = _setting(
        parse_log_level, "info", "The lowest level that is logged: debug, info, warning or error."
    )
    log_properties: bool = _setting(parse_bool, "0", "1 includes each event's properties in its log line.")
    time_zone: tzinfo = _setting(  # noqa: RUF009 (a field)
        parse_time_zone,
        "UTC",
        "The time zone of the pages and of `usage`, such as Europe/Berlin, where nobody asks for another.",
    )
    web_concurrency: int = _setting(parse_int(1, 64), "2", "How many worker processes answer requests.")


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(
        name=each.name.upper(),
        default=each.metadata["default"],
        sentence=each.metadata["sentence"],
        secret=each.metadata["secret"],
    )
    for each in fields(Settings)
)

_NAMES = tuple(setting.name for setting in SETTINGS)


def load(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Return the settings of the environment, and of the file `dotenv` for those the environment does not set.

    An empty value counts as not set. Raises SettingInvalid, which names all invalid values at once.
    """
    return _parse(_read(environ, dotenv))


def load_for_serving(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """`load`, and raise SettingInvalid if credentials are missing, or the database was not chosen explicitly."""
    texts = _read(environ, dotenv)
    settings = _parse(texts)
    missing = []
    if "DATABASE_URL" not in texts:
        missing.append(
            "DATABASE_URL is not set: name a PostgreSQL database, or a SQLite file explicitly, such as"
            " DATABASE_URL=sqlite:///var/segment-lotus.db."
        )
    webhook = settings.segment_shared_secrets or settings.segment_bearer_tokens or settings.segment_basic_auth
    if not (webhook or settings.segment_write_keys or settings.lotus_ingest_keys):
        missing.append(
            "There is no credential for the webhook: set SEGMENT_SHARED_SECRETS (or SEGMENT_BEARER_TOKENS, or"
            " SEGMENT_BASIC_AUTH), the same on every node. For the tracking APIs alone, SEGMENT_WRITE_KEYS or"
            " LOTUS_INGEST_KEYS is enough."
        )
    if not settings.admin_token or (has_short_admin_token(settings) and not is_loopback(settings.host)):
        missing.append(
            f"ADMIN_TOKEN is missing or shorter than {MIN_ADMIN_TOKEN_LENGTH} characters: set it to a long random"
            " text, for example from `openssl rand -hex 32`."
        )
    if len(settings.admin_token) > MAX_ADMIN_TOKEN_LENGTH:
        missing.append(f"ADMIN_TOKEN is longer than {MAX_ADMIN_TOKEN_LENGTH} characters: set it to a shorter text.")
    if settings.lotus_api_key and not settings.lotus_host:
        missing.append("LOTUS_API_KEY is set and LOTUS_HOST is not: set it to the address of Lotus.")
    if missing:
        missing += list_source_warnings(environ, dotenv)
        missing.append("Set them in the environment or in .env; `segment-lotus init` writes a .env for a first try.")
        raise SettingInvalid("\n".join(missing))
    return settings


def list_warnings(settings: Settings) -> list[str]:
    """Return warnings, one sentence each, about settings that work but should be changed."""
    if not has_short_admin_token(settings):
        return []
    warning = (
        f"ADMIN_TOKEN is shorter than {MIN_ADMIN_TOKEN_LENGTH} characters and can be guessed. It is taken only because"
        f" HOST is {settings.host}: before anything forwards requests to this address, set it to a long random text,"
        " for example from `openssl rand -hex 32`."
    )
    return [warning]


def has_short_admin_token(settings: Settings) -> bool:
    """Whether the admin token is so short that it can be guessed."""
    return len(settings.admin_token) < MIN_ADMIN_TOKEN_LENGTH


def is_loopback(host: str) -> bool:
    """Whether a server on `host` can be reached from this machine only: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def list_source_warnings(environ: Mapping[str, str], dotenv: Path | None = None) -> list[str]:
    """Return warnings, one sentence each: names that look like settings and are none, a `.env` that is not read.

    Raises SettingInvalid, as `load` does.
    """
    try:
        in_file = read_dotenv(dotenv)
    except DotenvUnreadable as error:
        if not is_complete(environ):
            raise
        unread = f"{error.message} The environment has all that is needed, so it is left out."
        return [unread, *list_misspelt(environ, {}, _NAMES)]
    return list_misspelt(environ, in_file, _NAMES)


def list_unused(environ: Mapping[str, str], dotenv: Path | None = None) -> list[str]:
    """Return the settings of `.env` for which the environment has another value. Raises SettingInvalid."""
    return list_overridden(environ, read_needed(environ, dotenv), _NAMES)


def _read(environ: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """Return the texts of all settings that are set, by name."""
    in_file = read_needed(environ, dotenv)
    texts = {}
    for setting in SETTINGS:
        text = environ.get(setting.name, "").strip() or in_file.get(setting.name, "").strip()
        if text:
            texts[setting.name] = text
    return texts


def _parse(texts: Mapping[str, str]) -> Settings:
    values: dict[str, Any] = {}
    problems = []
    for each in fields(Settings):
        name = each.name.upper()
        if name in texts:
            try:
                texts[name].encode()  # Secrets are used as UTF-8; other bytes arrive as lone surrogates.
                values[each.name] = each.metadata["parse"](texts[name])
            except UnicodeEncodeError:
                problems.append(f"{name} is not UTF-8 text.")
            except ValueError as error:
                problems.append(f"{name} {error}.")
    if problems:
        raise SettingInvalid("\n".join(problems))
    settings = Settings(**values)
    if settings.max_inflight_bytes < settings.max_body_bytes:
        raise SettingInvalid(
            "MAX_INFLIGHT_BYTES is smaller than MAX_BODY_BYTES, so the largest body could never be accepted: raise it"
            f" to at least {settings.max_body_bytes}, or lower MAX_BODY_BYTES."
        )
    return settings
