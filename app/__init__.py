"""Segment-Lotus: Segment calls in, Lotus events stored once. Kept empty, so that `import app.core` loads no web."""
