"""A stand-in for Lotus, for tests and for trying things out: strict by the contract, with faults on demand.

It keeps what it gets in memory and is no part of the service: nothing else imports it.
"""
