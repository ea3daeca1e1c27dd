"""What `doctor` says about a service in use: drift, its public address, what reaches it, and how it grows."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from app.catalog.files import read_folder
from app.catalog.live import build_catalog
from app.catalog.status import FileState, compare_with_live
from app.core.text import counted
from app.core.times import format_time
from app.service.reception import WHO, Reception, read_reception
from app.service.remedies import find_remedy
from app.service.secrets import secret_fingerprints
from app.settings import Settings
from app.store.engine import Connection, Database
from app.store.ledger import CALL, sum_counts
from app.store.refusals import Sender

_DAY = 86_400_000_000
_DAYS = 7
_LEAST_DAYS = 14
"""With room for fewer days than this, somebody should act now."""

_LEAST_CALLS = 1000
"""Below this, the empty tables weigh more than the calls, and an estimate says nothing."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of one check."""

    name: str
    ok: bool | None
    """None: not set up, and optional."""
    sentence: str


def diagnose_drift(settings: Settings, database: Database) -> Diagnosis:
    """Compare the transform files with the live versions."""
    with database.reading() as conn:
        status = compare_with_live(conn, build_catalog(settings.pseudonym_key), read_folder(settings.transforms_dir))
    drifted = [file.name for file in status.in_state(FileState.DRIFT)]
    without_file = [file.name for file in status.in_state(FileState.NO_FILE)]
    if drifted:
        what = f"{', '.join(drifted)}: file and live version differ; `segment-lotus transforms diff NAME` shows how"
        return Diagnosis("drift", ok=False, sentence=what)
    if without_file:
        return Diagnosis("drift", ok=None, sentence=f"live without a file: {', '.join(without_file)}")
    return Diagnosis("drift", ok=True, sentence="no transform file differs from its live version")


def diagnose_public_url(settings: Settings) -> Diagnosis:
    """Judge PUBLIC_URL by itself: a service that calls its own address fails behind many routers."""
    parts = urlsplit(settings.public_url)
    if not settings.public_url:
        what = "PUBLIC_URL is not set: the setup page shows the address that the browser uses"
        return Diagnosis("public-url", ok=None, sentence=what)
    if not _is_public(parts.hostname or ""):
        what = f"Segment cannot reach {parts.hostname}: set PUBLIC_URL to a name or address that the internet knows"
        return Diagnosis("public-url", ok=False, sentence=what)
    if parts.scheme != "https":
        what = "PUBLIC_URL is not https: calls can be read, and signatures copied, on the way"
        return Diagnosis("public-url", ok=False, sentence=what)
    return Diagnosis("public-url", ok=True, sentence=f"Segment's URL is {settings.public_url}/webhooks/segment")


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".localhost", ".internal"))


def read_current(settings: Settings, database: Database, now: int) -> Reception:
    """Read what reached the service."""
    with database.reading() as conn:
        return read_reception(conn, secret_fingerprints(settings), now)


def diagnose_refusals(reception: Reception) -> Diagnosis:
    """Judge the refused requests that nobody has acknowledged."""
    if loss := reception.loss:
        last = loss.last
        why = last.diagnosis or find_remedy(last)
        what = (
            f"{counted(loss.count, 'request')} of {WHO[last.sender]} refused, the last one at"
            f" {format_time(last.received_at)} ({last.code}, {last.path}). {why}"
        )
        return Diagnosis("refusals", ok=False, sentence=what)
    quiet = sum(group.count for group in reception.quiet)
    others = f"; {counted(quiet, 'request')} of strangers or of this machine refused" if quiet else ""
    return Diagnosis("refusals", ok=True, sentence=f"no calls of Segment are being lost{others}")


def diagnose_last_call(reception: Reception) -> Diagnosis:
    """Say when the last call came, and when Segment sent one."""
    if reception.call is None:
        what = "no call has come yet; `segment-lotus send sample` sends some, and /setup says what to enter in Segment"
        return Diagnosis("last-call", ok=None, sentence=what)
    at = format_time(reception.call.received_at)
    segment = reception.seen.get(Sender.SEGMENT)
    if segment is None:
        return Diagnosis("last-call", ok=None, sentence=f"at {at}; none has been noted from Segment yet")
    what = f"at {at}; from Segment at {format_time(segment)}, to a minute or two"
    return Diagnosis("last-call", ok=True, sentence=what)


def diagnose_growth(settings: Settings, database: Database, now: int) -> Diagnosis:
    """Estimate how long the disk lasts, by the bytes of a call so far and the calls of the last days."""
    with database.reading() as conn:
        size = database.size_bytes(conn)
        total, recent = _count_calls(conn), _count_calls(conn, now - _DAYS * _DAY)
    free = database.free_bytes()
    what = f"{size // 10**6:,} MB for {counted(total, 'call')}"
    if total < _LEAST_CALLS:
        return Diagnosis("growth", ok=True, sentence=f"{what}: too few to tell")
    per_day = recent / _DAYS * size / total
    what += f"; {recent // _DAYS:,} calls a day in the last {_DAYS} days are about {per_day / 10**6:,.1f} MB a day"
    if free is None or not recent:
        return Diagnosis("growth", ok=True, sentence=what)
    days = max(0, free - settings.min_free_disk_bytes) / per_day
    if days < _LEAST_DAYS:
        way_out = f"room for {days:.0f} days: enlarge the disk, or let `segment-lotus retention` delete old raw bytes"
        return Diagnosis("growth", ok=False, sentence=f"{what}; {way_out}")
    return Diagnosis("growth", ok=True, sentence=f"{what}; room for {counted(int(days), 'day')}")


def _count_calls(conn: Connection, since: int | None = None) -> int:
    return sum(count for (subject, _, _), count in sum_counts(conn, since).items() if subject == CALL)
