"""What reaches the service, and from whom: for the setup page, the overview and `doctor`."""

import msgspec

from app.errors import BadQuery
from app.store.engine import Connection
from app.store.ids import ID_MAX
from app.store.nodes import (
    ARRIVED,
    DAY,
    REFUSALS_ACKNOWLEDGED,
    SECRET_USED,
    UNTRUSTED_PROXY,
    list_sightings,
    save_sighting,
)
from app.store.refusals import RefusalGroup, Sender, group_refusals
from app.store.review import CallRow, newest_call_id, read_calls

WHO = {
    Sender.SEGMENT: "Segment",
    Sender.SDK: "one of Segment's SDKs",
    Sender.MACHINE: "this machine",
    Sender.AUTHENTIC: "a sender with a credential",
    Sender.STRANGER: "a stranger",
    None: "somebody",
}


class SecretUse(msgspec.Struct, frozen=True):
    """When a shared secret was last used, to a minute or two."""

    number: int
    """Its place in SEGMENT_SHARED_SECRETS, from 1."""
    fingerprint: str
    used_at: int | None
    """None: not since such times are recorded."""


class Reception(msgspec.Struct, kw_only=True):
    """The last requests."""

    call: CallRow | None
    """The newest call."""
    seen: dict[Sender, int]
    """When each sender's last accepted request came, to a minute or two."""
    refused: list[RefusalGroup]
    """The refused requests that nobody has acknowledged, by sender, the newest first."""
    secrets: list[SecretUse]
    proxied: bool
    """X-Forwarded-For came within the last day, and no proxy is trusted to set it."""

    @property
    def loss(self) -> RefusalGroup | None:
        """The newest refused request whose calls are lost, unless its sender has been accepted since."""
        for group in self.refused:
            last = group.last
            since = self.seen.get(Sender(last.sender), 0) if last.sender else max(self.seen.values(), default=0)
            if last.is_loss and last.received_at > since:
                return group
        return None

    @property
    def quiet(self) -> list[RefusalGroup]:
        """The refused requests of strangers and of this machine."""
        return [group for group in self.refused if not group.last.is_loss]

    @property
    def refused_until(self) -> int:
        """When the last of them was received: what an acknowledgement covers."""
        return max((group.last.received_at for group in self.refused), default=0)


def read_reception(conn: Connection, fingerprints: list[str], now: int) -> Reception:
    """Read it. `fingerprints` of the shared secrets, in their order."""
    newest = newest_call_id(conn)
    names = [
        UNTRUSTED_PROXY,
        *(ARRIVED + sender for sender in Sender),
        *(SECRET_USED + text for text in fingerprints),
    ]
    sightings = list_sightings(conn, *names)
    return Reception(
        call=next(iter(read_calls(conn, [newest])), None) if newest else None,
        seen={sender: sightings[ARRIVED + sender] for sender in Sender if ARRIVED + sender in sightings},
        refused=group_refusals(conn),
        secrets=[
            SecretUse(number, text, sightings.get(SECRET_USED + text)) for number, text in enumerate(fingerprints, 1)
        ],
        proxied=sightings.get(UNTRUSTED_PROXY, 0) > now - DAY,
    )


def acknowledge(conn: Connection, until: str, now: int) -> None:
    """Hide the refused requests that were received up to a time, in microseconds since 1970. Raises BadQuery."""
    if not (until.isascii() and until.isdecimal() and len(until) <= len(str(ID_MAX))):
        raise BadQuery("until is no time")
    # Never of the future: what comes next must be shown.
    before = list_sightings(conn, REFUSALS_ACKNOWLEDGED).get(REFUSALS_ACKNOWLEDGED, 0)
    save_sighting(conn, REFUSALS_ACKNOWLEDGED, max(before, min(int(until), now)))
