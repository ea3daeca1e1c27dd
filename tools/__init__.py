"""Programs for who works on this project; the service does not need them."""
