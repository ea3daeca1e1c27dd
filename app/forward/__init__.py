"""Forwarding of stored events to Lotus: claimed from the outbox, sent, and the result recorded."""
