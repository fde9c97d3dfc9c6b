"""A ServiceNow-compatible simulator of the Table API, for tests, demos and `python -m busbar_itsm.simulator`.

Start reading at `server.py` (what runs) and `table_api.py` (what the API does); `records.py` holds the data.
It imports nothing of Busbar; what it shares with other simulators comes from connector_simulation. ServiceNow is a
trademark of ServiceNow, Inc.; this is no product of theirs.
"""

from busbar_itsm.simulator.accounts import Credentials
from busbar_itsm.simulator.effects import Effect
from busbar_itsm.simulator.server import Options, Simulator, run_simulator, start_simulator
from connector_simulation import KINDS, Webhook

__all__ = ["KINDS", "Credentials", "Effect", "Options", "Simulator", "Webhook", "run_simulator", "start_simulator"]
