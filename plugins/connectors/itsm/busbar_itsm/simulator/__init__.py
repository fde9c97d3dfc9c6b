"""A ServiceNow-compatible simulator of the Table API, for tests, demos and `python -m busbar_itsm.simulator`.

Start reading at `server.py` (what runs) and `table_api.py` (what the API does); `records.py` holds the data.
It imports nothing of Busbar. ServiceNow is a trademark of ServiceNow, Inc.; this is no product of theirs.
"""

from busbar_itsm.simulator.effects import Effect
from busbar_itsm.simulator.misbehaviour import KINDS
from busbar_itsm.simulator.server import Simulator, run_simulator

__all__ = ["KINDS", "Effect", "Simulator", "run_simulator"]
