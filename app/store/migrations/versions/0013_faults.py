"""What calls that fail in one way have in common, in a table, and its key with each of them."""

import re
from functools import lru_cache
from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SLICE = 5000
_CALLS = sa.text(
    "SELECT id, reason, transform, transform_digest, detail FROM calls "
    "WHERE outcome = :outcome AND outcome <> 'stored' AND id > :after ORDER BY id LIMIT :slice"
)
_FILL = sa.text("UPDATE calls SET fault = :fault WHERE id = :id")

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_IN_BACKQUOTES = re.compile(r"`([^`]*)`")
_SCHEMA_SENTENCE = re.compile(r"(.+?) breaks input_schema: (.*)", re.DOTALL)
_REQUIRED = re.compile(r"`(.+)` is required")
_STEP = re.compile(r"(?:(?<=\.)|^)\d+(?=\.|$)")
_TRANSFORM_PLACE = re.compile(r"((?:event|when|each)\b.*?): ")
_EVENT_FIELDS = "event_name|idempotency_id|customer_id|time_created|properties"
_EVENT_PLACE = re.compile(rf"(?:a key of )?((?:{_EVENT_FIELDS})\b.*?)(?=: | is | has | holds | nest)")
_VARYING = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"""gives (?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"), which is no field""",
            rf"gives {_ELLIPSIS}, which is no field",
        ),
        (r"gives \d+ items, and", rf"gives {_ELLIPSIS} items, and"),
        (r"the events of index \d+ and \d+ of", rf"the events of index {_ELLIPSIS} and {_ELLIPSIS} of"),
        (r" \(index \d+\)$", rf" (index {_ELLIPSIS})"),
        (r" has \d+ characters; Lotus", rf" has {_ELLIPSIS} characters; Lotus"),
        (r" \(byte \d+\)\.$| at byte \d+\.$", ""),
        (r"(The call is not JSON|The data beside its batch is not JSON): The (?:call|body).*", r"\1"),
        (r"^The call is not JSON: .*", "The call is not JSON"),
        (r"it could need .+ evaluations, and", rf"it could need {_ELLIPSIS} evaluations, and"),
        (r"its [\d,]+ bytes of text", rf"its {_ELLIPSIS} bytes of text"),
        (r"it holds [\d,]+ numbers that", rf"it holds {_ELLIPSIS} numbers that"),
        (r"^the database does not take a value of this call \(.*", "the database does not take a value of this call"),
        (r"(a regular expression \(RE2\) as argument 2, and was given a string that is not one): .*?(?=$| \()", r"\1"),
    )
]
_INDEX = re.compile(r"\[\d+\]")


def upgrade() -> None:
    """Apply. Of calls only those are touched that made no events."""
    op.add_column(
        "calls",
        sa.Column(
            "fault",
            sa.LargeBinary(),
            nullable=True,
            comment="key of `faults`; NULL: it made its events, or another call did",
        ),
    )
    faults = op.create_table(
        "faults",
        sa.Column("key", sa.LargeBinary(), primary_key=True, nullable=False, comment="digest of the other columns"),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("transform", sa.Text(), nullable=True),
        sa.Column("transform_digest", sa.LargeBinary(), nullable=True),
        sa.Column(
            "path",
            sa.Text(),
            nullable=False,
            comment="in the call, the event or the transform; '' where there is none",
        ),
        sa.Column("sentence", sa.Text(), nullable=False, comment="without what differs from call to call"),
        comment="One row per way in which calls fail, written with the first of them.",
        sqlite_with_rowid=False,
    )
    _fill(op.get_bind(), faults)
    where = sa.text("fault IS NOT NULL")
    op.create_index("calls_fault", "calls", ["fault", "id"], sqlite_where=where, postgresql_where=where)


def _fill(conn: sa.Connection, faults: sa.Table) -> None:
    """Read the sentences of former calls, which had no fault beside them."""
    keys: set[bytes] = set()
    for outcome in ("rejected", "conflict", "ignored"):
        after = -1
        while rows := conn.execute(_CALLS, {"outcome": outcome, "after": after, "slice": _SLICE}).all():
            filled, new = [], []
            for id_, *shared, detail in rows:
                path, sentence = find_fault(outcome, shared[0], detail)
                key = _key(outcome, *shared, path, sentence)
                filled.append({"id": id_, "fault": key})
                if key not in keys:
                    keys.add(key)
                    values = (key, outcome, *shared, path[:200], sentence[:1000])
                    new.append(dict(zip(faults.columns.keys(), values, strict=True)))
            if new:
                conn.execute(sa.insert(faults), new)
            conn.execute(_FILL, filled)
            after = rows[-1][0]


def _key(outcome: str, reason: str | None, transform: str | None, digest: bytes | None, *fault: str) -> bytes:
    parts = (outcome, reason or "", transform or "", bytes(digest).hex() if digest is not None else "", *fault)
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=4096)
def find_fault(outcome: str, reason: str | None, detail: str | None) -> tuple[str, str]:
    """Return path and sentence, as the errors of this version carry them."""
    if outcome == "conflict":
        return "idempotency_id", "an event with this id is already there, with other content"
    if outcome == "ignored" or not detail:
        return "", detail or ""
    if reason == "input_schema" and (match := _SCHEMA_SENTENCE.fullmatch(detail)):
        everywhere = _STEP.sub("*", match[1])
        required = _REQUIRED.fullmatch(match[2])
        steps = ("" if everywhere == "the call" else everywhere, required[1] if required else "")
        return ".".join(filter(None, steps)), f"{everywhere} breaks input_schema: {match[2]}"
    sentence = detail
    for pattern, replacement in _VARYING:
        sentence = pattern.sub(replacement, sentence)
    if reason == "transform_error":
        place = _TRANSFORM_PLACE.match(sentence)
    else:
        sentence = _INDEX.sub("[*]", sentence)
        place = (_EVENT_PLACE if reason == "event_invalid" else _IN_BACKQUOTES).search(sentence)
    return place[1] if place else "", sentence
