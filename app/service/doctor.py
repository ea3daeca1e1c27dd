"""Checks of the whole setup, and what to do about each problem: `doctor`."""

import os
from collections.abc import Callable, Iterator

import click

from app.catalog.check import check_folder
from app.catalog.live import build_catalog
from app.cli.program import DOTENV, check_schema, open_database, read_settings
from app.clock import clock
from app.core.credentials import Auth, Credentials
from app.core.signature import sign
from app.core.text import counted, printable
from app.core.times import format_time
from app.core.transform.transform import DEFAULT
from app.errors import SegmentLotusError, SettingInvalid, Unavailable
from app.forward.lotus import Lotus
from app.forward.outbox import read_outbox
from app.forward.verdict import read_verdict
from app.service.diagnosis import (
    Diagnosis,
    diagnose_drift,
    diagnose_growth,
    diagnose_last_call,
    diagnose_public_url,
    diagnose_refusals,
    read_current,
)
from app.settings import Settings, list_source_warnings, list_unused, list_warnings, load_for_serving
from app.store.engine import Database, RowRefused
from app.store.nodes import UNTRUSTED_PROXY, find_sighting
from app.store.postgresql import VANISHED_SECONDS, LockRelease, find_lock_release
from app.store.sqlite import Damaged

_MIN_KEY_LENGTH = 8
_CHECK_SECONDS = 10
_BODY = b'{"type":"track","messageId":"doctor"}'


@click.command()
@click.option(
    "--full", is_flag=True, help="Read the whole SQLite file, however long it takes; otherwise stop after 10 seconds."
)
@click.pass_context
def doctor(context: click.Context, *, full: bool) -> None:
    """Check settings, database, disk, transforms, drift, what arrives and Lotus, and say what to do.

    Exit code 1 if something is wrong.
    """
    well = True
    for diagnosis in _examine(None if full else _CHECK_SECONDS):
        mark = {True: "ok", False: "NO", None: "--"}[diagnosis.ok]
        click.echo(f"{mark}  {diagnosis.name:<11} {printable(diagnosis.sentence)}")
        well = well and diagnosis.ok is not False
    if not well:
        context.exit(1)


def _examine(seconds: float | None) -> Iterator[Diagnosis]:
    """Run the checks. `seconds`: how long to read the pages of a SQLite file; None: all of them."""
    try:
        yield _settings()
    except SettingInvalid as error:
        yield Diagnosis("settings", ok=False, sentence=" ".join(error.message.split("\n")))
    try:
        settings = read_settings()
    except SettingInvalid:
        return
    database = open_database(settings)
    connected = _run_check("database", lambda: _database(database))
    yield connected
    if connected.ok and database.file is None:
        yield _run_check("locks", lambda: _locks(database))
    yield _run_check("pages", lambda: _pages(database, seconds))
    yield _run_check("disk", lambda: _disk(settings, database))
    yield _run_check("transforms", lambda: _transforms(settings))
    yield _signature(settings)
    yield _keys("tracking", "SEGMENT_WRITE_KEYS", settings.segment_write_keys, "Segment's tracking API (/v1/*)")
    yield _keys("track-api", "LOTUS_INGEST_KEYS", settings.lotus_ingest_keys, "Lotus's track API (/api/track/)")
    yield diagnose_public_url(settings)
    yield _lotus(settings)
    if connected.ok:
        yield from _examine_use(settings, database)
        yield _run_check("proxy", lambda: _proxy(settings, database))
        yield _run_check("outbox", lambda: _outbox(settings, database))


def _examine_use(settings: Settings, database: Database) -> Iterator[Diagnosis]:
    """Run the checks of what the database says about the service in use."""
    yield _run_check("drift", lambda: diagnose_drift(settings, database))
    yield _run_check("growth", lambda: diagnose_growth(settings, database, clock()))
    yield _run_check("last-call", lambda: diagnose_last_call(read_current(settings, database, clock())))
    yield _run_check("refusals", lambda: diagnose_refusals(read_current(settings, database, clock())))


def _settings() -> Diagnosis:
    """Raise SettingInvalid if something is missing or cannot be used."""
    warnings = list_warnings(load_for_serving(os.environ, DOTENV)) + list_source_warnings(os.environ, DOTENV)
    if unused := list_unused(os.environ, DOTENV):
        warnings.append(f"not used in {DOTENV}, since the environment has another value: {', '.join(unused)}")
    return Diagnosis("settings", ok=True, sentence="; ".join(["complete", *warnings]))


def _run_check(name: str, check: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return check()
    except (SegmentLotusError, RowRefused) as error:
        return Diagnosis(name, ok=False, sentence=str(error))


def _database(database: Database) -> Diagnosis:
    check_schema(database)
    database.check_writable()
    return Diagnosis("database", ok=True, sentence="writable, and its schema is current")


def _locks(database: Database) -> Diagnosis:
    with database.committing() as conn:
        return judge_lock_release(find_lock_release(conn))


def judge_lock_release(release: LockRelease) -> Diagnosis:
    """Return how long a node that vanishes during a commit blocks the others."""
    what = f"a node that vanishes during a commit holds its locks for about {VANISHED_SECONDS} s"
    if release.has_timeout:
        return Diagnosis("locks", ok=True, sentence=what)
    server = f"PostgreSQL {release.version} has no transaction_timeout (17 and newer have it)"
    if release.has_keepalives:
        return Diagnosis("locks", ok=None, sentence=f"{what}, by TCP keepalives alone: {server}")
    why = f"{server}, and tcp_keepalives_idle was not taken: connect without a pooler, or upgrade"
    return Diagnosis(
        "locks", ok=False, sentence=f"a node that vanishes during a commit may hold its locks for hours: {why}"
    )


def _pages(database: Database, seconds: float | None) -> Diagnosis:
    if database.file is None:
        return Diagnosis("pages", ok=True, sentence="managed by the database server")
    integrity = database.check_integrity(seconds)
    if integrity.problem:
        return Diagnosis("pages", ok=False, sentence=str(Damaged(integrity.problem)))
    if integrity.unread:
        unread = ", ".join(integrity.unread)
        sentence = f"no damage found in {seconds:.0f} s of reading; not read: {unread}. `doctor --full` reads all"
        return Diagnosis("pages", ok=None, sentence=sentence)
    return Diagnosis("pages", ok=True, sentence="all read, none damaged")


def _disk(settings: Settings, database: Database) -> Diagnosis:
    free = database.free_bytes()
    if free is None:
        return Diagnosis("disk", ok=True, sentence="managed by the database server")
    floor = settings.min_free_disk_bytes
    sentence = f"{free // 10**6:,} MB free, {floor // 10**6:,} MB required (MIN_FREE_DISK_BYTES)"
    return Diagnosis(
        "disk", free >= floor, sentence if free >= floor else f"{sentence}: make room, or move DATABASE_URL"
    )


def _transforms(settings: Settings) -> Diagnosis:
    checked = check_folder(settings.transforms_dir, build_catalog(settings.pseudonym_key).parse)
    bad = sorted({problem.name for problem in checked.problems if problem.name not in checked.transforms})
    if DEFAULT not in checked.transforms:
        raise Unavailable(f"{settings.transforms_dir} has no usable {DEFAULT}.yaml: see TRANSFORMS_DIR")
    if bad:
        what = f"not used: {', '.join(bad)}; `segment-lotus check` says why"
        return Diagnosis("transforms", ok=False, sentence=what)
    return Diagnosis(
        "transforms", ok=True, sentence=f"{counted(len(checked.transforms), 'file')} in {settings.transforms_dir}"
    )


def _signature(settings: Settings) -> Diagnosis:
    if not settings.segment_shared_secrets:
        return Diagnosis("signature", ok=None, sentence="SEGMENT_SHARED_SECRETS is not set: Segment cannot sign")
    credentials = Credentials(shared_secrets=settings.segment_shared_secrets)
    for secret in settings.segment_shared_secrets:
        if credentials.authenticate(_BODY, sign(_BODY, secret), None) is not Auth.SIGNATURE:
            return Diagnosis("signature", ok=False, sentence="a body that was signed here is not accepted here")
    return Diagnosis("signature", ok=True, sentence="a body signed with each shared secret is accepted")


def _keys(name: str, setting: str, keys: tuple[str, ...], api: str) -> Diagnosis:
    if not keys:
        return Diagnosis(name, ok=None, sentence=f"{setting} is not set: {api} is off until you set it")
    short = sum(len(key) < _MIN_KEY_LENGTH for key in keys)
    if short:
        what = (
            f"{counted(short, 'key')} of {setting} shorter than {_MIN_KEY_LENGTH} characters: use longer ones,"
            " short keys can be guessed"
        )
        return Diagnosis(name, ok=False, sentence=what)
    return Diagnosis(name, ok=True, sentence=f"{counted(len(keys), 'key')} set: {api} is on")


def _lotus(settings: Settings) -> Diagnosis:
    if not settings.lotus_api_key:
        return Diagnosis("lotus", ok=None, sentence="LOTUS_API_KEY is not set: nothing is forwarded")
    if not settings.lotus_host:
        return Diagnosis("lotus", ok=False, sentence="LOTUS_HOST is not set: set it to the address of Lotus")
    lotus = Lotus(settings.lotus_host, settings.lotus_api_key)
    answer = lotus.ping()
    lotus.close()
    if answer.status == 200:  # noqa: PLR2004
        return Diagnosis("lotus", ok=True, sentence=f"{settings.lotus_host} answers, and accepts the key")
    verdict = read_verdict(answer, (), 0)
    sentence = verdict.trouble.sentence if verdict.trouble else f"/api/ping/ answers {answer.status}"
    return Diagnosis("lotus", ok=False, sentence=sentence)


def _proxy(settings: Settings, database: Database) -> Diagnosis:
    if settings.trusted_proxies:
        return Diagnosis("proxy", ok=True, sentence=f"TRUSTED_PROXIES is {settings.trusted_proxies}")
    with database.reading() as conn:
        seen_at = find_sighting(conn, UNTRUSTED_PROXY, clock())
    if seen_at is None:
        return Diagnosis("proxy", ok=True, sentence="none seen in the last 24 hours, and TRUSTED_PROXIES is 0")
    # Anybody can send the header: that must not fail the check of a deployment.
    what = (
        f"X-Forwarded-For arrives (last noted at {format_time(seen_at)}) and TRUSTED_PROXIES is 0: if there are proxies"
        " in front of the service, set it to their number; until then it cannot see their HTTPS, and marks no cookie"
        " Secure"
    )
    return Diagnosis("proxy", ok=None, sentence=what)


def _outbox(settings: Settings, database: Database) -> Diagnosis:
    with database.reading() as conn:
        outbox = read_outbox(conn)
    summary = f"{outbox.waiting} waiting, {outbox.failed} failed, {outbox.unforwardable} not forwardable"
    if outbox.paused:
        why = f"paused since {outbox.paused_at}: {outbox.message}. {outbox.advice or ''}"
        return Diagnosis("outbox", ok=False, sentence=f"{summary}; {why}")
    if outbox.failed:
        return Diagnosis("outbox", ok=False, sentence=f"{summary}; `segment-lotus deliveries list --groups` says why")
    return Diagnosis("outbox", ok=True if settings.lotus_api_key else None, sentence=summary)
