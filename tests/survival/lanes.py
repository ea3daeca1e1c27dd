"""A transform that moves: into a lane of its own, under another name, back, and a second one that comes and goes.

What a call makes is said by the files that were live when its message came first. What is sent again makes nothing,
whatever lanes there are by then; a replay may fill one, and a correction leaves whole what has a lane that is gone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from tests.builders import a_document, to_raw

MAIN = "main"
DEFAULT = "_default"
SECOND = "second"

_NAMES = ("seat", "places", "desks")
_SEATS = """\
match: {event: Seat}
event: {event_name: {const: seats}, customer_id: userId, properties: {n: properties.n, price: '`%d`'}}
"""
_SECOND = _SEATS.replace("const: seats", "const: seconds") + "also: true\n"


@dataclass(frozen=True)
class Files:
    """The files that take the calls."""

    main: str = _NAMES[0]
    """Of the main lane: the transform that moves, or the default."""
    also: frozenset[str] = frozenset()
    """With lanes of their own."""

    @property
    def lanes(self) -> frozenset[str]:
        """All lanes that a call has events in."""
        return self.also | {MAIN}

    @property
    def texts(self) -> dict[str, str]:
        """What stands in each file, with a place for the price."""
        texts = {name: _SECOND if name == SECOND else f"{_SEATS}also: true\n" for name in self.also}
        return texts if self.main == DEFAULT else {**texts, self.main: _SEATS}


# `second` lets the second transform come, or go.
_WALKS = (
    ("also", "rename", "second"),
    ("also", "second", "rename"),
    ("second", "also", "rename"),
    ("second", "also", "second"),
    ("also", "second", "second"),
    ("also", "rename", "back"),
    ("also", "second", "back"),
)


def _moves(files: Files) -> dict[str, list[list[Files]]]:
    """Return what may happen next, with the files after each step of it."""
    moving = next(iter(files.also - {SECOND}), None)
    second = files.also & {SECOND}
    moves = {"second": [[Files(files.main, files.also ^ {SECOND})]]}
    if moving is None:
        moves["also"] = [[Files(DEFAULT, second | {files.main})]]
        return moves
    moves["back"] = [[Files(moving, second)]]
    name = _NAMES[(_NAMES.index(moving) + 1) % len(_NAMES)]
    renamed = Files(DEFAULT, second | {name})
    moves["rename"] = [
        [Files(DEFAULT, second), renamed],
        [Files(DEFAULT, files.also | {name}), renamed],
    ]
    return moves


def walk(chance: Random) -> Iterator[list[Files]]:
    """Move three times; give the files after each step of each move."""
    files = Files()
    for move in chance.choice(_WALKS):
        steps = chance.choice(_moves(files)[move])
        files = steps[-1]
        yield steps


def a_seat(message: str, more: int = 0) -> bytes:
    """Return the raw call of a message; `more` makes another content of it."""
    number = crc32(message.encode()) % 7 + 1 + more
    return to_raw(a_document(messageId=message, event="Seat", userId="seats", properties={"n": number}))


@dataclass
class Seats:
    """Which files there were, and which lanes the events of each message must have."""

    folder: Path
    take_out: Callable[[str], object]
    """Makes known that a file is gone."""
    history: list[Files] = field(default_factory=lambda: [Files()])
    lanes: dict[str, set[str]] = field(default_factory=dict)
    """Of messages that were answered while all nodes mapped by the same."""
    filled: bool = False

    @property
    def files(self) -> Files:
        """Those that are there now."""
        return self.history[-1]

    def step(self, files: Files, price: int) -> None:
        """Change the files. They publish themselves, but for one that is gone."""
        gone = self.files.texts.keys() - files.texts.keys()
        # First what goes, then what comes: between the two a call has the lanes of neither.
        for name in gone:
            (self.folder / f"{name}.yaml").unlink()
            self.take_out(name)
        self.history.append(files)
        self.write(price)

    def write(self, price: int) -> None:
        """Write the files at a price."""
        for name, text in self.files.texts.items():
            (self.folder / f"{name}.yaml").write_text(text % price)

    def note(self, messages: Iterable[str]) -> None:
        """Note messages that came first just now."""
        for message in messages:
            self.lanes[message] = set(self.files.lanes)

    def note_fill(self) -> None:
        """Note that a replay filled the second lane."""
        self.filled = True
        for lanes in self.lanes.values():
            lanes.add(SECOND)

    def allowed(self, message: str) -> list[set[str]]:
        """Return which lanes a message may have events in; of one that came at any moment there are several."""
        if message in self.lanes:
            return [self.lanes[message]]
        some = [set(files.lanes) for files in self.history]
        return some + [lanes | {SECOND} for lanes in some] if self.filled else some

    def is_whole(self, lanes: set[str]) -> bool:
        """Tell whether all of these lanes are there today, so that a correction takes the call."""
        return lanes <= self.files.lanes

    def expect(self, message: str, n: int, lane: str, price: int) -> dict[str, Any]:
        """Return what the event of a lane must be today."""
        name = {SECOND: "seconds"}.get(lane, "seats")
        id_ = message if lane == MAIN else f"{message}:{lane}"
        if lane == MAIN and self.files.main == DEFAULT:
            return {"event_name": "Seat", "base": id_, "properties": {"n": n}}
        return {"event_name": name, "base": id_, "properties": {"n": n, "price": price}}
