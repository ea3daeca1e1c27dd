"""What is true. Pure: values in, values out. No clock, no IO, no logging, no Flask, no SQL."""
