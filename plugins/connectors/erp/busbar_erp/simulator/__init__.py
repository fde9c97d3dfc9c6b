"""An SAP-compatible simulator of OData V2 services, for tests, demos and `python -m busbar_erp.simulator`.

Start reading at `server.py` (what runs), `odata_api.py` (what the services do) and `rules.py` (what the applications
do by themselves). It imports nothing of Busbar. SAP and S/4HANA are trademarks of SAP SE; this is no product of theirs.
"""

from busbar_erp.simulator.accounts import Credentials
from busbar_erp.simulator.effects import Effect
from busbar_erp.simulator.server import Options, Simulator, run_simulator, start_simulator

__all__ = ["Credentials", "Effect", "Options", "Simulator", "run_simulator", "start_simulator"]
