"""How calls come in: the webhook, Segment's tracking API, Lotus's track API."""
