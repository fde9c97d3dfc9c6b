"""Who may do what: users, roles, sign-in, tokens, and the guard of every route. Start reading in `service.py`."""
