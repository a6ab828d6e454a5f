"""Why each venue got what it got: codes for programs, words for people."""

from __future__ import annotations

from sor.routing.result import Reason

# Words that have no number in them.
SAID: dict[str, Reason] = {
    code: Reason(code, words)  # type: ignore[arg-type]
    for code, words in {
        "whole": "all that may be taken here is taken",
        "part": "the order needs no more",
        "rests": "an order rests here for what is not taken at once",
        "penalties": "with these penalties and this grid nothing is to be sent here",
        "planned": "the plan takes no more at once, and rests nothing here",
        "empty": "nothing is displayed on the side that is taken",
        "stale": "its quote is too old, or the feed is halted",
        "excluded": "excluded on request",
        "over_limit": "its best price is worse than the limit",
        "crossed": "its own bid is above its own ask",
        "protected": "better protected quotations elsewhere are taken in full first",
        "unmeasured": "without a mid no shortfall can be measured",
    }.items()
}


def dearer(by: float) -> Reason:
    """Than the dearest share taken, price and fee together: dollars a share, rounded."""
    if by <= 0.0:
        return Reason("dearer", "no cheaper than the dearest share taken")
    more = f"{by:.8f}".rstrip("0").rstrip(".")
    return Reason("dearer", f"{more} a share dearer than the dearest share taken")
