"""Requests as Segment sends them, made in Python: the two calls of load.lua, each with a messageId of its own."""

import hashlib
import hmac
import http.client
import json
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import servers

_BESIDE = (
    '"context":{"groupId":"acct-9","ip":"203.0.113.7","locale":"en-US","timezone":"Europe/Berlin","userAgent":'
    '"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",'
    '"page":{"path":"/app/projects","referrer":"https://app.example.com/","title":"Projects",'
    '"url":"https://app.example.com/app/projects?tab=recent"},'
    '"library":{"name":"@segment/analytics-node","version":"3.1.0"}},'
    '"integrations":{"All":true},"_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"},'
    '"version":2,"channel":"server","projectId":"pRoj3ctIdExample","anonymousId":null,'
)
_API_CALL = (
    '{"type":"track","event":"API Call",' + _BESIDE + '"properties":{"endpoint":"/v1/complete","region":"eu-central-1",'
    '"model":"large-2","status":200,"cached":false,"latency_ms":182.4,"labels":["batch","internal"],'
    '"output_tokens":356,"input_tokens":'
)
_ORDER = (
    '{"type":"track","event":"Order Paid",' + _BESIDE + '"properties":{"currency":"USD","coupon":null,'
    '"products":[{"product_id":"p1","price":19,"quantity":1},{"product_id":"p2","price":3.5,"quantity":2}],'
    '"shipping":4.9,"total":'
)
_PREFIXES = (_API_CALL, _ORDER)


@dataclass(frozen=True, slots=True)
class Body:
    """A request, made and signed before the clock runs."""

    raw: bytes
    signature: str
    calls: int


def make_call(number: int, ids: str) -> str:
    """Return a call. `ids` is the form of its messageId: node or uuid4, as in load.lua."""
    now = datetime.now(UTC)
    message_id = str(uuid.uuid4())
    if ids == "node":
        message_id = f"node-next-{int(now.timestamp() * 1000)}-{message_id}"
    amount, customer = random.randint(1, 4000), random.randint(1, 1000)  # noqa: S311  nothing is secret here
    time = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
    rest = f'"userId":"customer-{customer:04d}","timestamp":"{time}","messageId":"{message_id}"'
    return f"{_PREFIXES[number % len(_PREFIXES)]}{amount}}},{rest}}}"


def make_body(calls: int, ids: str) -> Body:
    """Return an array, signed over its first call as Segment's webhooks sign it; or one call, where it is one."""
    made = [make_call(number, ids) for number in range(calls)]
    raw = made[0] if calls == 1 else f"[{','.join(made)}]"
    return Body(raw.encode(), hmac.new(servers.SECRET.encode(), made[0].encode(), hashlib.sha1).hexdigest(), calls)


def send(connection: http.client.HTTPConnection, body: Body) -> None:
    """Send a request. Ends the program unless all its calls are stored."""
    headers = {"X-Signature": body.signature, "Content-Type": "application/json"}
    connection.request("POST", "/webhooks/segment", body.raw, headers)
    answer = connection.getresponse()
    receipt = json.loads(answer.read())
    if answer.status != 200 or receipt["stored"] != body.calls:
        raise SystemExit(f"a request of {body.calls} calls was answered with {answer.status} {receipt}")
