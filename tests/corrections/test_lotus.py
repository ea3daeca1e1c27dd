"""What a correction says and does about Lotus, which has some of its events. On both databases."""

import pytest

from app.clock import clock as wall_clock
from app.core.times import format_time
from app.corrections.documents import to_document, to_preview_document
from app.corrections.selection import parse_selection
from app.corrections.text import effect_text
from app.errors import BadQuery
from app.store.corrections import VOID, Attribution, LotusChoice
from app.store.differences import delivered_text
from app.store.engine import Database
from app.store.schema import corrections, deliveries, differences
from tests.builders import NOW, rows_of
from tests.corrections.correcting import METRICS, a_corrector, deliver, keep
from tests.metrics.conftest import publish

HOLD, DIFFERENCE = LotusChoice.HOLD, LotusChoice.DIFFERENCE
BY_DIFFERENCE = Attribution(author="ann", reason="internal traffic", lotus=DIFFERENCE)


def test_a_difference_is_checked_before_and_sent_with_the_void_or_refused(database: Database) -> None:
    publish(database, *METRICS[:1])
    keep(database, [1, 2, 3], forwards=True, time_created=format_time(wall_clock()))
    deliver(database, "e-2")
    deliver(database, "e-3")
    corrector = a_corrector(database)
    one, other = (parse_selection({"ids": ids}, NOW) for ids in (["e-1", "e-2"], ["e-3"]))
    preview, later = (corrector.preview(selection, lotus=DIFFERENCE) for selection in (one, other))
    assert to_preview_document(preview, DIFFERENCE, dry_run=True)["lotus"] == "difference"
    correction = corrector.run(corrector.begin(preview, BY_DIFFERENCE))
    [(customer, properties)] = rows_of(database, differences, differences.c.customer_id, differences.c.properties)
    assert (customer, properties) == ("customer-1", '{"tokens":-2}')
    assert rows_of(database, deliveries, deliveries.c.state)[:3] == [("voided",), ("credited",), ("delivered",)]
    document = to_document(correction)
    said = "1 of these was delivered; Lotus keeps it, and gets the difference as a correction event"
    assert (document["lotus"], document["warning"]) == ("difference", said)
    publish(database, *METRICS)
    with pytest.raises(BadQuery, match=r"no difference corrects the event 'e-3' .* api_calls \(count\)"):
        corrector.preview(other, lotus=DIFFERENCE)
    with pytest.raises(BadQuery, match="choose hold"):
        corrector.begin(later, BY_DIFFERENCE)
    assert len(rows_of(database, corrections)) == 1


@pytest.mark.parametrize(
    ("count", "choice", "replaced", "sentence"),
    [
        (2, "send", True, "2 of these were delivered; Lotus will count both"),
        (2, "hold", True, "2 of these were delivered; Lotus still counts them, and what replaces them is held back"),
        (1, "hold", False, "1 of these was delivered; Lotus still counts it"),
        (1, "send", False, "1 of these was delivered; Lotus still counts it"),
        (
            2000,
            None,
            True,
            "2,000 of these were delivered; Lotus will count both, unless what replaces them is held back",
        ),
        (0, "send", True, "Lotus has none of them"),
    ],
)
def test_before_a_correction_it_says_what_lotus_will_count(
    count: int, choice: str | None, replaced: bool, sentence: str
) -> None:
    assert delivered_text(count, choice, replaced=replaced) == sentence


def test_the_question_of_a_void_says_it(database: Database) -> None:
    keep(database, [1, 2, 3], forwards=True)
    deliver(database, "e-2")
    preview = a_corrector(database).preview(parse_selection({"customer": "customer-1"}, NOW))
    said = "1 of these was delivered; Lotus still counts it"
    assert f"{said}; 2 would be taken out of the outbox" in effect_text(preview.tally, VOID, HOLD, foreseen=True)
    assert to_preview_document(preview, HOLD, dry_run=True)["warning"] == said
