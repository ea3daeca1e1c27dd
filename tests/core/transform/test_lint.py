"""What is suspicious about transforms that can all be used, as data."""

import pytest

from app.core.transform.lint import lint
from tests.builders import DEFAULT_TEXT, some_transforms

EXAMPLE = "\nexamples: [{given: {}, expect: stored}]"

FINDINGS: list[tuple[str, dict[str, str], list[tuple[str, str, bool, str]]]] = [
    ("nothing at all", {"a": "match: {event: A}" + EXAMPLE}, []),
    ("no example", {"a": "match: {event: A}"}, [("a", "", False, "no example")]),
    (
        "a name that another one takes first",
        {"a": "match: {event: A}" + EXAMPLE, "b": "match: {event: [A, B]}" + EXAMPLE},
        [("b", "match.event", False, "'A' is taken by a before it")],
    ),
    (
        "all names taken",
        {"a": "match: {event: 'A*'}" + EXAMPLE, "b": "match: {event: [A1, A2]}" + EXAMPLE},
        [("b", "match.event", True, "never reached"), ("b", "match.event", True, "'A2' is taken by a")],
    ),
    (
        "a pattern behind one that takes all",
        {"a": "match: {}" + EXAMPLE, "b": "match: {event: 'B*'}" + EXAMPLE},
        [("b", "match.event", True, "a takes every track call before it")],
    ),
    (
        "a source behind one that takes all",
        {"a": "match: {}" + EXAMPLE, "b": "match: {source: s}" + EXAMPLE},
        [("b", "match", True, "a takes every track call before it")],
    ),
    (
        "one that takes all behind another",
        {"a": "match: {}" + EXAMPLE, "b": "match: {}" + EXAMPLE},
        [("b", "match", True, "never reached")],
    ),
    (
        "a higher priority is asked first",
        {"a": "match: {event: A}" + EXAMPLE, "b": "match: {event: A}\npriority: 1" + EXAMPLE},
        [("a", "match.event", True, "taken by b")],
    ),
    ("one that takes all of another type", {"a": "match: {}" + EXAMPLE, "b": "match: {type: page}" + EXAMPLE}, []),
    ("only one source is taken", {"a": "match: {source: s}" + EXAMPLE, "b": "match: {event: A}" + EXAMPLE}, []),
    ("also is never behind another", {"a": "match: {}" + EXAMPLE, "b": "match: {event: A}\nalso: true" + EXAMPLE}, []),
    ("also is never before another", {"a": "match: {}\nalso: true" + EXAMPLE, "b": "match: {event: A}" + EXAMPLE}, []),
    (
        "a text in double quotes inside a filter",
        {"a": "event: {properties: {x: 'properties.pool[?available==\"true\"].ip'}}" + EXAMPLE},
        [("a", "event.properties.x", False, "`true` is a key of the item here; the value is written in backticks")],
    ),
    (
        "... and of any other word, behind a function or a projection too",
        {
            "a": "event: {properties: {x: 'properties.pool[?contains(plan, \"pro\")]',"
            " y: 'properties.pool[*].coalesce(a, \"none\")', z: 'sum_by(properties.pool, &if(gift == false, a, b))'}}"
            + EXAMPLE
        },
        [
            (
                "a",
                "event.properties.x",
                False,
                "`\"pro\"` is a key of the item here: double quotes are for keys; a text is 'pro'",
            ),
            ("a", "event.properties.y", False, "a text is 'none'"),
            ("a", "event.properties.z", False, "`false` is a key of the item"),
        ],
    ),
    (
        "keys of items as they may be",
        {
            "a": 'event: {properties: {x: \'properties.l[?"a b" == c && d."e" == `1` && "f".g].{"h": i}\','
            " z: 'properties.l[?when > `2`] | [?at > `\"2026-01-01\"`]'}}" + EXAMPLE
        },
        [],
    ),
    (
        "an order of text that looks like numbers",
        {
            "a": "when: properties.n <= '5'\nevent: {properties: {x: \"properties.items[?price > '100'].sku\"}}"
            + EXAMPLE
        },
        [
            ("a", "when", False, "`<=` orders '5' as text"),
            ("a", "event.properties.x", False, "`>` orders '100' as text, in which '99.50' comes after '100'"),
        ],
    ),
    ("an order of other text", {"a": "when: timestamp > '2026-01-01' && event != '5'" + EXAMPLE}, []),
    (
        "ids that stand for none",
        {
            "a": "match: {event: A}\nevent: {customer_id: \"coalesce(userId, if(event == 'null', 'undefined', ' '))\","
            " idempotency_id: {const: 'null'}}" + EXAMPLE,
            "b": "match: {event: B}\n"
            "event: \"{customer_id: userId || 'NaN', idempotency_id: concat('a', to_string(index))}\"" + EXAMPLE,
        },
        [
            ("a", "event.idempotency_id", False, "gives 'null' as idempotency_id, which stands for no id"),
            ("a", "event.customer_id", False, "gives 'undefined' as customer_id"),
            ("a", "event.customer_id", False, "gives blank text as customer_id"),
            ("b", "event", False, "gives 'NaN' as customer_id"),
            ("b", "event", False, "to_string() gives the text 'null' for what is missing"),
        ],
    ),
    (
        "an id as text in _default",
        {"default": DEFAULT_TEXT.replace("customer_id: userId", "customer_id: to_string(userId)")},
        [("_default", "event.customer_id", False, "all who have no customer_id become one")],
    ),
    (
        "a required field that can be null",
        {"a": "event: {customer_id: properties.account}" + EXAMPLE},
        [("a", "event.customer_id", False, "null for a call without `properties.account`")],
    ),
    ("dates in order", {"a": "event: {properties: {x: properties.day > '2026-01-01'}}" + EXAMPLE}, []),
    ("a second way", {"a": "event: {customer_id: 'coalesce(properties.account, userId)'}" + EXAMPLE}, []),
    (
        "input_schema that requires it",
        {
            "a": "input_schema: {required: [properties], properties: {properties: {required: [account],"
            " properties: {account: {type: string}}}}}\nevent: {customer_id: properties.account}" + EXAMPLE
        },
        [],
    ),
    (
        "input_schema that requires the key and lets it be null",
        {
            "a": "input_schema: {required: [properties], properties: {properties: {required: [account]}}}\n"
            "event: {customer_id: properties.account}" + EXAMPLE
        },
        [("a", "event.customer_id", False, "of what type")],
    ),
    (
        "a key that is written in quotes",
        {
            "a": "input_schema: {required: ['the-id'], properties: {'the-id': {const: x}}}\n"
            "event: {customer_id: '\"the-id\"'}" + EXAMPLE
        },
        [],
    ),
    (
        "a field of an item that is required",
        {
            "a": "each: properties.items\n"
            "input_schema: {properties: {properties: {properties: {items: {items: {required: [id],"
            " properties: {id: {type: [string, integer]}}}}}}}}\nevent: {idempotency_id: item.id}" + EXAMPLE
        },
        [],
    ),
    (
        "a field of an item that is not",
        {"a": "each: properties.items\nevent: {idempotency_id: item.id}" + EXAMPLE},
        [("a", "event.idempotency_id", False, "`item.id`")],
    ),
    (
        "a negation of the first key alone",
        {"a": "when: '!properties.test'" + EXAMPLE, "b": "when: '!(properties.test)'\nalso: true" + EXAMPLE},
        [("a", "when", True, "write `!(properties.test)`")],
    ),
    (
        "a text that is written as a key",
        {"a": "event: {properties: {region: 'coalesce(properties.region, \"unknown\")'}}" + EXAMPLE},
        [("a", "event.properties.region", False, "a text is 'unknown'")],
    ),
    (
        "a key that only looks like a value",
        {"a": "when: properties.paid == true" + EXAMPLE},
        [("a", "when", False, "the value is written in backticks")],
    ),
    (
        "keys of items, which may have any name",
        {
            "a": "each: 'properties.list[?good].{price: price}'\n"
            "event: {properties: {sum: 'sum_by(properties.list, &price)', all: '@ | properties.x | y'}}" + EXAMPLE
        },
        [],
    ),
    (
        "a table that is not there",
        {"a": "lookup: {plans: {a: b}}\nevent: {properties: {x: \"lookup('plan', event)\"}}" + EXAMPLE},
        [("a", "event.properties.x", True, "did you mean plans?")],
    ),
    ("boolean schemas", {"a": "input_schema: true\nevent: {customer_id: {const: x}}" + EXAMPLE}, []),
]


@pytest.mark.parametrize(("files", "expected"), [entry[1:] for entry in FINDINGS], ids=[entry[0] for entry in FINDINGS])
def test_lint_finds(files: dict[str, str], expected: list[tuple[str, str, bool, str]]) -> None:
    found = list(lint(some_transforms(**files)))
    assert len(found) == len(expected), found
    for finding, (name, path, blocking, says) in zip(found, expected, strict=True):
        assert (finding.transform, ".".join(map(str, finding.path)), finding.blocking) == (name, path, blocking)
        assert says in finding.sentence
