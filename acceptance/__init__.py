"""Black-box flows: Busbar's processes, the simulators and the database from outside, by HTTP and SQL.

Nothing here imports Busbar. `processes.py` starts and kills, `api.py` is a small client, `oracle.py` counts.
"""
