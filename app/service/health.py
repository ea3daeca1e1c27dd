"""Liveness, readiness and metrics: `/healthz`, `/readyz`, `/metrics`."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, request

from app.catalog.status import FileState
from app.errors import Unauthorized, Unavailable
from app.forward.api import expose_deliveries
from app.service.build import Service
from app.store.engine import RowRefused
from app.store.migrate import is_current
from app.web.drain import Drain
from app.web.errors import to_json
from app.web.offload import Offload
from app.web.sessions import require_admin

_KEPT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one readiness check."""

    name: str
    ok: bool
    sentence: str


def health(service: Service, drain: Drain, offload: Offload) -> Blueprint:
    """Return `/healthz`, `/readyz` and `/metrics`."""
    blueprint = Blueprint("health", __name__)
    admin = require_admin(service.settings.admin_token)

    # Cached: anybody may ask, and each check takes the write lock.
    read_checks = _cached(lambda: [*_database(service), _disk(service)])

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return to_json({"status": "ok"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        checks = [_process(drain), *read_checks(), _transforms(service)]
        ready = all(check.ok for check in checks)
        answer: dict[str, object] = {"status": "ready" if ready else "not ready"}
        if _is_admin():
            answer["checks"] = [{"name": check.name, "ok": check.ok, "message": check.sentence} for check in checks]
            answer["transforms"] = _file_problems(service)
        return to_json(answer, 200 if ready else 503)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        if not service.settings.metrics_public:
            admin()
        numbers = service.telemetry.expose() + expose_deliveries(offload)
        return Response(numbers, content_type="text/plain; version=0.0.4; charset=utf-8")

    def _is_admin() -> bool:
        if "Authorization" not in request.headers:
            return False
        try:
            admin()
        except Unauthorized:
            return False
        return True

    return blueprint


def _cached(read: Callable[[], list[Check]]) -> Callable[[], list[Check]]:
    """Return `read` with its result cached for a second. Concurrent callers wait for the same result."""
    checks: list[Check] = []
    until = 0.0
    lock = threading.Lock()

    def read_cached() -> list[Check]:
        nonlocal checks, until
        with lock:
            if time.monotonic() >= until:
                checks = read()
                until = time.monotonic() + _KEPT_SECONDS
            return checks

    return read_cached


def _process(drain: Drain) -> Check:
    return Check("process", not drain.started, "shutting down" if drain.started else "accepting requests")


def _database(service: Service) -> list[Check]:
    try:
        # In the same way as a call is stored: a database that does not answer is noticed within 3 s.
        with service.database.committing() as conn:
            if not is_current(conn):
                return [Check("migrations", ok=False, sentence="run `segment-lotus migrate`")]
        service.database.check_writable()
    except (Unavailable, RowRefused) as error:
        return [Check("database", ok=False, sentence=str(error))]
    return [
        Check("migrations", ok=True, sentence="the schema is current"),
        Check("database", ok=True, sentence="writable"),
    ]


def _disk(service: Service) -> Check:
    floor = service.settings.min_free_disk_bytes
    try:
        free = service.database.free_bytes()
    except Unavailable as error:
        return Check("disk", ok=False, sentence=str(error))
    if free is None:
        return Check("disk", ok=True, sentence="managed by the database server")
    return Check("disk", free >= floor, f"{free} bytes free, {floor} required (MIN_FREE_DISK_BYTES)")


def _transforms(service: Service) -> Check:
    """Unusable files are reported but do not make the node unready: the last good version of each stays active."""
    active = len(service.catalog.active.transforms)
    parts = [f"{active} active"]
    if (catalog_status := service.watcher.status) is not None:
        for state, what in (
            (FileState.BROKEN, "not used"),
            (FileState.DRIFT, "drifted"),
            (FileState.NO_FILE, "without a file"),
        ):
            if statuses := catalog_status.in_state(state):
                parts.append(f"{what}: {', '.join(status.name for status in statuses)}")
    return Check("transforms", ok=active > 0, sentence="; ".join(parts))


def _file_problems(service: Service) -> list[dict[str, object]]:
    """Return every transform whose file differs from the live version or has problems, with the problems."""
    catalog_status = service.watcher.status
    if catalog_status is None:
        return []
    return [
        {"name": status.name, "state": status.state.value, "problems": catalog_status.blocking(status.name)}
        for status in catalog_status.files
        if status.state is not FileState.SAME or catalog_status.blocking(status.name)
    ]
