"""How fast a transform is: jmespath.py, the compiled expression, and Python written by hand, in one run.

    python benchmarks/transform.py

Each row is one expression on one call. All three give the same event, which is checked first. The last column is what
the same expression would cost if all its steps were counted: only expressions that could explode are.
"""

import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jmespath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.core.expression import compile_expression
from app.core.expression_closures import Closures
from app.core.expression_functions import BUILT_IN
from app.core.expression_limits import Meter
from app.core.expression_text import parse

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


def main() -> None:
    """Print the table."""
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


if __name__ == "__main__":
    main()
