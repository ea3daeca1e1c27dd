"""How fast calls are taken in, against the bare framework and the bare database: `python benchmarks/ingest.py --help`.

All sides of a comparison run in turn on the same machine in the same minutes, and ratios are what is reported: the
numbers per second change with the machine, and with what else it does.
"""

import argparse
import os
import time
from pathlib import Path

import databases
import servers
import wrk
from report import Row, to_markdown
from singles import Singles

PARTS = ("sqlite-single", "sqlite-batch", "postgresql-single", "postgresql-batch")


def main() -> None:
    """Measure what was asked for and print the table."""
    asked = _arguments()
    began = time.monotonic()
    rows: list[Row] = []
    with databases.folder_on_disk(asked.folder) as folder:
        print(f"{os.cpu_count()} processors; write and fsync of 4 KB: {databases.fsync_ms(folder):.2f} ms\n", flush=True)
        for part in asked.only:
            print(part, flush=True)
            rows += _measure(part, folder, asked)
    print(f"\n{to_markdown(rows)}\n\n{time.monotonic() - began:.0f} s")


def _measure(part: str, folder: Path, asked: argparse.Namespace) -> list[Row]:
    place = folder / part
    place.mkdir()
    if part.endswith("-single") and not wrk.is_installed():
        print(wrk.HINT)
        return [Row(part, "not run: install wrk", "", "")]
    if part.startswith("sqlite"):
        return _measure_on(part, place, databases.Server("sqlite", place), asked)
    with databases.postgresql(place) as source:
        return _measure_on(part, place, source, asked)


def _measure_on(part: str, place: Path, source: databases.Server, asked: argparse.Namespace) -> list[Row]:
    if part.endswith("-single"):
        singles = Singles(place, source, asked.ids, asked.flags.split())
        connections = (32, 128) if part == "sqlite-single" and not asked.quick else (32,)
        return singles.run(connections, asked.rounds, asked.seconds)
    return []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than a minute, and rougher")
    parser.add_argument("--only", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--ids", choices=("node", "uuid4"), default="node", help="the form of the messageIds")
    parser.add_argument("--rounds", type=int, help="how often each side is measured")
    parser.add_argument("--seconds", type=int, help="how long each measurement of single calls takes")
    parser.add_argument("--flags", default="", help="gunicorn flags to lay over our own, to try another design")
    parser.add_argument("--folder", type=Path, default=servers.ROOT / "var", help="where the databases are put (var/)")
    asked = parser.parse_args()
    asked.only = asked.only.split(",") if asked.only else PARTS
    if unknown := set(asked.only) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    asked.rounds = asked.rounds or (1 if asked.quick else 3)
    asked.seconds = asked.seconds or (1 if asked.quick else 2)
    return asked


if __name__ == "__main__":
    main()
