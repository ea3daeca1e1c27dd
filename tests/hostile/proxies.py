"""Real proxies in front of a service, as child processes with a configuration as operators write it."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template

from tests.programs import require_program
from tests.served import free_port, wait_until

# What nginx's documentation says for WebSockets, and a pool of kept connections to the service.
_NGINX = """
daemon off;
pid $folder/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $folder/client;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    map $$http_upgrade $$connection_upgrade {
        default upgrade;
        '' '';
    }
    upstream service {
        server 127.0.0.1:$port;
        keepalive 16;
    }
    server {
        listen 127.0.0.1:$own;
        location = /metrics { return 403; }
        location / {
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Host $$host;
            proxy_set_header Upgrade $$http_upgrade;
            proxy_set_header Connection $$connection_upgrade;
        }
    }
}
"""

_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend outside
    bind 127.0.0.1:$own
    http-request deny if { path /metrics }
    default_backend service
backend service
    server service 127.0.0.1:$port
"""


def _nginx_command(binary: str, file: Path) -> list[str]:
    return [binary, "-p", str(file.parent), "-c", str(file), "-e", "stderr"]


def _haproxy_command(binary: str, file: Path) -> list[str]:
    return [binary, "-f", str(file)]


_KINDS: dict[str, tuple[str, Callable[[str, Path], list[str]]]] = {
    "nginx": (_NGINX, _nginx_command),
    "haproxy": (_HAPROXY, _haproxy_command),
}

KINDS = tuple(_KINDS)


@contextlib.contextmanager
def proxy(kind: str, port: int, folder: Path) -> Iterator[int]:
    """Run a proxy that denies `/metrics` in front of a port; yield its own port. Skips where it is not installed."""
    binary = require_program(kind)
    configuration, to_command = _KINDS[kind]
    own = free_port()
    file = folder / f"{kind}.conf"
    file.write_text(Template(configuration).substitute(folder=folder, port=port, own=own))
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(to_command(binary, file), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _listens(own))
        assert process.poll() is None, (folder / f"{kind}.log").read_text()
        yield own
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
