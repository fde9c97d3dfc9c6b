"""Fixtures for all tests of the workspace: the ones that Busbar ships to plugin authors."""

from busbar.testing.app import app
from busbar.testing.database import database, postgres, schema_apps

__all__ = ["app", "database", "postgres", "schema_apps"]
