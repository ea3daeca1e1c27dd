"""What is said over HTTP. The only room with Flask."""
