"""Cases as data, and what runs them."""
