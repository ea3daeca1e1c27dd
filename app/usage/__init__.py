"""WHAT IS ASKED of metrics: answers over the store, the events behind each number, and how both are told."""
