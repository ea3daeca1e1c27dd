"""What the editor tells of functions is what there is, in the words of docs/functions.md."""

import re
from pathlib import Path

from app.core.jmespath.functions import FUNCTIONS
from app.core.jmespath.standard_functions import BUILT_IN
from app.transforms.functions import FUNCTION_DOCUMENTS, JMESPATH, OURS

PAGE = Path(__file__).parent.parent.parent / "docs" / "functions.md"


def test_every_function_is_told_once() -> None:
    assert [one.name for one in FUNCTION_DOCUMENTS] == sorted({*FUNCTIONS, *BUILT_IN})
    assert {one.name for one in OURS} == set(FUNCTIONS)
    assert {one.name for one in JMESPATH} == set(BUILT_IN) - set(FUNCTIONS)


def test_ours_are_told_as_on_the_page_of_functions() -> None:
    rows = re.findall(r"^\| `([a-z_0-9]+\(.*?\))` \| (.*?) \| `", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {(one.signature, one.sentence) for one in OURS} == {(row[0], row[1].replace("`", "")) for row in rows}


def test_a_signature_begins_with_the_name_and_has_an_argument_for_each_that_must_be_given() -> None:
    for one in FUNCTION_DOCUMENTS:
        function = FUNCTIONS.get(one.name) or BUILT_IN[one.name]
        given = re.sub(r"\[.*\]", "", one.signature.partition("(")[2].removesuffix(")"))
        names = [name for name in given.split(", ") if name and name != "..."]
        assert len(names) >= function.min_args, one.signature
