"""`sor info`: what is in recorded feeds, before anything is routed on them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from sor.errors import Exit
from sor.market.feed import Feed
from sor.market.fields import iso_of
from sor.market.profile import LONGEST, Profile
from sor.market.venues import VenueDirectory
from sor.service.feeds import Progress, feed_of
from sor.service.outputs import say
from sor.service.settings import InfoSettings
from sor.stream.summary import total
from sor.types import MARKET_STATES

SHOWN = 10  # symbols in the table; JSON has all
SHOWN_GAPS = 3


def info(settings: InfoSettings) -> int:
    """Read the files once and tell what is in them."""
    directory = VenueDirectory.load(settings.venues)
    feed, profile = feed_of(settings, directory), Profile(directory)
    with Progress(feed) as progress:
        for batch in feed:
            profile.add(batch)
            progress.tell()
    found = facts(feed, profile, directory)
    for line in [json.dumps(found)] if settings.json else table(found):
        say(line)
    return Exit.BAD_MESSAGES if feed.bad and not settings.allow_bad else Exit.DONE


def facts(feed: Feed, profile: Profile, directory: VenueDirectory) -> dict[str, Any]:
    """All that is told, as JSON has it: times of day in ISO 8601, lengths of time in seconds, shares as parts of 1."""
    market = int(profile.states.sum())
    venues: dict[str, Counter[str]] = {}
    for publisher, rows in profile.publishers.items():
        counts = venues.setdefault(directory.venue(publisher).venue_id, Counter())
        counts["rows"] += rows
    for name, times in (("at_bid", profile.at_bid), ("at_ask", profile.at_ask)):
        for publisher, time in times.items():
            venues.setdefault(directory.venue(publisher).venue_id, Counter())[name] += time
    return {
        "files": [{"path": path, "format": feed.formats.get(path)} for path in feed.paths],
        "rows": feed.rows,
        "quotes": profile.quotes,
        "trades": profile.trades if profile.says_events else None,
        "skipped": dict(feed.skipped),
        "bad": dict(feed.bad),
        "first": None if profile.first is None else iso_of(profile.first),
        "last": None if profile.last is None else iso_of(profile.last),
        "backwards": profile.backwards,
        "consolidated": profile.consolidated,
        "gaps": [{"seconds": length / 1e9, "from": iso_of(begin)} for length, begin in profile.gaps],
        "symbols": dict(profile.symbols.most_common()),
        "market_seconds": market / 1e9,
        "market": {state: _share(int(time), market) for state, time in zip(MARKET_STATES, profile.states, strict=True)},
        "venues": {
            name: {
                "rows": counts["rows"],
                "best_bid": _share(counts["at_bid"], market),
                "best_offer": _share(counts["at_ask"], market),
            }
            for name, counts in sorted(venues.items(), key=lambda venue: (-venue[1]["rows"], venue[0]))
        },
    }


def _share(time: int, of: int) -> float | None:
    return time / of if of else None


def table(found: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    formats = Counter(str(file["format"]) for file in found["files"])
    yield _line("files", f"{len(found['files'])} ({', '.join(formats)}): {_names(found['files'])}")
    yield _line("rows", _rows(found))
    trades = found["trades"]
    yield _line("trades", "not told: no row says what has happened" if trades is None else f"{trades:,}")
    if found["first"] is not None:
        yield _line("time", f"{found['first']} to {found['last']}, {found['backwards']:,} rows older than one before")
    yield _line("gaps", _gaps(found["gaps"]))
    yield _line("symbols", _symbols(found["symbols"]))
    if found["consolidated"]:
        yield _line("quotes", "consolidated: the best bid and offer of all venues, and whose they are")
    if found["market_seconds"]:
        states = ", ".join(
            f"{state.replace('_', '-')} {share:.2%}" for state, share in found["market"].items() if share
        )
        yield _line("market", f"{states} of {_duration(found['market_seconds'])}")
    yield ""
    yield f"{'venue':<16}{'rows':>14}{'at best bid':>14}{'at best offer':>16}"
    for name, venue in found["venues"].items():
        bid, offer = ("-" if venue[side] is None else f"{venue[side]:.1%}" for side in ("best_bid", "best_offer"))
        yield f"{name:<16}{venue['rows']:>14,}{bid:>14}{offer:>16}"


def _line(name: str, text: str) -> str:
    return f"{name:<9}{text}"


def _names(files: list[dict[str, Any]]) -> str:
    names = [os.path.basename(file["path"]) for file in files]
    return ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]}"


def _rows(found: dict[str, Any]) -> str:
    others = found["rows"] - found["quotes"] - sum(found["skipped"].values()) - sum(found["bad"].values())
    parts = [f"{found['quotes']:,} quotes"]
    parts += [f"{others:,} that show nothing"] if others else []
    parts += [f"skipped {total(Counter(found['skipped']))}"] if found["skipped"] else []
    parts += [f"bad {total(Counter(found['bad']))}"]
    return f"{found['rows']:,} = {' + '.join(parts)}"


def _gaps(gaps: list[dict[str, Any]]) -> str:
    if not gaps:
        return f"none longer than {_duration(LONGEST / 1e9)}"
    longest = ", ".join(f"{_duration(gap['seconds'])} from {gap['from']}" for gap in gaps[:SHOWN_GAPS])
    return f"{len(gaps):,} longer than {_duration(LONGEST / 1e9)}, the longest {longest}"


def _symbols(symbols: dict[str, int]) -> str:
    most = ", ".join(f"{name} {count:,}" for name, count in list(symbols.items())[:SHOWN])
    more = ", ..." if len(symbols) > SHOWN else ""
    return f"{len(symbols):,}: {most}{more}" if symbols else "none"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = (
        [f"{hours} h"] * bool(hours)
        + [f"{minutes} min"] * bool(minutes)
        + [f"{seconds:.0f} s"] * (not hours and not (minutes and seconds < 0.5))
    )
    return " ".join(parts)
