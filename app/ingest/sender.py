"""Who sent a request, as far as its head tells: for people, never for a decision about its calls."""

import re
from typing import Any

from app.core.tracking import PREFIX
from app.store.refusals import Sender
from app.web.peer import is_on_this_machine

WEBHOOK_PATH = "/webhooks/segment"

SEGMENT_AGENTS = ("Segment.io/", "Segment (")
"""How the User-Agent of Segment's destinations begins: classic and Actions."""

_SDK = re.compile(r"analytics[-_.]", re.IGNORECASE)
"""Segment's SDKs: analytics-node, analytics-python, Analytics.NET and so on."""


def find_sender(environ: dict[str, Any], *, authentic: bool) -> Sender:
    """Return who sent a request. `authentic`: it has a valid credential."""
    if is_on_this_machine(environ):
        return Sender.MACHINE
    agent: str = environ.get("HTTP_USER_AGENT", "")
    if agent.startswith(SEGMENT_AGENTS):
        return Sender.SEGMENT
    if environ.get("PATH_INFO", "").startswith(PREFIX) and _SDK.match(agent):
        return Sender.SDK
    return Sender.AUTHENTIC if authentic else Sender.STRANGER
