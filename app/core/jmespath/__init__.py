"""JMESPath: text in, a compiled function out. Knows nothing of calls and events: it could be a package of its own."""
