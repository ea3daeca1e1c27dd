"""Is a set of transforms fit to be published: does it parse, do its examples hold, is it reachable."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from app.core.transform.examples import run_examples
from app.core.transform.lint import lint, list_publishing_errors
from app.core.transform.transform import DEFAULT, Transform, TransformSet, parse_transform
from app.errors import TransformInvalid

Parse = Callable[[str, str, Transform | None], Transform]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one transform."""

    name: str
    sentence: str
    """With file, line and column."""
    grave: bool
    """It keeps the transform from being published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """A set of texts, looked through."""

    names: frozenset[str]
    """All that there were."""
    transforms: dict[str, Transform]
    """Those that can be used, by name."""
    problems: tuple[Problem, ...]
    examples: int
    """How many were run."""

    def is_fit(self, name: str) -> bool:
        """Tell whether nothing keeps a transform from being published."""
        return name in self.transforms and not any(one.grave for one in self.problems if one.name == name)


def no_checkpoint() -> None:
    """Go on at once: nobody waits for this process."""


def check(
    texts: Mapping[str, str],
    unreadable: Mapping[str, str] | None = None,
    *,
    default: Transform | None = None,
    parse: Parse = parse_transform,
    breathe: Callable[[], None] = no_checkpoint,
) -> CheckReport:
    """Look through texts by name.

    `unreadable` says why a file could not be read at all. They inherit from `default`, or from the `_default` among
    them where none is given. `breathe` is called between two.
    """
    names = frozenset([*texts, *(unreadable or ())])
    problems = [Problem(name=name, sentence=why, grave=True) for name, why in (unreadable or {}).items()]
    transforms: dict[str, Transform] = {}
    if DEFAULT not in names and default is None:
        sentence = f"there is no {DEFAULT}.yaml, which all transforms inherit from"
        problems.append(Problem(name=DEFAULT, sentence=sentence, grave=True))
    for name in sorted(texts, key=lambda one: (one != DEFAULT, one)):
        parent = None if name == DEFAULT else default or transforms.get(DEFAULT)
        if name != DEFAULT and parent is None:
            # Without it nothing else can be read, and that is no fault of the others.
            break
        try:
            transforms[name] = parse(name, texts[name], parent)
        except TransformInvalid as error:
            problems.append(Problem(name=name, sentence=error.message, grave=True))
        breathe()
    examples = 0
    for transform in transforms.values():
        problems += [
            Problem(name=transform.name, sentence=why.message, grave=True) for why in list_publishing_errors(transform)
        ]
        examples += len(transform.source.value.get("examples", ()))
        problems += [
            Problem(name=transform.name, sentence=why, grave=True) for why in failing_examples(transform, breathe)
        ]
    for finding in lint(TransformSet(transforms.values())):
        place = transforms[finding.transform].source.invalid(finding.path, finding.sentence)
        problems.append(Problem(name=finding.transform, sentence=place.message, grave=finding.grave))
    return CheckReport(names=names, transforms=transforms, problems=tuple(problems), examples=examples)


def failing_examples(transform: Transform, breathe: Callable[[], None] = no_checkpoint) -> Iterator[str]:
    """Run the examples of a transform; say of each that does not hold where it stands and why.

    `breathe` is called after each.
    """
    for result in run_examples(transform):
        breathe()
        if result.difference is not None:
            error = transform.source.invalid(("examples", result.position), f"{result.name}: {result.difference}")
            yield error.message
