"""Drives single calls with wrk and load.lua."""

import hashlib
import hmac
import http.client
import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers import SECRET, Server

HINT = "wrk is not installed: single calls are not measured (`apt-get install wrk` or `brew install wrk`)"
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Result:
    """One run of wrk."""

    good: int
    """Answers 200."""
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        """Return answers per second."""
        return self.good / self.seconds


def is_installed() -> bool:
    """Tell whether there is a wrk."""
    return shutil.which("wrk") is not None


def drive(server: Server, connections: int, seconds: int, ids: str) -> Result:
    """Send calls one after the other on each connection. Ends the program where one is answered by anything but 200."""
    # One thread makes and signs 30,000 calls a second; another would only take the processor from the server.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    output = _run([*command, "-s", str(_SCRIPT), server.url, "--", SECRET, ids, _seed()])
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk said nothing that can be read:\n{output}")
    found = json.loads(line.removeprefix("RESULT "))
    if found["refused"] or found["broken"]:
        raise SystemExit(f"{server.name}: {found['refused']} refused, {found['broken']} broken\n{output}")
    return Result(found["requests"], found["seconds"], found["p50_ms"], found["p99_ms"], found["max_ms"])


def check_script(server: Server, ids: str) -> int:
    """Have load.lua show some calls, check their signatures with Python's hmac, send them, and expect each stored.

    Returns how many were sent.
    """
    command = ["wrk", "-t1", "-c1", "-d1s", "-s", str(_SCRIPT), server.url, "--", SECRET, ids, _seed(), "50"]
    shown = [line.partition(" ") for line in _run(command).splitlines() if line[40:42] == " {"]
    assert len(shown) == 50, f"load.lua showed {len(shown)} calls"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for signature, _, body in shown:
        assert signature == hmac.new(SECRET.encode(), body.encode(), hashlib.sha1).hexdigest(), "a wrong signature"
        assert 900 <= len(body) <= 1200, f"a call of {len(body)} bytes"
        connection.request("POST", "/webhooks/segment", body.encode(), {"X-Signature": signature})
        answer = connection.getresponse()
        receipt = json.loads(answer.read())
        assert answer.status == 200, receipt
        assert receipt["stored"] == 1, receipt
    connection.close()
    assert len({json.loads(body)["messageId"] for _, _, body in shown}) == len(shown), "a messageId came twice"
    return len(shown)


def _seed() -> str:
    return str(secrets.randbits(40))


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
