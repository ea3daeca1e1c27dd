"""What is kept as rows. The only room with SQLAlchemy."""
