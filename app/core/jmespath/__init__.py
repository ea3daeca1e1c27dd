"""JMESPath: text in, a compiled function out. Knows nothing of calls or events."""
