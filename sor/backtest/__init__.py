"""What working an order would have cost on recorded data, and whether the difference between two ways is real."""
