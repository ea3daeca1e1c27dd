"""The state of the destination: open, or paused with a trouble until a worker's probe succeeds. `conn` first."""

import msgspec
import sqlalchemy as sa

from app.store.inserts import Insert
from app.store.schema import destinations

LOTUS = "lotus"

_FIRST = Insert(destinations, ("name", "failures", "probe_at"), skip_known=True)


class Destination(msgspec.Struct, frozen=True):
    """The state of the destination."""

    trouble: str | None = None
    """What is wrong, in one word; None: open."""
    sentence: str | None = None
    failures: int = 0
    """In a row."""
    paused_at: int | None = None
    probe_at: int = 0
    """While paused, when one worker may probe."""


def read_destination(conn: sa.Connection) -> Destination:
    """Return the state of the destination."""
    columns = [destinations.c[name] for name in Destination.__struct_fields__]
    row = conn.execute(sa.select(*columns).where(destinations.c.name == LOTUS)).one_or_none()
    return Destination() if row is None else Destination(*row)


def pause(conn: sa.Connection, expected: Destination, trouble: str, sentence: str, *, now: int, probe_at: int) -> bool:
    """Pause it, if its failure count is still that of `expected`, read before the request. False: it is not."""
    _FIRST.run(conn, [(LOTUS, 0, 0)])
    changed = conn.execute(
        sa.update(destinations)
        .where(destinations.c.name == LOTUS, destinations.c.failures == expected.failures)
        .values(
            trouble=trouble,
            sentence=sentence,
            failures=expected.failures + 1,
            paused_at=sa.func.coalesce(destinations.c.paused_at, now),
            probe_at=probe_at,
        )
    )
    return bool(changed.rowcount == 1)


def take_probe(conn: sa.Connection, expected: Destination, until: int) -> bool:
    """Claim the probe that is due; no other worker probes before `until`. False: another worker was first."""
    changed = conn.execute(
        sa.update(destinations)
        .where(
            destinations.c.name == LOTUS,
            destinations.c.failures == expected.failures,
            destinations.c.probe_at == expected.probe_at,
            destinations.c.trouble.is_not(None),
        )
        .values(probe_at=until)
    )
    return bool(changed.rowcount == 1)


def resume(conn: sa.Connection) -> None:
    """Open it again."""
    conn.execute(
        sa.update(destinations)
        .where(destinations.c.name == LOTUS)
        .values(trouble=None, sentence=None, failures=0, paused_at=None, probe_at=0)
    )


def probe_now(conn: sa.Connection) -> bool:
    """Make the probe due now: the cause may have been fixed. False: it is not paused."""
    changed = conn.execute(
        sa.update(destinations)
        .where(destinations.c.name == LOTUS, destinations.c.trouble.is_not(None))
        .values(probe_at=0)
    )
    return bool(changed.rowcount == 1)
