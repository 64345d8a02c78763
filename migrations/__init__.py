"""Alembic's home; see server.migrations for how it is run."""
