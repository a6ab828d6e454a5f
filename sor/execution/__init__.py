"""How is an order worked to its end? A state machine of reports and actions: no clock, no I/O."""
