"""What is suspicious about transforms that can all be used, as data."""

import pytest

from app.core.lint import lint
from tests.builders import some_transforms

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
        "a required field that can be null",
        {"a": "event: {customer_id: properties.account}" + EXAMPLE},
        [("a", "event.customer_id", False, "null for a call without `properties.account`")],
    ),
    *(
        (
            f"number-like text in order: {text}",
            {"a": f'event: {{properties: {{x: "{text}"}}}}' + EXAMPLE},
            [("a", "event.properties.x", False, f"'{shown}' is text, and two texts are put in order by their")],
        )
        for text, shown in (
            ("properties.items[?price > '100'].sku", "100"),
            ("properties.n < ' 5 '", " 5 "),
            ("min([properties.used, '10'])", "10"),
        )
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
    for finding, (name, path, grave, says) in zip(found, expected, strict=True):
        assert (finding.transform, ".".join(map(str, finding.path)), finding.grave) == (name, path, grave)
        assert says in finding.sentence
