"""The SQL migrations of `mm`."""
