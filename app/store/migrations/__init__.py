"""Alembic's migrations, run by `app.store.migrate`."""
