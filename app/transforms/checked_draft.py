"""A checked draft: what blocks its publication, what is suspicious, and the results of its examples."""

from typing import Any

import msgspec

from app.catalog.live import Catalog, Live
from app.catalog.status import breaks_inheriting
from app.core.transform.examples import run_examples, to_call
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import DocumentInvalid, TransformInvalid
from app.transforms.preview import read_draft


class ProblemDocument(msgspec.Struct, kw_only=True):
    """What is wrong with a text, and where: line and column from 1."""

    line: int
    column: int
    message: str
    blocking: bool
    grave: bool
    """The former name of `blocking`."""


class CheckedDraft:
    """A draft, parsed, with the results of its examples and checks."""

    def __init__(self, name: str, text: str, catalog: Catalog, live: Live) -> None:
        self.with_draft: TransformSet | None = None
        self.problems: list[ProblemDocument] = []
        self.examples: list[dict[str, Any]] = []
        try:
            draft, self.with_draft = read_draft(name, text, catalog, cache=False)
        except TransformInvalid as error:
            self.problems.append(_to_problem(error, name, blocking=True))
            return
        self.problems += [_to_problem(error, name, blocking=True) for error in list_publishing_errors(draft)]
        self._run_examples(draft)
        for finding in lint(self.with_draft):
            if finding.transform == name:
                where = draft.source.invalid(finding.path, finding.sentence)
                self.problems.append(_to_problem(where, name, blocking=finding.blocking))
        if name == DEFAULT:
            for sentence in breaks_inheriting(catalog, live, draft, set()):
                self.problems.append(_to_problem(TransformInvalid(sentence), name, blocking=True))
        self.problems.sort(key=lambda problem: (problem.line, problem.column))

    def _run_examples(self, draft: Transform) -> None:
        examples = draft.source.value.get("examples", ())
        for result in run_examples(draft):
            passed = result.difference is None
            call = to_call(examples[result.position]["given"], draft)
            self.examples.append({"name": result.name, "passed": passed, "message": result.difference, "call": call})
            if not passed:
                place = ("examples", result.position)
                error = draft.source.invalid(place, f"{result.name}: {result.difference}")
                self.problems.append(_to_problem(error, draft.name, blocking=True))


def _to_problem(error: DocumentInvalid, name: str, *, blocking: bool) -> ProblemDocument:
    line, column = error.place or (1, 1)
    sentence = error.sentence.removeprefix(f"{name}.yaml: ")
    return ProblemDocument(line=line, column=column, message=sentence, blocking=blocking, grave=blocking)
