"""Market data formats: each module turns one kind of bytes into the same `BookUpdate`."""

from sor.market.update import BookUpdate, Decoder, Event, Level

__all__ = ["BookUpdate", "Decoder", "Event", "Level"]
