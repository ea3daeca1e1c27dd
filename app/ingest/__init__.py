"""Ingestion of calls: the webhook, Segment's tracking API, Lotus's track API."""
