"""The migrations of plant maintenance: forward only; a file that has run anywhere is never edited."""
