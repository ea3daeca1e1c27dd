"""Checks whether a set of transforms can be published: that all parse, pass their examples, and can be reached."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.catalog.files import read_folder
from app.core.json_oddities import Checkpoint, no_checkpoint
from app.core.transform.examples import run_examples
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet, parse_transform
from app.errors import TransformInvalid

Parse = Callable[[str, str, Transform | None], Transform]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem of a transform."""

    name: str
    sentence: str
    """With file, line and column."""
    blocking: bool
    """Whether it prevents publishing the transform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The result of checking a set of texts."""

    names: frozenset[str]
    """Of all texts, and of the files that could not be read."""
    transforms: dict[str, Transform]
    """Those that can be used, by name."""
    problems: tuple[Problem, ...]
    examples: int
    """How many were run."""

    def fit_names(self) -> set[str]:
        """Return the names of the transforms that can be published."""
        return self.transforms.keys() - {problem.name for problem in self.problems if problem.blocking}


def check(
    texts: Mapping[str, str],
    unreadable: Mapping[str, str] | None = None,
    *,
    default: Transform | None = None,
    parse: Parse = parse_transform,
    checkpoint: Checkpoint = no_checkpoint,
) -> CheckReport:
    """Check texts by name.

    `unreadable` says why a file could not be read at all. The texts inherit from `default`; without it, from the
    `_default` among them. `checkpoint` is called between two texts.
    """
    names = frozenset([*texts, *(unreadable or ())])
    problems = [Problem(name=name, sentence=why, blocking=True) for name, why in (unreadable or {}).items()]
    transforms: dict[str, Transform] = {}
    if DEFAULT not in names and default is None:
        sentence = f"there is no {DEFAULT}.yaml, which all transforms inherit from"
        problems.append(Problem(name=DEFAULT, sentence=sentence, blocking=True))
    for name in sorted(texts, key=lambda name: (name != DEFAULT, name)):
        parent = None if name == DEFAULT else default or transforms.get(DEFAULT)
        if name != DEFAULT and parent is None:
            # The others cannot be read without it, which is not their fault.
            break
        try:
            transforms[name] = parse(name, texts[name], parent)
        except TransformInvalid as error:
            problems.append(Problem(name=name, sentence=error.message, blocking=True))
        checkpoint()
    examples = 0
    for transform in transforms.values():
        problems += [
            Problem(name=transform.name, sentence=why.message, blocking=True)
            for why in list_publishing_errors(transform)
        ]
        examples += len(transform.source.value.get("examples", ()))
        problems += [
            Problem(name=transform.name, sentence=why, blocking=True) for why in failing_examples(transform, checkpoint)
        ]
    for finding in lint(TransformSet(transforms.values())):
        place = transforms[finding.transform].source.invalid(finding.path, finding.sentence)
        problems.append(Problem(name=finding.transform, sentence=place.message, blocking=finding.blocking))
    return CheckReport(names=names, transforms=transforms, problems=tuple(problems), examples=examples)


def check_folder(path: Path, parse: Parse) -> CheckReport:
    """Check the files of a folder."""
    files = read_folder(path)
    return check(files.texts, files.problems, parse=parse)


def failing_examples(transform: Transform, checkpoint: Checkpoint = no_checkpoint) -> Iterator[str]:
    """Run the examples of a transform; yield a sentence, with its place, for each that fails.

    `checkpoint` is called after each example.
    """
    for result in run_examples(transform):
        checkpoint()
        if result.difference is not None:
            error = transform.source.invalid(("examples", result.position), f"{result.name}: {result.difference}")
            yield error.message
