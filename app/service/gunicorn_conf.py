"""gunicorn's configuration: `gunicorn -c python:app.service.gunicorn_conf "app.service.flask_app:serve()"`.

Loaded in gunicorn's first process, which only starts and watches workers. It must import neither the store nor Flask:
each worker first applies gevent's patches and then imports the service.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.cli.service_record import HeldRecord, hold_record
from app.service.metrics_folder import make_metrics_folder, remove_abandoned
from app.settings import list_source_warnings, list_warnings, load_for_serving

_DOTENV = Path(".env")
_settings = load_for_serving(os.environ, _DOTENV)
_MEMORY_DISK = "/dev/shm"  # noqa: S108  it is in memory, which is the purpose


def _memory_folder() -> str:
    """Return a folder in memory if there is one, else the temporary folder."""
    return _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else tempfile.gettempdir()


bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "app.web.worker.Worker"
worker_tmp_dir = _memory_folder()
# A commit waits at most 3 s and Heroku kills after 30: time for requests in flight, not for idle connections.
graceful_timeout = 10
timeout = 60
# One line per call comes from calls/log.py; an access log would say less.
accesslog = None
logger_class = "app.service.gunicorn_log.Log"
control_socket_disable = True
proc_name = "segment-lotus"

# Before prometheus_client is imported anywhere: it reads this once. See app.service.telemetry.
remove_abandoned(Path(_memory_folder()))
_metrics_folder = make_metrics_folder(Path(_memory_folder()))
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics_folder)

_record: HeldRecord | None = None


def on_starting(server: Any) -> None:
    """Log the warnings about the settings."""
    for warning in (*list_warnings(_settings), *list_source_warnings(os.environ, _DOTENV)):
        server.log.warning(warning)


def when_ready(_server: Any) -> None:
    """Let the commands of this folder find the service."""
    global _record  # noqa: PLW0603  gunicorn knows its configuration as a module
    _record = hold_record(_settings.host, _settings.port)


def child_exit(_server: Any, worker: Any) -> None:
    """Remove the gauges of a worker that ended; its counters stay."""
    from prometheus_client import multiprocess  # noqa: PLC0415  imported only when needed: it reads PROMETHEUS_MULTIPROC_DIR

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:
    """Remove the record of this service, and the files of the counters."""
    if _record is not None:
        _record.close()
    shutil.rmtree(_metrics_folder, ignore_errors=True)
