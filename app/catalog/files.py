"""The folder of transform files."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import TransformInvalid

FILE_BYTES_MAX = 256 * 1024
_SUFFIX = ".yaml"
_DRAFT_SUFFIX = ".draft.yaml"

# A name is used in indexed columns, in ids of `also` lanes, in URLs and on command lines.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The files of a folder when it was read."""

    texts: dict[str, str]
    """Text by name; the name is the file's, without `.yaml`."""
    problems: dict[str, str]
    """Why a file could not be read, by name."""


def read_folder(folder: Path) -> Folder:
    """Read every `*.yaml` file of a folder, except drafts. A file that cannot be read becomes a problem."""
    texts: dict[str, str] = {}
    problems: dict[str, str] = {}
    for path in _files(folder):
        try:
            texts[to_name(path)] = read_file(path)
        except TransformInvalid as error:
            problems[path.stem] = error.message
    return Folder(texts=texts, problems=problems)


def read_file(path: Path) -> str:
    """Read one file. Raises TransformInvalid."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TransformInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise TransformInvalid(f"{path.name} is larger than {FILE_BYTES_MAX // 1024} KiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise TransformInvalid(f"{path.name} is not UTF-8 at byte {error.start}") from error


def write_file(path: Path, text: str) -> None:
    """Write one file atomically: a concurrent reader gets the old text or the new. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(text.encode())
        if path.exists():
            beside.chmod(path.stat().st_mode)
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def to_path(folder: Path, name: str, *, draft: bool = False) -> Path:
    """Return the path of the file of a transform. Raises TransformInvalid if `name` cannot be a name."""
    if not _NAME.fullmatch(name):
        raise TransformInvalid(f"{name[:100]!r} is not a valid transform name: use ASCII letters, digits, _ and -")
    return folder / f"{name}{_DRAFT_SUFFIX if draft else _SUFFIX}"


def to_name(path: Path) -> str:
    """Return the name of the transform in a file, a draft or not. Raises TransformInvalid."""
    name = path.name.removesuffix(_SUFFIX).removesuffix(".draft")
    if not _NAME.fullmatch(name):
        raise TransformInvalid(f"{path.name} cannot be used: name the file with ASCII letters, digits, _ and -")
    return name


def fingerprint(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return the name, inode, size and modification time of each file; it changes whenever a file does."""
    entries = []
    for path in _files(folder):
        try:
            status = path.stat()
        except OSError:
            continue
        entries.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(entries)


def _files(folder: Path) -> list[Path]:
    # Editors keep dot files beside the one that is open.
    paths = (path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith("."))
    return sorted(path for path in paths if not path.name.endswith(_DRAFT_SUFFIX))
