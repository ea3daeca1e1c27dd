"""JMESPath: text in, a compiled function out. Independent of calls and events: it could be a separate package."""
