"""The sandbox: `python -m app.transforms.sandbox`, with a socket as standard input.

Started by app.transforms.sandbox.client.

It does one job at a time. It ends when the service is gone or a job exceeds its time, even in the middle of a job.
"""

import contextlib
import gc
import os
import resource
import secrets
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from app.catalog.live import Catalog
from app.errors import SegmentLotusError, TransformInvalid, Unavailable
from app.store.engine import connect
from app.store.ids import Ids
from app.transforms.sandbox.wire import IDLE_CODE, HungUp, Job, JobResult, Setup, receive, send
from app.transforms.workbench import (
    DraftWorkbench,
    ImpactRequest,
    PreviewRequest,
    PublishRequest,
    ResolveRequest,
    RollbackRequest,
    UnpublishRequest,
)

# It shares two processors with the workers that answer Segment, which have priority.
_NICENESS = 10

# A little longer than the service waits: the alarm only rings for a job that outlives the service.
_GRACE_SECONDS = 2

_STDIN = 0


def main() -> None:
    """Serve jobs until the service closes the socket."""
    # Ctrl-C is meant for the service, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=os.dup(_STDIN))
    # The service may have made the socket non-blocking.
    channel.settimeout(None)
    threading.Thread(target=_end_with, args=(channel.fileno(),), daemon=True).start()
    setup = msgspec.msgpack.decode(receive(channel), type=Setup)
    workbench = _build(setup)
    # The database may be unavailable; a job that needs it reports that.
    with contextlib.suppress(Unavailable):
        workbench.warm()
    gc.collect()
    gc.freeze()
    _limit(setup.memory_bytes)
    send(channel, JobResult())
    actions = _actions(workbench)
    while _has_job(channel, setup.idle_seconds):
        job = msgspec.msgpack.decode(receive(channel), type=Job)
        signal.alarm(job.seconds + _GRACE_SECONDS)
        answer = _run_job(actions[job.action], job)
        signal.alarm(0)
        send(channel, answer)
        if answer.ends:
            return
    sys.exit(IDLE_CODE)


def _has_job(channel: socket.socket, seconds: int) -> bool:
    return bool(select.select([channel], [], [], seconds)[0])


def _actions(workbench: DraftWorkbench) -> dict[str, tuple[Callable[[str, Any], bytes], type]]:
    return {
        "preview": (workbench.preview, PreviewRequest),
        "impact": (workbench.impact, ImpactRequest),
        "publish": (workbench.publish, PublishRequest),
        "rollback": (workbench.rollback, RollbackRequest),
        "unpublish": (workbench.unpublish, UnpublishRequest),
        "resolve": (workbench.resolve, ResolveRequest),
    }


def _run_job(action: tuple[Callable[[str, Any], bytes], type], job: Job) -> JobResult:
    work, kind = action
    try:
        return JobResult(body=work(job.name, msgspec.json.decode(job.request, type=kind)))
    except SegmentLotusError as error:
        return JobResult(code=error.code, message=error.message)
    except MemoryError:
        message = "this needs more memory than a preview may have, and was stopped"
        return JobResult(code=TransformInvalid.code, message=message, ends=True)
    except Exception:  # noqa: BLE001  the service writes it to its log
        return JobResult(code="fault", message=traceback.format_exc(), ends=True)


def _build(setup: Setup) -> DraftWorkbench:
    return DraftWorkbench(
        database=connect(setup.database_url),
        catalog=Catalog(pseudonym_key=setup.pseudonym_key.encode() or None),
        folder=Path(setup.transforms_dir),
        next_id=Ids(secrets.randbelow).next,
        clock=lambda: time.time_ns() // 1000,
    )


def _limit(memory_bytes: int) -> None:
    os.nice(_NICENESS)
    # Not every system has it; then the time alone is limited.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _end_with(descriptor: int) -> None:
    """End the process as soon as the other side of the socket is closed, also in the middle of a job."""
    watched = select.poll()
    watched.register(descriptor, getattr(select, "POLLRDHUP", 0))
    watched.poll()
    os._exit(0)


if __name__ == "__main__":
    with contextlib.suppress(HungUp):
        main()
