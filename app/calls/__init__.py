"""What became of a call: its steps, where its events came from, conflicts, problems, search."""
