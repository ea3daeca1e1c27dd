"""Where the texts of settings come from: the environment, then `.env`; and names there that are no setting."""

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from app.errors import SettingInvalid

_PREFIXES = ("SEGMENT_", "LOTUS_")
"""Only this program's settings, and what is meant to be one, begin like this in `.env`."""

_CREDENTIALS = (
    "SEGMENT_SHARED_SECRETS",
    "SEGMENT_BEARER_TOKENS",
    "SEGMENT_BASIC_AUTH",
    "SEGMENT_WRITE_KEYS",
    "LOTUS_INGEST_KEYS",
)
"""Each of them lets somebody send calls; one is enough."""

_OWN_PREFIX = "SEGMENT_LOTUS_"
_NEAR = 0.85
_NEAR_IN_FILE = 0.8
_NEAR_WITH_PREFIX = 0.7
_SHORT = 8
"""A name below this length has too many neighbours: HOST and HOME."""


class DotenvUnreadable(SettingInvalid):
    """The file `.env` cannot be read."""


def read_dotenv(path: Path | None) -> dict[str, str]:
    """Return the values in a file, by name; none if there is no file.

    Raises:
        DotenvUnreadable: the system does not let this user read it.
        SettingInvalid: it is not UTF-8, or a line is not of the form NAME=value.

    """
    texts: dict[str, str] = {}
    # `Path.exists` raises where the folder may not be searched.
    if path is None or not os.path.lexists(path):
        return texts
    try:
        # Windows editors write a byte order mark, which would become part of the first name.
        with path.open(encoding="utf-8-sig") as file:
            for binding in parse_stream(file):
                # python-dotenv itself would log a warning and go on without the line.
                if binding.error or (binding.key is not None and binding.value is None):
                    text = binding.original.string
                    line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
                    raise SettingInvalid(f"{path}, line {line}, is not of the form NAME=value: correct or remove it.")
                if binding.key is not None and binding.value is not None:
                    texts[binding.key] = binding.value
    except UnicodeDecodeError:
        raise SettingInvalid(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise DotenvUnreadable(f"{path} cannot be read: {error.strerror}.") from error
    return texts


def is_complete(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment alone has all that serving needs, so that nobody needs a `.env`."""
    filled = {name for name, text in environ.items() if text.strip()}
    return filled >= {"DATABASE_URL", "ADMIN_TOKEN"} and not filled.isdisjoint(_CREDENTIALS)


def read_needed(environ: Mapping[str, str], path: Path | None) -> dict[str, str]:
    """Return what `read_dotenv` does; nothing if the file cannot be read, and nobody needs it."""
    try:
        return read_dotenv(path)
    except DotenvUnreadable:
        if is_complete(environ):
            return {}
        raise


def list_misspelt(environ: Mapping[str, str], in_file: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """Return a sentence for each name that is no setting and looks like one; never its value.

    In the environment, which is also other programs', a name has to resemble a setting that is not set there; in
    `.env`, which is ours, the first word of a setting is enough.
    """
    sentences = []
    for name in sorted(in_file.keys() - set(settings)):
        if meant := next(_neighbours(name, settings, _NEAR_IN_FILE), None):
            sentences.append(f"{name} in .env is no setting, and is not used: did you mean {meant}?")
        elif name.upper().startswith(_PREFIXES) and not name.startswith(_OWN_PREFIX):
            sentences.append(
                f"{name} in .env is no setting, and is not used: `segment-lotus settings` lists those there are."
            )
    for name in sorted(environ.keys() - set(settings) - in_file.keys()):
        meant = next(_neighbours(name, settings, _NEAR), None)
        if meant and not environ.get(meant, "").strip() and environ[name].strip():
            sentences.append(f"{name} in the environment is no setting, and is not used: did you mean {meant}?")
    return sentences


def list_overridden(environ: Mapping[str, str], in_file: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """Return the settings of `.env` that are not used, since the environment has another value."""
    return [
        name
        for name in settings
        if in_file.get(name, "").strip() and environ.get(name, "").strip() not in {"", in_file[name].strip()}
    ]


def _neighbours(name: str, settings: Collection[str], near: float) -> Iterator[str]:
    """Yield the settings that a name resembles, the nearest first."""
    if name.startswith(_OWN_PREFIX):
        return
    bare = _bare(name)
    yield from (setting for setting in settings if _bare(setting) == bare and len(bare) >= _SHORT)
    upper = name.upper()
    prefix = next((prefix for prefix in _PREFIXES if upper.startswith(prefix)), None)
    if prefix:
        yield from difflib.get_close_matches(
            upper, [setting for setting in settings if setting.startswith(prefix)], n=1, cutoff=_NEAR_WITH_PREFIX
        )
    elif len(name) >= _SHORT:
        yield from difflib.get_close_matches(upper, [*settings], n=1, cutoff=near)


def _bare(name: str) -> str:
    return name.upper().replace("_", "").replace("-", "").replace(".", "")
