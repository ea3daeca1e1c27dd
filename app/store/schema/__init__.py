"""The tables, their purpose, and the reason for each index: every index costs time on every call.

The schema could be sharded over several PostgreSQL nodes: ids come from the application, each unique key contains the
column by which its table would be sharded, and there are no foreign keys or triggers. All times are integer
microseconds since 1970.
"""

from app.store.schema.base import METADATA
from app.store.schema.calls import calls, claims, events, faults, ledger, refusals, requests
from app.store.schema.catalog import drafts, publications, versions
from app.store.schema.corrections import corrected_events, corrections
from app.store.schema.deliveries import attempted, attempts, deliveries, destinations, differences
from app.store.schema.evidence import evidence, signing_keys
from app.store.schema.months import carried_adjustments, closed_months, closed_numbers
from app.store.schema.nodes import ended_sessions, sightings, spent_links
from app.store.schema.replays import fingerprints, outcome_changes, replays, voids
from app.store.schema.usage import usage_buckets, usage_folds, usage_metrics, usage_tail

__all__ = [
    "METADATA",
    "attempted",
    "attempts",
    "calls",
    "carried_adjustments",
    "claims",
    "closed_months",
    "closed_numbers",
    "corrected_events",
    "corrections",
    "deliveries",
    "destinations",
    "differences",
    "drafts",
    "ended_sessions",
    "events",
    "evidence",
    "faults",
    "fingerprints",
    "ledger",
    "outcome_changes",
    "publications",
    "refusals",
    "replays",
    "requests",
    "sightings",
    "signing_keys",
    "spent_links",
    "usage_buckets",
    "usage_folds",
    "usage_metrics",
    "usage_tail",
    "versions",
    "voids",
]
