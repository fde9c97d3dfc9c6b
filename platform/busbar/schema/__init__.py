"""The database schema: the core's tables, their migrations, and the runner that brings every module's up to date."""
