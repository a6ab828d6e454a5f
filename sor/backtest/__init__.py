"""What would it have cost: simulated venues and markets, measures, comparisons."""
