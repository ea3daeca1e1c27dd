"""The fuzzers: see `make fuzz` and docs/security.md."""
