"""The two sandboxes of a worker: one that is always at hand for previews, one for what takes longer."""

import msgspec

from app.errors import Unavailable
from app.settings import Settings
from app.transforms.sandbox.calling import Sandbox, SandboxFailed
from app.transforms.sandbox.wire import Setup
from app.web.errors import to_unavailable

PREVIEW_SECONDS = 2
WORK_SECONDS = 20
CHECK_SECONDS = 5

# Somebody who edits pauses to think; publishing is done once.
_PREVIEW_IDLE_SECONDS = 900
_WORK_IDLE_SECONDS = 60
_MEMORY_BYTES = 768 << 20

SANDBOXES = "segment_lotus_sandboxes"
"""Where the Flask application keeps its Sandboxes, in `extensions`."""


class Sandboxes:
    """Where drafts run. Nobody's preview waits for somebody else's thousand calls."""

    def __init__(self, settings: Settings) -> None:
        self.quick = Sandbox(_setup(settings, _PREVIEW_IDLE_SECONDS))
        self.slow = Sandbox(_setup(settings, _WORK_IDLE_SECONDS))

    def warm(self) -> None:
        """Let the one for previews start."""
        self.quick.warm()

    def preview(self, name: str, asked: bytes) -> bytes:
        """Try a draft. Raises what Sandbox.ask raises, and Unavailable for a fault of ours."""
        return _ask(self.quick, "preview", name, asked, PREVIEW_SECONDS)

    def work(self, act: str, name: str, asked: bytes) -> bytes:
        """Do what may take longer. Raises as `preview`."""
        return _ask(self.slow, act, name, asked, WORK_SECONDS)

    def publish(self, name: str, text: str, asked: bytes) -> bytes:
        """Make a text live. Raises as `preview`.

        One that takes long to read or whose examples take long is refused: once it is live, every node reads it where
        calls come in.
        """
        _ask(self.slow, "preview", name, msgspec.json.encode({"text": text}), CHECK_SECONDS)
        return self.work("publish", name, asked)

    def close(self) -> None:
        """End both. Where nobody does, they end as soon as this process is gone."""
        self.quick.close()
        self.slow.close()


def _ask(sandbox: Sandbox, act: str, name: str, asked: bytes, seconds: int) -> bytes:
    try:
        return sandbox.ask(act, name, asked, seconds)
    except SandboxFailed as fault:
        said: Unavailable = to_unavailable(fault)
        raise said from fault


def _setup(settings: Settings, idle_seconds: int) -> Setup:
    return Setup(
        database_url=settings.database_url,
        transforms_dir=str(settings.transforms_dir.absolute()),
        pseudonym_key=settings.pseudonym_key,
        idle_seconds=idle_seconds,
        memory_bytes=_MEMORY_BYTES,
    )
