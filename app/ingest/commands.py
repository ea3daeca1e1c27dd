"""Sends calls as Segment does: `send`."""

import http.client
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from app.cli.program import Failure, read_settings
from app.cli.service_record import list_services, to_address
from app.core.json_spans import split_array
from app.core.json_text import decode, trim
from app.core.signature import sign
from app.core.text import counted, printable
from app.errors import UnparsableJson
from app.ingest.samples import SAMPLES, make_sample
from app.ingest.sender import WEBHOOK_PATH
from app.settings import Settings

# Segment's own patience with a webhook destination.
_TIMEOUT_SECONDS = 10

_ALL = {"sample", "samples"}
_OK = 200


def to_webhook_url(settings: Settings) -> str:
    """Return the URL of the webhook, as seen from this machine."""
    return to_address(settings.host, settings.port) + WEBHOOK_PATH


def find_webhook_url(settings: Settings) -> str:
    """Return the URL of the service that runs in this folder, else that of the settings.

    A PORT in the environment is obeyed: the service may run in another folder. Of several services, the one on the port
    of `.env` is meant, else the last one to start.
    """
    if os.environ.get("PORT", "").strip():
        return to_webhook_url(settings)
    services = list_services()
    service = next((service for service in services if service.port == settings.port), next(iter(services), None))
    if service is None or service.port == settings.port:
        return to_webhook_url(settings)
    return to_address(service.host, service.port) + WEBHOOK_PATH


@click.command()
@click.argument("what", required=False)
@click.option("--batch", is_flag=True, help="Send all calls in one array, signed over the first, as Segment batches.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a value of each call, such as properties.tokens=5.",
)
@click.option("--url", help="Where to send. Default: the service that runs in this folder, else HOST and PORT.")
@click.option("--secret", help="The secret to sign with. Default: the first of SEGMENT_SHARED_SECRETS.")
@click.option("--list", "list_", is_flag=True, help="List the samples.")
@click.pass_context
def send(
    context: click.Context,
    *,
    what: str | None,
    batch: bool,
    changes: Sequence[str],
    url: str | None,
    secret: str | None,
    list_: bool,
) -> None:
    """Sign a call and send it as Segment does. WHAT: a JSON file, the name of a sample, or `sample` for all samples.

    Samples have fixed message ids, so sending one again makes a duplicate. To send a new call, use --set messageId=...
    """
    if list_:
        for name, sample in SAMPLES.items():
            click.echo(f"{name:<18} {sample['type']} {sample.get('event', '')}")
        return
    if what is None:
        raise click.UsageError("Name what to send: a JSON file, `sample`, or a sample that `send --list` lists.")
    calls = [(name, _change(raw, changes) if changes else raw) for name, raw in _read_calls(what)]
    settings = read_settings()
    key = secret or next(iter(settings.segment_shared_secrets), None)
    if key is None:
        raise Failure("there is no secret to sign with: set SEGMENT_SHARED_SECRETS, or give --secret")
    default = find_webhook_url(settings)
    if url is None and default != to_webhook_url(settings):
        click.echo(f"Sending to {default}, where the service of this folder runs.", err=True)
    target = _parse_url(url or default)
    if batch:
        requests = [(counted(len(calls), "call"), b"[" + b",".join(raw for _, raw in calls) + b"]", calls[0][1])]
    else:
        requests = [(name, raw, raw) for name, raw in calls]
    statuses = [_post(target, name, body, sign(signed, key)) for name, body, signed in requests]
    if any(status != _OK for status in statuses):
        context.exit(1)


def _read_calls(what: str) -> list[tuple[str, bytes]]:
    """Return the calls to send, with their names; those of a file byte for byte."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    names = list(SAMPLES) if what in _ALL else [what] if what in SAMPLES else []
    if names:
        return [(name, _encode(make_sample(name, now))) for name in names]
    path = Path(what)
    try:
        text = trim(path.read_bytes())
    except FileNotFoundError:
        raise Failure(f"there is no file {what!r}, and no sample of that name: {', '.join(SAMPLES)}") from None
    except OSError as error:
        raise Failure(f"{what} cannot be read: {error.strerror}") from error
    try:
        decode(text)
        items = split_array(text) if text.startswith(b"[") else [text]
    except UnparsableJson as error:
        raise Failure(f"{what}: {error.message}") from error
    if not items:
        raise Failure(f"{what} holds no call")
    return [(path.name if len(items) == 1 else f"{path.name}[{at}]", item) for at, item in enumerate(items)]


def _change(raw: bytes, changes: Sequence[str]) -> bytes:
    document = decode(raw)
    for change in changes:
        path, equals, text = change.partition("=")
        if not (path and equals):
            raise click.UsageError(f"--set {change!r} is not of the form PATH=VALUE, such as properties.tokens=5.")
        _set(document, path, _parse_value(text))
    return _encode(document)


def _set(document: Any, path: str, value: Any) -> None:
    """Set the value at a dotted path, creating missing objects on the way."""
    *way, last = path.split(".")
    place = document
    for key in way:
        inner = _get(place, key)
        if not isinstance(inner, dict | list):
            inner = {}
            _put(place, key, inner, path)
        place = inner
    _put(place, last, value, path)


def _get(place: Any, key: str) -> Any:
    if isinstance(place, dict):
        return place.get(key)
    if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        return place[int(key)]
    return None


def _put(place: Any, key: str, value: Any, path: str) -> None:
    if isinstance(place, dict):
        place[key] = value
    elif isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        place[int(key)] = value
    else:
        raise Failure(f"--set {path}: there is no {key!r} to set")


def _parse_value(text: str) -> Any:
    try:
        return decode(text.encode())
    except (UnparsableJson, UnicodeEncodeError):
        return text


def _encode(document: Any) -> bytes:
    """JSON as JSON.stringify writes it: compact, in the order of the keys."""
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _parse_url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        is_http = url.scheme in {"http", "https"} and url.hostname and (url.port is None or url.port)
    except ValueError:
        is_http = False
    if not is_http:
        raise click.UsageError(f"--url {text!r} is not of the form http://host:port/path.")
    return url if url.path not in {"", "/"} else url._replace(path=WEBHOOK_PATH)


def _post(url: SplitResult, name: str, body: bytes, signature: str) -> int:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS)
    # As Segment's "Webhooks (Actions)" spells them.
    headers = {"user-agent": "Segment (Actions)", "content-type": "application/json", "x-signature": signature}
    try:
        connection.request("POST", url.path + (f"?{url.query}" if url.query else ""), body, headers)
        response = connection.getresponse()
        answer = response.read().decode(errors="backslashreplace").strip()
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise Failure(f"{url.netloc} does not answer: {why}. `segment-lotus serve` starts the service") from error
    except http.client.HTTPException as error:
        raise Failure(f"{url.netloc} does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    click.echo(printable(f"{name:<18} {response.status} {answer}"))
    return response.status
