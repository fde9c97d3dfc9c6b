"""A simulated receiver of Standard Webhooks, for tests, demos and `python -m busbar_webhook.simulator`.

Start reading at `server.py` (what runs); `verification.py` is what a receiver has to check. It imports nothing of
Busbar; what it shares with other simulators comes from connector_simulation.
"""

from busbar_webhook.simulator.effects import Effect
from busbar_webhook.simulator.server import Options, Simulator, run_simulator, start_simulator

__all__ = ["Effect", "Options", "Simulator", "run_simulator", "start_simulator"]
