"""The configurations of nginx and Caddy as they are, in front of a real service; and the tunnel to it."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.builders import a_document, to_raw
from tests.deploy.files import DEPLOY
from tests.programs import require_program
from tests.served import ADMIN_TOKEN, ROOT, WEBHOOK, Served, free_port, signed, wait_until

# The user of a package cannot read a test's folder.
_NGINX = """
$user
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a program until the end of the block, once it listens on a port."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def nginx_folder(folder: Path, service: int, secure: int, plain: int) -> list[str]:
    """Lay out the configuration as a package of nginx does, with a certificate; return the command."""
    text = (DEPLOY / "nginx.conf").read_text()
    for before, after in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{service};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "/etc/letsencrypt/live/billing.example.com/": "",
    }.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(_NGINX.replace("$user", "user root;" if os.geteuid() == 0 else ""))
    certificate = [require_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    certificate += ["-nodes", "-days", "1", "-subj", "/CN=billing.example.com"]
    certificate += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "privkey.pem", "-out", "fullchain.pem"]
    subprocess.run(certificate, cwd=folder, check=True, capture_output=True)
    return [require_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def caddy_environment(folder: Path, service: int, own: int) -> dict[str, str]:
    """Return what the Caddyfile takes from the environment, and nothing of this machine's own Caddy."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        # Without a certificate, which nobody here could give.
        "DOMAIN": f"http://127.0.0.1:{own}",
        "SERVICE": f"127.0.0.1:{service}",
        "CADDY_ADMIN": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def front(request: pytest.FixtureRequest, service: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a proxy in front of the service."""
    folder = tmp_path_factory.mktemp(request.param)
    own = free_port()
    if request.param == "nginx":
        with running(nginx_folder(folder, service.port, own, free_port()), folder, own):
            yield f"https://localhost:{own}"
    else:
        command = [require_program("caddy"), "run", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
        with running(command, folder, own, caddy_environment(folder, service.port, own)):
            yield f"http://127.0.0.1:{own}"


def send(address: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Post a signed body to the webhook; return the status and the body of the answer."""
    request = urllib.request.Request(address + WEBHOOK, body, {**signed(body), **headers})  # noqa: S310  our own address
    try:
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=30) as answer:  # noqa: S310, S323
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_call_comes_through_a_proxy(front: str) -> None:
    status, body = send(front, to_raw(a_document(messageId=f"through {front}")))
    assert status == 200
    assert json.loads(body)["stored"] == 1


def refusals(service: Served) -> list[dict[str, Any]]:
    """Return the requests that were refused, the newest first."""
    listed: list[dict[str, Any]] = json.loads(service.get("/api/v1/refused", ADMIN_TOKEN).body)["refused"]
    return listed


def test_the_one_trusted_proxy_says_who_sends_whatever_the_sender_says(front: str, service: Served) -> None:
    before = len(refusals(service))
    body = to_raw(a_document(messageId=f"forged {front}"))
    status, _ = send(front, body, **{"X-Signature": "0" * 40, "X-Forwarded-For": "203.0.113.9"})
    assert status == 401
    wait_until(lambda: len(refusals(service)) > before)
    headers = {name.lower(): value for name, value in refusals(service)[0]["headers"].items()}
    # With TRUSTED_PROXIES=1 the last address counts.
    assert headers["x-forwarded-for"].split(", ")[-1] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == front.partition(":")[0]


def test_a_body_that_is_too_large_is_refused_by_the_service_and_not_before(front: str, service: Served) -> None:
    before = len(refusals(service))
    # The service answers and hangs up while the body is still coming. A proxy may then say 502, or hang up itself: the
    # sender tries again, which leaves time to raise the limit.
    with contextlib.suppress(urllib.error.URLError):
        status, _ = send(front, b" " * (Settings().max_body_bytes + 1))
        assert status in {413, 502}
    wait_until(lambda: len(refusals(service)) > before)
    assert refusals(service)[0]["code"] == "too_large"


def test_nginx_finds_nothing_wrong(tmp_path: Path) -> None:
    command = nginx_folder(tmp_path, 8000, 8443, 8080)
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


@pytest.mark.parametrize("domain", ["billing.example.com", ""])
def test_caddy_finds_nothing_wrong(tmp_path: Path, domain: str) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **({"DOMAIN": domain} if domain else {})}
    caddy = require_program("caddy")
    file = str(DEPLOY / "Caddyfile")
    for command in (["validate", "--config", file, "--adapter", "caddyfile"], ["fmt", "--diff", file]):
        checked = subprocess.run([caddy, *command], env=environment, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    adapted = subprocess.run(
        [caddy, "adapt", "--config", file, "--adapter", "caddyfile"], env=environment, capture_output=True, check=True
    )
    [server] = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert server["routes"][0]["match"] == [{"host": ["billing.example.com"]}]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs that say how they were called."""
    for name in ("cloudflared", "ssh"):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        file.chmod(0o755)
    return tmp_path


def open_tunnel(programs: Path, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    require_program("curl")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PORT": str(port)}
    return subprocess.run(
        [str(DEPLOY / "tunnel.sh"), *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_tunnel_leads_to_the_port_of_the_service(programs: Path, service: Served) -> None:
    quick = open_tunnel(programs, service.port)
    assert quick.stdout == f"cloudflared tunnel --no-autoupdate --url http://127.0.0.1:{service.port}\n"
    own = open_tunnel(programs, service.port, "you@server")
    assert own.stdout.endswith(f" -R 127.0.0.1:8000:127.0.0.1:{service.port} you@server\n")
    assert "/webhooks/segment" in own.stderr


def test_without_a_service_there_is_no_tunnel_but_a_sentence(programs: Path) -> None:
    port = free_port()
    refused = open_tunnel(programs, port)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"Nothing answers at http://127.0.0.1:{port}: start the service first" in refused.stderr
