"""`make e2e`: the services of compose.yml as processes of this machine, from the same files; begin with `native.py`."""
