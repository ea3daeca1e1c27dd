"""The machinery that all commands share."""
