"""What stands beside Busbar: its configuration, and the code that writes some of it."""
