"""The other end of a request: its address, and whether that is this machine. Uses no web framework."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

_PASSED_ON = ("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_VIA")
"""Headers with which a proxy on this machine tells that a request is not its own."""

_ADDRESS_MAX = 100


def is_on_this_machine(environ: Mapping[str, Any]) -> bool:
    """Whether a request comes from this machine, and no proxy says that it passes on another's."""
    if any(name in environ for name in _PASSED_ON):
        return False
    try:
        return ip_address(environ.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def find_client(environ: Mapping[str, Any], trusted_proxies: int) -> str:
    """Return the address of the client: what the outermost trusted proxy says, else the other end of the connection."""
    passed_on = [text.strip() for text in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if trusted_proxies and len(passed_on) >= trusted_proxies and passed_on[-trusted_proxies]:
        address = passed_on[-trusted_proxies]
    else:
        address = environ.get("REMOTE_ADDR", "")
    return str(address)[:_ADDRESS_MAX].encode(errors="replace").decode().replace("\0", "")
