"""The trail on an empty database."""

from busbar.auth.tests.conftest import database, module_database

__all__ = ["database", "module_database"]
