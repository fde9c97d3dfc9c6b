"""Small tools that know nothing of Busbar: clock, ids, backoff."""
