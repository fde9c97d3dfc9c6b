"""What an operator sees of a running Busbar: logs, metrics, health. Start reading at `correlation`, then `logs`."""
