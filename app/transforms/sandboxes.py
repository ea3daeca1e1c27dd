"""The two sandboxes of a worker: one that is always free for previews, one for what takes longer."""

import msgspec

from app.errors import Unavailable
from app.settings import Settings
from app.transforms.sandbox.client import Sandbox, SandboxFailed
from app.transforms.sandbox.wire import Setup
from app.web.errors import to_unavailable

PREVIEW_SECONDS = 2
WORK_SECONDS = 20
CHECK_SECONDS = 5

# People pause while they edit; publishing is done once.
_PREVIEW_IDLE_SECONDS = 900
_WORK_IDLE_SECONDS = 60
_MEMORY_BYTES = 768 << 20

SANDBOXES = "segment_lotus_sandboxes"
"""The key of the Sandboxes in the application's `extensions`."""


class Sandboxes:
    """The sandboxes of a worker: no preview waits while another draft runs on a thousand calls."""

    def __init__(self, settings: Settings) -> None:
        self.quick = Sandbox(_setup(settings, _PREVIEW_IDLE_SECONDS))
        self.slow = Sandbox(_setup(settings, _WORK_IDLE_SECONDS))

    def warm(self) -> None:
        """Start the sandbox for previews; waits for nothing."""
        self.quick.warm()

    def preview(self, name: str, request: bytes) -> bytes:
        """Try a draft. Raises what Sandbox.ask raises, and Unavailable for a fault of ours."""
        return _ask(self.quick, "preview", name, request, PREVIEW_SECONDS)

    def work(self, action: str, name: str, request: bytes) -> bytes:
        """Do an action that may take longer. Raises what `preview` does."""
        return _ask(self.slow, action, name, request, WORK_SECONDS)

    def publish(self, name: str, text: str, request: bytes) -> bytes:
        """Make a text live. Raises what `preview` does.

        It is refused if reading it or running its examples takes long: once it is live, every node reads it in the
        process that receives calls.
        """
        _ask(self.slow, "preview", name, msgspec.json.encode({"text": text}), CHECK_SECONDS)
        return self.work("publish", name, request)

    def close(self) -> None:
        """End both processes. Otherwise they end when the process of the service does."""
        self.quick.close()
        self.slow.close()


def _ask(sandbox: Sandbox, action: str, name: str, request: bytes, seconds: int) -> bytes:
    try:
        return sandbox.ask(action, name, request, seconds)
    except SandboxFailed as fault:
        unavailable: Unavailable = to_unavailable(fault)
        raise unavailable from fault


def _setup(settings: Settings, idle_seconds: int) -> Setup:
    return Setup(
        database_url=settings.database_url,
        transforms_dir=str(settings.transforms_dir.absolute()),
        pseudonym_key=settings.pseudonym_key,
        idle_seconds=idle_seconds,
        memory_bytes=_MEMORY_BYTES,
    )
