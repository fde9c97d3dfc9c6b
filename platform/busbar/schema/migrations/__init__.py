"""The core's migrations: forward only; a file that has run anywhere is never edited."""
