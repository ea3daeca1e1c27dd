"""Calls: their steps and outcomes, the origin of their events, conflicts, problems, search, retention."""
