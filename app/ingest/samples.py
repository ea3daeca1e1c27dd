"""Sample calls as Segment would send them: `segment-lotus send sample`."""

from typing import Any

SAMPLES: dict[str, dict[str, Any]] = {
    "api_call": {
        "type": "track",
        "event": "API Call",
        "messageId": "sample-api-call",
        "userId": "user-7",
        "context": {"groupId": "acme", "library": {"name": "analytics-node", "version": "3.1.0"}},
        "integrations": {},
        "properties": {"endpoint": "/v1/complete", "region": "eu", "input_tokens": 1234, "output_tokens": 56},
    },
    "order_completed": {
        "type": "track",
        "event": "Order Completed",
        "messageId": "sample-order-completed",
        "userId": "user-7",
        "context": {"groupId": "acme"},
        "integrations": {},
        "properties": {
            "order_id": "order-1001",
            "currency": "USD",
            "revenue": "39.95",
            "products": [
                {"product_id": "p1", "price": 19.95, "quantity": 1},
                {"product_id": "p2", "price": 10, "quantity": 2},
            ],
        },
    },
    "seats": {
        "type": "track",
        "event": "Member Added",
        "messageId": "sample-seats",
        "userId": "user-8",
        "context": {"groupId": "acme"},
        "integrations": {},
        "properties": {"workspace_id": "acme", "role": "Admin"},
    },
    "identify": {
        "type": "identify",
        "messageId": "sample-identify",
        "userId": "user-7",
        "context": {"groupId": "acme"},
        "integrations": {},
        "traits": {"email": "ann@example.com", "plan": "pro"},
    },
}
"""By name. The message ids are fixed, so that sending one again makes a duplicate."""


def make_sample(name: str, now: str) -> dict[str, Any]:
    """Return a sample call; `now` is its time, RFC 3339. Raises KeyError."""
    times = dict.fromkeys(("timestamp", "originalTimestamp", "sentAt", "receivedAt"), now)
    return {**SAMPLES[name], **times}
