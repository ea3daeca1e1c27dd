"""How fast a transform is: jmespath.py, the compiled expression, and Python written by hand, in one run.

    python benchmarks/transform.py

Each row is one expression on one call. All three give the same event, which is checked first. The last column is what
the same expression would cost if all its steps were counted: only expressions that could explode are.

The second table has the transforms that this project ships: all expressions of a file, from the call to the values of
the Lotus fields. jmespath stands there only where a file calls none of the functions that we add. The third has what a
whole call costs, from its document to checked events.
"""

import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jmespath
from jmespath.exceptions import UnknownFunctionError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.core.jmespath.closures import Closures
from app.core.jmespath.expression import compile_expression
from app.core.jmespath.functions.scopes import Scope
from app.core.jmespath.limits import Meter
from app.core.jmespath.parser import parse
from app.core.jmespath.standard_functions import BUILT_IN
from app.core.pipeline import run
from app.core.transform.schema import FIELDS as LOTUS_FIELDS
from app.core.transform.transform import Transform, TransformSet, parse_transform

JSON = dict[str, Any]

ROUNDS = 25

# As Segment's webhook destination sends them.
API_CALL: JSON = {
    "type": "track",
    "event": "API Call",
    "messageId": "cap-0001",
    "userId": "user-7",
    "anonymousId": None,
    "timestamp": "2026-11-01T10:00:00.123Z",
    "sentAt": "2026-11-01T10:00:00.200Z",
    "receivedAt": "2026-11-01T10:00:00.950Z",
    "originalTimestamp": "2026-11-01T09:59:59.373Z",
    "version": 2,
    "context": {"groupId": "acme", "library": {"name": "analytics-node", "version": "3.1.0"}},
    "integrations": {},
    "properties": {
        "endpoint": "/v1/complete",
        "input_tokens": 1234,
        "output_tokens": 56,
        "cost": 0.1,
        "region": "eu",
        "note": "Ünïcödé 日本 🎉",
    },
}
ORDER: JSON = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "cap-0002",
    "userId": "user-7",
    "timestamp": "2026-11-01T10:00:02.000Z",
    "receivedAt": "2026-11-01T10:00:02.500Z",
    "context": {"groupId": "acme"},
    "properties": {
        "order_id": "o-1",
        "currency": "USD",
        "products": [
            {"product_id": "p1", "price": 19.99, "quantity": 1},
            {"product_id": "p2", "price": 3, "quantity": 2},
        ],
    },
}
LARGE_ORDER: JSON = {
    **ORDER,
    "properties": {
        **ORDER["properties"],
        "products": [{"product_id": f"p{n}", "price": n / 4, "quantity": n % 7} for n in range(100)],
    },
}


def default_by_hand(call: JSON) -> JSON:
    """The event as it is without a transform of its own."""
    get = call.get
    return {
        "event_name": get("event"),
        "idempotency_id": get("messageId"),
        "customer_id": get("userId"),
        "time_created": get("timestamp"),
        "properties": get("properties"),
    }


def api_call_by_hand(call: JSON) -> JSON:
    """An event with a map of properties, some with defaults."""
    properties = call.get("properties") or {}
    context = call.get("context") or {}
    get = properties.get
    return {
        "event_name": call.get("event"),
        "idempotency_id": call.get("messageId"),
        "customer_id": context.get("groupId") or call.get("userId"),
        "time_created": call.get("timestamp"),
        "properties": {
            "endpoint": get("endpoint"),
            "input_tokens": get("input_tokens") or 0,
            "model": get("model") or context.get("model") or "unknown",
            "library": (context.get("library") or {}).get("name"),
            "kind": "api_call",
        },
    }


def products_by_hand(call: JSON) -> list[JSON]:
    """Some of the products, in another form."""
    return [
        {"id": product.get("product_id"), "q": product.get("quantity")}
        for product in call["properties"]["products"]
        if product.get("price") > 10
    ]


def total_by_hand(call: JSON) -> Any:
    """One number from all products."""
    return sum(product["price"] for product in call["properties"]["products"])


def order_by_hand(call: JSON) -> JSON:
    """Both, and how many products there are."""
    products = call["properties"]["products"]
    return {
        "items": [
            {"id": product.get("product_id"), "q": product.get("quantity")}
            for product in products
            if product.get("price") > 10
        ],
        "total": sum(product["price"] for product in products),
        "count": len(products),
    }


def text_by_hand(call: JSON) -> JSON:
    """What the text functions make."""
    properties = call["properties"]
    event = call["event"]
    return {
        "id": "-".join([call["messageId"], call["context"]["groupId"], str(properties["input_tokens"])]),
        "complete": "complete" in properties["endpoint"] and event.startswith("API"),
        "length": len(event),
    }


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    text: str
    call: JSON
    by_hand: Callable[[JSON], Any]


PRODUCTS = "properties.products[?price > `10`].{id: product_id, q: quantity}"
FIELDS = "event_name: event, idempotency_id: messageId, "
ROWS = [
    Row(
        "default, five fields",
        "{" + FIELDS + "customer_id: userId, time_created: timestamp, properties: properties}",
        API_CALL,
        default_by_hand,
    ),
    Row(
        "API call, map of five",
        "{" + FIELDS + "customer_id: context.groupId || userId, time_created: timestamp, properties: {"
        "endpoint: properties.endpoint, input_tokens: properties.input_tokens || `0`, "
        "model: properties.model || context.model || 'unknown', library: context.library.name, kind: 'api_call'}}",
        API_CALL,
        api_call_by_hand,
    ),
    Row("fan-out with filter", PRODUCTS, ORDER, products_by_hand),
    Row("sum of prices", "sum(properties.products[].price)", ORDER, total_by_hand),
    Row(
        "order: both, and a count",
        "{items: " + PRODUCTS + ", total: sum(properties.products[].price), count: length(properties.products)}",
        ORDER,
        order_by_hand,
    ),
    Row(
        "text functions",
        "{id: join('-', [messageId, context.groupId, to_string(properties.input_tokens)]), "
        "complete: contains(properties.endpoint, 'complete') && starts_with(event, 'API'), length: length(event)}",
        API_CALL,
        text_by_hand,
    ),
    Row("one field", "event", API_CALL, lambda call: call.get("event")),
    Row(
        "one with a default",
        "properties.model || 'unknown'",
        API_CALL,
        lambda call: (call.get("properties") or {}).get("model") or "unknown",
    ),
    Row("fan-out, 100 products", PRODUCTS, LARGE_ORDER, products_by_hand),
]


def microseconds(runs: list[Callable[[JSON], Any]], call: JSON) -> list[float]:
    """Give the best of many short rounds, taken in turn: the machine's other work only ever adds, and to all alike."""
    timers = [timeit.Timer("run(call)", globals={"run": run, "call": call}) for run in runs]
    numbers = [max(1, timer.autorange()[0] // 50) for timer in timers]
    rounds = [
        [timer.timeit(number) / number for timer, number in zip(timers, numbers, strict=True)] for _ in range(ROUNDS)
    ]
    return [min(times) * 1e6 for times in zip(*rounds, strict=True)]


def counted(text: str) -> Callable[[JSON], Any]:
    """Compile with every step counted, as a search does where the text alone gives no bound."""
    meter = Meter()
    closure = Closures(BUILT_IN, meter, [None], spares=False).make(parse(text))

    def search(call: JSON) -> Any:
        meter.reset()
        return closure(call)

    return search


SHIPPED = Path(__file__).resolve().parent.parent / "transforms"
RECEIVED_AT = 1_793_527_200_000_000

Values = list[tuple[Any, ...]]


def time_by_hand(call: JSON) -> Any:
    """When it was, as `_default` has it."""
    return call.get("timestamp") or call.get("originalTimestamp") or call.get("sentAt") or call.get("receivedAt")


def or_zero(value: Any) -> Any:
    """coalesce(value, `0`)."""
    return 0 if value is None else value


def shipped_default(call: JSON) -> Values:
    """transforms/_default.yaml."""
    return [(call.get("event"), call.get("messageId"), call.get("userId"), time_by_hand(call), call.get("properties"))]


def shipped_api_call(call: JSON) -> Values:
    """transforms/api_call.yaml."""
    get = (call.get("properties") or {}).get
    region = get("region")
    properties = {
        "endpoint": get("endpoint"),
        "region": "unknown" if region is None else region,
        "tokens": or_zero(get("input_tokens")) + or_zero(get("output_tokens")),
    }
    return [("api_call", call.get("messageId"), call.get("userId"), time_by_hand(call), properties)]


def shipped_b2b_usage(call: JSON) -> Values:
    """transforms/b2b_usage.yaml."""
    renamed = {"pageCount": "pages"}
    properties = {
        renamed.get(key, key): value for key, value in (call.get("properties") or {}).items() if key != "email"
    }
    properties["made_by"] = call.get("userId")
    name = call["event"].lower().replace(" ", "_")
    customer = (call.get("context") or {}).get("groupId")
    return [(name, call.get("messageId"), customer, time_by_hand(call), properties)]


def shipped_order_completed(call: JSON) -> Values:
    """transforms/order_completed.yaml; its products have doubles of two places, so floats are right here."""
    get = call["properties"].get
    events = []
    for index, item in enumerate(get("products") or []):
        product, quantity = item.get("product_id"), item.get("quantity")
        quantity = 1 if quantity is None else quantity
        properties = {
            "order_id": get("order_id"),
            "product_id": product,
            "quantity": quantity,
            "amount": round(item["price"] * quantity, 6),
            "currency": currency.upper() if (currency := get("currency")) is not None else None,
        }
        identifier = f"order:{get('order_id')}:{index}"
        events.append(("product_sold", identifier, call.get("userId"), time_by_hand(call), properties))
    return events


def shipped_seats(call: JSON) -> Values:
    """transforms/seats.yaml."""
    get = (call.get("properties") or {}).get
    group = (call.get("context") or {}).get("groupId")
    role = get("role")
    properties = {
        "change": 1 if call.get("event") == "Member Added" else -1,
        "role": None if role is None else role.lower(),
    }
    customer = group or get("workspace_id")
    return [("seats", call.get("messageId"), customer, time_by_hand(call), properties)]


def shipped_storage(call: JSON) -> Values:
    """transforms/storage.yaml."""
    get = (call.get("properties") or {}).get
    stored = get("bytes")
    properties = {
        "gigabytes": None if stored is None else round(stored / 1_000_000_000, 6),
        "bucket": get("bucket") or "default",
    }
    return [("storage", call.get("messageId"), call.get("userId"), time_by_hand(call), properties)]


def shipped_tokens(call: JSON) -> Values:
    """transforms/tokens.yaml."""
    get = (call.get("properties") or {}).get
    usage = (get("usage") or {}).get
    given, made = or_zero(usage("input_tokens")), or_zero(usage("output_tokens"))
    properties = {"model": get("model"), "input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return [("tokens", call.get("messageId"), call.get("userId"), time_by_hand(call), properties)]


def a_call(event: str, **properties: Any) -> JSON:
    """A call like API_CALL with another event."""
    return {**API_CALL, "event": event, "properties": properties}


SHIPPED_ROWS: list[tuple[str, JSON, Callable[[JSON], Values]]] = [
    ("_default", API_CALL, shipped_default),
    ("api_call", API_CALL, shipped_api_call),
    ("b2b_usage", a_call("Report Exported", pageCount=12, email="ann@example.com"), shipped_b2b_usage),
    ("order_completed", ORDER, shipped_order_completed),
    ("order_completed", LARGE_ORDER, shipped_order_completed),
    ("seats", a_call("Member Added", role="Admin"), shipped_seats),
    ("storage", a_call("Storage Measured", bytes=1_500_000_000, bucket=""), shipped_storage),
    (
        "tokens",
        a_call("Completion Finished", model="m-large", usage={"input_tokens": 900, "output_tokens": 100}),
        shipped_tokens,
    ),
]


def read_shipped() -> dict[str, Transform]:
    """All files of transforms/, by name."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SHIPPED.glob("*.yaml"))}
    default = parse_transform("_default", texts.pop("_default"), None)
    return {"_default": default, **{name: parse_transform(name, text, default) for name, text in texts.items()}}


def evaluated(transform: Transform) -> Callable[[JSON], Values]:
    """All expressions of a transform."""
    search, each = transform.fields.search, transform.each

    def values(call: JSON) -> Values:
        scope = Scope(document=call, received_at=RECEIVED_AT, lookups=transform.lookups)
        if transform.when is not None:
            transform.when(call, scope)
        if each is None:
            return [tuple(search(call, scope)[0])]
        items = enumerate(each(call, scope))
        return [tuple(search({**call, "item": item, "index": index}, scope)[0]) for index, item in items]

    return values


def by_jmespath(transform: Transform, default: Transform, call: JSON) -> Callable[[JSON], Values] | None:
    """The same by jmespath, None where a file calls a function that jmespath does not have."""
    said = {**default.source.value["event"], **transform.source.value["event"]}

    def compiled(written: Any) -> Callable[[JSON], Any]:
        if isinstance(written, str):
            search: Callable[[JSON], Any] = jmespath.compile(written).search
            return search
        if set(written) == {"const"}:
            return lambda _call: written["const"]
        inner = [(key, compiled(value)) for key, value in written.items()]
        return lambda call: {key: search(call) for key, search in inner}

    if transform.each is not None or "*" in said["properties"]:
        return None
    parts = [compiled(said[field]) for field in LOTUS_FIELDS]

    def values(call: JSON) -> Values:
        return [tuple(search(call) for search in parts)]

    try:
        values(call)
    except UnknownFunctionError:
        return None
    return values


def compare_shipped() -> None:
    """Print the table of the transforms that this project ships."""
    print("\nmicroseconds per call: all expressions of the transforms in transforms/\n")
    print(f"{'':30}{'jmespath':>9}{'compiled':>17}{'by hand':>10}{'compiled/hand':>15}")
    shipped = read_shipped()
    for name, call, by_hand in SHIPPED_ROWS:
        runs = [evaluated(shipped[name]), by_hand]
        reference = by_jmespath(shipped[name], shipped["_default"], call)
        runs += [reference] if reference else []
        assert all(each(call) == by_hand(call) for each in runs), name
        compiled, hand, *rest = microseconds(runs, call)
        beside = (
            f"{rest[0]:9.2f}{compiled:10.3f}{rest[0] / compiled:5.1f} x" if rest else f"{'':9}{compiled:10.3f}{'':7}"
        )
        events = len(by_hand(call))
        label = f"{name}, {events} events" if events > 1 else name
        print(f"{label:30}{beside}{hand:10.3f}{compiled / hand:13.1f} x")


def compare_calls() -> None:
    """Print what a call costs from its document to its checked events."""
    print("\nmicroseconds per call: chosen, mapped, checked\n")
    transforms = TransformSet(read_shipped().values())
    raw = b"{}"
    for name, call, _ in SHIPPED_ROWS:
        call = {**call, "event": "Another"} if name == "_default" else call  # noqa: PLW2901
        done = run(raw, call, transforms, RECEIVED_AT)
        assert done.transform == name, done
        (took,) = microseconds([lambda call: run(raw, call, transforms, RECEIVED_AT)], call)
        events = sum(len(lane.events) for lane in done.lanes)
        print(f"{name if events == 1 else f'{name}, {events} events':30}{took:9.2f}")


def compare_expressions() -> None:
    """Print the table of single expressions."""
    print("microseconds per event (and how many times as fast as jmespath)\n")
    print(f"{'':26}{'jmespath':>9}{'compiled':>17}{'by hand':>17}{'compiled/hand':>15}{'all counted':>17}")
    for row in ROWS:
        expression = compile_expression(row.text)
        # What is measured runs with the limits in place: its bound is known, and so nothing is left to count.
        assert expression.bound.is_small
        runs = [jmespath.compile(row.text).search, expression.search, row.by_hand, counted(row.text)]
        assert all(run(row.call) == row.by_hand(row.call) for run in runs)
        jmespath_time, compiled, hand, all_counted = microseconds(runs, row.call)
        print(
            f"{row.name:26}{jmespath_time:9.2f}"
            f"{compiled:9.3f}{jmespath_time / compiled:6.1f} x"
            f"{hand:9.3f}{jmespath_time / hand:6.1f} x"
            f"{compiled / hand:13.1f} x"
            f"{all_counted:9.3f}{jmespath_time / all_counted:6.1f} x"
        )


def main() -> None:
    """Print all tables."""
    compare_expressions()
    compare_shipped()
    compare_calls()


if __name__ == "__main__":
    main()
