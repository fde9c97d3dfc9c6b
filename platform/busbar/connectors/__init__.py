"""The connector contract and what stands between a connector and its remote; start reading at `contract.py`."""
