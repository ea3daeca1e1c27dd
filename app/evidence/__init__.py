"""Evidence: a number of one customer and month as one signed file, which anybody can check without the service.

The metrics write its numbers and compute them again; this wing packs, signs, records and opens.
"""
