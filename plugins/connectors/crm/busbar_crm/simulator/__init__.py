"""A Salesforce-compatible simulator of the REST API, for tests, demos and `python -m busbar_crm.simulator`.

Start reading at `server.py` (what runs) and `rest_api.py` (what the API does); `records.py` holds the data.
It imports nothing of Busbar; what it shares with other simulators comes from connector_simulation. Salesforce is a
trademark of Salesforce, Inc.; this is no product of theirs.
"""

from busbar_crm.simulator.accounts import Credentials
from busbar_crm.simulator.effects import Effect
from busbar_crm.simulator.server import Options, Simulator, run_simulator, start_simulator
from connector_simulation import Webhook

__all__ = ["Credentials", "Effect", "Options", "Simulator", "Webhook", "run_simulator", "start_simulator"]
