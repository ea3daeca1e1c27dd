"""Another process on the same database: stores some calls from ten threads, and says how they ended.

python -m tests.store.a_node DATABASE_URL TAG
"""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from app.store.engine import connect
from app.store.record import Record
from tests.builders import a_record, a_request, a_writer, an_event, some_ids


def main(url: str, tag: int) -> None:
    """Wait for a line on stdin, store, and print how many calls ended how."""
    database = connect(url)
    ids = some_ids(tag)
    writer = a_writer(database, ids=ids)
    names = [f"both-{number}" for number in range(50)]
    names += [f"only-{tag}-{number}" for number in range(50)]
    names += ["one-message"] * 100
    records = [a_record(an_event(idempotency_id=name)) for name in names]
    for record in records:
        record.id = ids.next(record.received_at)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()

    def send(record: Record) -> None:
        request = a_request(record)
        writer.append(request)

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(send, records))
    counts = Counter(str(record.outcome) for record in records)
    sys.stdout.write(" ".join(f"{outcome}={count}" for outcome, count in counts.items()))
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
