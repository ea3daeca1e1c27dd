"""How fast calls are taken in, against the bare framework and the bare database: `python benchmarks/ingest.py --help`.

All sides of a comparison run in turn on the same machine in the same minutes, and ratios are what is reported: the
numbers per second change with the machine, and with what else it does.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import databases
import servers
import soak
import wrk
from batches import Batches
from report import Row, to_markdown
from singles import Singles

PARTS = ("sqlite-single", "sqlite-batch", "postgresql-single", "postgresql-batch")


def main() -> None:
    """Measure what was asked for and print the table."""
    asked = _arguments()
    began = time.monotonic()
    rows: list[Row] = []
    with databases.folder_on_disk(asked.folder) as folder:
        _describe_machine(folder)
        for part in asked.only:
            print(f"\n{part}", flush=True)
            rows += _measure(part, folder / part, asked)
    print(f"\n{to_markdown(rows)}\n\n{time.monotonic() - began:.0f} s")


def _describe_machine(folder: Path) -> None:
    processors, busy = os.cpu_count() or 1, os.getloadavg()[0]
    disk = f"write and fsync of 4 KB: {databases.fsync_ms(folder):.2f} ms"
    print(f"{processors} processors, of which {busy:.1f} were busy in the last minute; {disk}", flush=True)
    if busy > processors / 4:
        # A bare route waits for nobody; ours waits for the disk and the database, so strangers cost it more.
        print("Something else is running here: ratios will come out too low.", flush=True)


def _measure(part: str, place: Path, asked: argparse.Namespace) -> list[Row]:
    place.mkdir()
    if part.endswith("-single") and not wrk.is_installed():
        print(wrk.HINT)
        return [Row(part, "not run: install wrk")]
    if part.startswith("postgresql"):
        with databases.postgresql(place) as source:
            return _measure_on(part, place, source, asked)
    return _measure_on(part, place, databases.Source("sqlite", place), asked)


def _measure_on(part: str, place: Path, source: databases.Source, asked: argparse.Namespace) -> list[Row]:
    options: dict[str, Any] = {"workers": asked.workers, "flags": asked.flags.split()}
    if part == "soak":
        return soak.measure(place, source, asked.ids)
    if part.endswith("-batch"):
        rounds, batches = (1, 8) if asked.quick else (asked.rounds - 1 or 1, 20)
        return list(Batches(place, source, asked.ids, **options).run(rounds, batches))
    connections = (32,) if asked.quick or part == "postgresql-single" else (32, 128)
    return Singles(place, source, asked.ids, **options).run(connections, asked.rounds, asked.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less than a minute, and rougher")
    parser.add_argument("--only", metavar="PARTS", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--soak", action="store_true", help="only the memory of a worker over a million calls")
    parser.add_argument("--ids", choices=("node", "uuid4"), default="node", help="the form of the messageIds (node)")
    parser.add_argument("--workers", choices=("1", "2", "1,2"), help="how many workers of ours to try (1,2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (3)")
    parser.add_argument("--seconds", type=int, default=2, help="how long a measurement of single calls takes (2)")
    parser.add_argument(
        "--flags", default="", help='gunicorn flags laid over our own: --flags="-k gthread --threads 32"'
    )
    parser.add_argument(
        "--folder", type=Path, default=servers.ROOT / "var", help="where databases are put for a while (var)"
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds = asked.seconds = 1
    asked.workers = tuple(map(int, (asked.workers or ("1" if asked.quick else "1,2")).split(",")))
    asked.only = tuple(asked.only.split(",")) if asked.only else PARTS
    if unknown := set(asked.only) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if asked.soak:
        asked.only = ("soak",)
    asked.folder = asked.folder.absolute()
    return asked


if __name__ == "__main__":
    main()
