"""Throws what no sender should send at the real application, and looks at all that is stored afterwards.

python -m tools.fuzz                                   a million bodies, then 20,000 requests to all routes
python -m tools.fuzz --seed 7 --bodies 100000          fewer, from another seed
python -m tools.fuzz --minutes 30 --each-kind 500      as many as there is time for, and more of them looked at
python -m tools.fuzz --seed 7 --first 4711 --bodies 1  one of them again
"""

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from pathlib import Path

from app.settings.values import parse_database_url
from tests.served import ROOT, served
from tools.fuzz.bodies import BodyFuzzer
from tools.fuzz.readers import Readers
from tools.fuzz.requests import WRITE_KEY, make_request, read_captures
from tools.fuzz.routes import RouteFuzzer
from tools.fuzz.target import Fault, Target
from tools.fuzz.wire import WireFuzzer

_CALLS = 100
"""Requests with calls before the routes are asked, so that there is something to be shown."""


def main() -> int:
    """Run it; return 1 where there was a fault."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="See docs/security.md.")
    parser.add_argument("--seed", type=int, default=1, help="what is sent follows from it (1)")
    parser.add_argument("--bodies", type=int, default=1_000_000, help="requests with calls (1,000,000)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="send no more bodies after that (no end)")
    parser.add_argument("--routes", type=int, default=20_000, help="requests to any of the routes (20,000)")
    parser.add_argument("--wire", type=int, default=5000, help="texts over sockets to a served service (5,000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (0)")
    parser.add_argument("--each-kind", type=int, default=50, help="calls of a kind to look at one by one, 0: all (50)")
    parser.add_argument("--commands", type=int, default=150, help="calls for which commands are typed (150)")
    parser.add_argument("--database-url", help="of an empty PostgreSQL database; a new SQLite file where left out")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "fuzz", help="where it writes (var/fuzz)")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Where no `.env` of somebody's own is read.
    os.chdir(folder)
    began = time.monotonic()
    url = parse_database_url(options.database_url or f"sqlite:///{folder / 'fuzz.db'}")

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    faults = 0
    if options.bodies:
        target = Target(url, folder)
        readers = Readers(target, folder, each_kind=options.each_kind or None, commands=options.commands)
        fuzzer = BodyFuzzer(target, folder, readers, seed=options.seed, tell=tell)
        tally = fuzzer.run(options.first, options.bodies, began + 60 * options.minutes)
        target.close()
        faults += len(tally.faults)
        for line in tally.lines():
            tell(line)
    if options.routes:
        target = Target(url if options.bodies or options.database_url else f"sqlite:///{folder / 'routes.db'}", folder)
        for number in range(_CALLS):
            with contextlib.suppress(Fault):
                target.send(make_request(options.seed, number, read_captures()))
        routes = RouteFuzzer(target, seed=options.seed, tell=tell)
        routes.run(options.first if not options.bodies else 0, options.routes)
        target.close()
        faults += len(routes.faults)
        tell(f"routes: statuses {dict(sorted(routes.statuses.items()))}")
    if options.wire:
        with served(f"sqlite:///{folder / 'wire.db'}", folder / "wire", SEGMENT_WRITE_KEYS=WRITE_KEY) as service:
            wire = WireFuzzer(service, seed=options.seed, tell=tell)
            wire.run(options.wire)
        faults += len(wire.faults)
        tell(f"wire: statuses {dict(sorted(wire.statuses.items()))}")
    tell(f"{faults} kinds of faults, seed {options.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
