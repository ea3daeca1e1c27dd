"""The rules. Pure: values in, values out. No clock, no IO, no logging, no Flask, no SQL."""
