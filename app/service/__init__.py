"""The only place where things are put together: build, the Flask application, and what looks across wings."""
