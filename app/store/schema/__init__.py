"""The tables. What each is for, and why each index is there; an index with no reader is paid for on every call.

Laid out to be spread over several PostgreSQL nodes one day: ids come from the application, each unique key holds the
column its table would be spread by, no foreign keys, no triggers. All times are integer microseconds since 1970.
"""

from app.store.schema.base import METADATA
from app.store.schema.calls import calls, claims, events, ledger, refusals, requests
from app.store.schema.catalog import drafts, publications, versions
from app.store.schema.forwarding import attempted, attempts, deliveries, destinations
from app.store.schema.nodes import ended_sessions, sightings
from app.store.schema.replays import fingerprints, outcome_changes, replays, voids
from app.store.schema.usage import usage_buckets, usage_folds, usage_metrics, usage_tail

__all__ = [
    "METADATA",
    "attempted",
    "attempts",
    "calls",
    "claims",
    "deliveries",
    "destinations",
    "drafts",
    "ended_sessions",
    "events",
    "fingerprints",
    "ledger",
    "outcome_changes",
    "publications",
    "refusals",
    "replays",
    "requests",
    "sightings",
    "usage_buckets",
    "usage_folds",
    "usage_metrics",
    "usage_tail",
    "versions",
    "voids",
]
