"""HTTP: connections, bodies, sessions, errors, and what all pages share."""
