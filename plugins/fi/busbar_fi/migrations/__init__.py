"""The SQL migrations of `fi`."""
