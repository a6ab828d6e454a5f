"""The mathematics: splits of a snapshot, limit and market orders, learning; no market here."""
