"""Routes as data: which events, which of them, in which shape, to which endpoint. Start reading in `rules.py`."""
