"""What the simulators of remote systems share; it knows nothing of Busbar."""
