"""What happens to an event afterwards: it is claimed from the outbox, sent to Lotus, and settled."""
