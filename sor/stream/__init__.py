"""How messages come and results go: places, sources, sinks, the loop, recovery, orders."""
