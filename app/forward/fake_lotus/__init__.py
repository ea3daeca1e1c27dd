"""A stand-in for Lotus, for tests and for trying things out: strict about the contract, with faults on demand.

It keeps what it receives in memory, and is not part of the service: nothing else imports it.
"""
