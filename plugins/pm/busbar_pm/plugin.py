"""The plugin (to come)."""
