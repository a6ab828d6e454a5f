"""What would it have cost? Simulated venues, measures that add up, and comparisons."""
