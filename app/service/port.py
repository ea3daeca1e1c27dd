"""The port to listen on: whether it is free, and what to do if it is not."""

import errno
import os
import socket
import time

from app.cli.program import Failure
from app.cli.service_record import list_services

PATIENCE_SECONDS = 5.0
"""How long a start waits for a node that is ending."""

_PAUSE_SECONDS = 0.2
_TRIED_MAX = 100
"""Ports above one in use that are tried, for the command that is shown."""


def check_port(host: str, port: int, patience_seconds: float) -> None:
    """Raise Failure if the service cannot listen on its port.

    `patience_seconds`: how long to wait for a port that is in use, since another node may be ending.
    """
    until = time.monotonic() + patience_seconds
    while (error := _find_obstacle(host, port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
            raise Failure(_explain_obstacle(host, port, error)) from error
        time.sleep(_PAUSE_SECONDS)


def _find_obstacle(host: str, port: int) -> OSError | None:
    """Return why nobody can listen there now; None if it is possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _explain_obstacle(host: str, port: int, error: OSError) -> str:
    # `make` says where it runs, so that what is typed next is what was typed before.
    typed = "make serve" if "MAKELEVEL" in os.environ else "segment-lotus serve"
    if error.errno == errno.EADDRINUSE:
        owner = next((service for service in list_services() if service.port == port), None)
        by = f" by the service of this folder, process {owner.pid}" if owner else ""
        others = range(port + 1, min(port + _TRIED_MAX, 65536))
        free = next((other for other in others if _find_obstacle(host, other) is None), None)
        way_out = f" Use another one: PORT={free} {typed}" if free else ""
        return f"port {port} of {host} is in use{by}.{way_out}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"this user may not listen on port {port} of {host}: take a port above 1023, PORT=8000 {typed}"
    return (
        f"cannot listen on {host}: {error.strerror}. HOST must be an address of this machine:"
        f" 127.0.0.1, or 0.0.0.0 for all of them"
    )
