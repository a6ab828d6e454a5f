"""The venue directory: signs, times, what is not listed, a user's own file, and every complaint about one."""

import json
import logging
import os
from datetime import date, datetime, timezone
from pathlib import Path

import msgspec
import pytest

from sor.errors import InputError
from sor.market.venues import MAX_TIME, MIN_TIME, NO_RULES, DatedRules, Figure, SubDollar, VenueDirectory, VenueEntry


def nanoseconds(*when: int) -> int:
    """UTC nanoseconds since the epoch of year, month, day, ..., by another way than the module's."""
    return int(datetime(*when, tzinfo=timezone.utc).timestamp()) * 10**9


IN_2024 = nanoseconds(2024, 6, 3, 14, 30)
IN_2025 = nanoseconds(2025, 6, 3, 14, 30)

GOOD_FIGURE = {
    "valid_from": "2024-01-01",
    "taker_fee": "0.0030",
    "maker_rebate": "0.0029",
    "taker_fee_verified": "true",
    "maker_rebate_verified": "true",
    "source": '"our contract"',
}
GOOD_VENUE = {"mic": '"XNAS"', "name": '"Nasdaq"', "model": '"maker-taker"', "publisher_ids": "[2, 46]"}


def lines(pairs: dict[str, str], changes: dict[str, str | None]) -> str:
    merged = {**pairs, **changes}
    return "".join(f"{key} = {value}\n" for key, value in merged.items() if value is not None)


def figure_text(**changes: str | None) -> str:
    return "[[venue.figures]]\n" + lines(GOOD_FIGURE, changes)


def venue_text(*figures: str, **changes: str | None) -> str:
    return "[[venue]]\n" + lines(GOOD_VENUE, changes) + "".join(figures or [figure_text()])


@pytest.fixture
def directory() -> VenueDirectory:
    return VenueDirectory.load()


@pytest.fixture
def load(tmp_path):
    """Load the built-in directory with a file of the given text over it."""

    def load_text(*parts: str, version: str = "schema_version = 1\n") -> VenueDirectory:
        path = tmp_path / "my.toml"
        path.write_text(version + "".join(parts), encoding="utf-8")
        return VenueDirectory.load(path)

    return load_text


@pytest.fixture
def complaint(load):
    """Return the text of the InputError that a file of the given text raises."""

    def complaint_about(*parts: str, **options: str) -> str:
        with pytest.raises(InputError) as caught:
            load(*parts, **options)
        text = str(caught.value)
        assert "my.toml" in text
        return text

    return complaint_about


def rates(entry: VenueEntry | None, time_ns: int) -> tuple[float, float]:
    assert entry is not None
    figure = entry.figure_at(time_ns)
    return figure.taker_fee, figure.maker_rebate


# The built-in directory


def test_maker_taker_venue_has_two_positive_figures(directory):
    assert rates(directory.by_mic("XNAS"), IN_2024) == (0.0030, 0.0015)


@pytest.mark.parametrize(
    ("mic", "expected"),
    [
        ("EDGA", (-0.0016, -0.0030)),
        ("BATY", (-0.0002, -0.0020)),
        ("XCIS", (-0.0005, -0.0029)),
        ("XBOS", (-0.0005, -0.0030)),
    ],
)
def test_inverted_venue_pays_the_taker_and_charges_the_maker(directory, mic, expected):
    assert rates(directory.by_mic(mic), IN_2024) == expected


def test_no_other_venue_is_inverted(directory):
    inverted = {entry.venue_id for entry in directory if entry.figure_at(IN_2025).taker_fee < 0}
    assert inverted == {"BATY", "XCIS", "XBOS"}


def test_edga_changes_its_model_to_the_nanosecond(directory):
    entry = directory.by_mic("EDGA")
    change = nanoseconds(2024, 11, 1)
    assert rates(entry, change - 1) == (-0.0016, -0.0030)
    assert rates(entry, change) == (0.0030, 0.0027)
    before, after = entry.figure_at(change - 1), entry.figure_at(change)
    assert (before.start, before.end) == (nanoseconds(2024, 1, 1), change)
    assert (after.start, after.end) == (change, 2**63 - 1)
    assert after.valid_from == date(2024, 11, 1)


def test_pearl_lowers_its_fee_in_september_2024(directory):
    entry = directory.by_mic("EPRL")
    change = nanoseconds(2024, 9, 1)
    assert [entry.figure_at(t).taker_fee for t in (change - 1, change)] == [0.00295, 0.00285]
    assert [entry.figure_at(t).taker_fee_verified for t in (change - 1, change)] == [False, True]
    assert {figure.maker_rebate for figure in entry.figures} == {0.0018}


def test_no_venue_pays_out_more_than_it_takes(directory):
    for entry in directory:
        for figure in entry.figures:
            assert figure.taker_fee >= figure.maker_rebate, entry.venue_id
            assert abs(figure.taker_fee) <= 0.0030, entry.venue_id


def test_every_entry_is_complete(directory):
    assert len(directory) == len(list(directory)) == 16
    for entry in directory:
        assert entry.known
        assert entry.publisher_ids
        assert entry.figures[0].valid_from == date(2024, 1, 1)
        assert directory.by_mic(entry.venue_id) is entry
        for publisher_id in entry.publisher_ids:
            assert directory.venue(publisher_id) is entry


@pytest.mark.parametrize(
    ("publisher_id", "mic"),
    [
        *[(2, "XNAS"), (46, "XNAS"), (81, "XNAS"), (9, "XNYS"), (44, "XNYS"), (92, "XNYS"), (10, "XCIS")],
        *[(13, "XCIS"), (91, "XCIS"), (43, "ARCX"), (38, "IEXG"), (41, "IEXG"), (80, "LTSE"), (120, "LTSE")],
    ],
)
def test_several_feeds_of_a_venue_are_that_venue(directory, publisher_id, mic):
    assert directory.venue(publisher_id).venue_id == mic


@pytest.mark.parametrize("publisher_id", [14, 45, 47, 59, 60, 86, 87, 88, 89, 90, 93, 94, 95, 96, 134, 135])
def test_trades_alone_and_consolidated_quotes_are_no_venue(directory, publisher_id):
    assert not directory.venue(publisher_id).known


def test_iteration_begins_as_the_file_does(directory):
    assert [entry.venue_id for entry in directory][:3] == ["XNAS", "XNYS", "ARCX"]


# The reference list that the directory was made from


@pytest.fixture(scope="module")
def reference(shared: Path) -> list[dict]:
    return json.loads((shared / "reference" / "us_equity_venues.json").read_text(encoding="utf-8"))["venues"]


def test_reference_lists_the_same_venues_and_publishers(directory, reference):
    assert [venue["mic"] for venue in reference] == [entry.venue_id for entry in directory]
    for venue in reference:
        entry = directory.by_mic(venue["mic"])
        assert entry.publisher_ids[0] == venue["publisher_id"]
        assert (entry.name, entry.model) == (venue["name"], venue["model"])


def test_reference_has_the_same_rates_and_marks(directory, reference):
    for venue in reference:
        # EPRL's first figure precedes the one of the list, which says so itself.
        entry = directory.by_mic(venue["mic"])
        figure = entry.figures[1 if venue["mic"] == "EPRL" else 0]
        assert (figure.taker_fee, -figure.maker_rebate) == (venue["take"], venue["make"]), venue["mic"]
        marks = (figure.taker_fee_verified, figure.maker_rebate_verified)
        assert marks == (venue["take_verified"], venue["make_verified"]), venue["mic"]


def test_reference_has_no_further_figures(directory, reference):
    several = {entry.venue_id: entry.figures for entry in directory if len(entry.figures) > 1}
    assert several.keys() == {"EDGA", "EPRL"}
    (edga,) = (venue["after_2024_11"] for venue in reference if venue["mic"] == "EDGA")
    after = several["EDGA"][1]
    assert (after.taker_fee, -after.maker_rebate) == (edga["take"], edga["make"])
    assert not after.taker_fee_verified  # the list puts no mark on these two
    assert not after.maker_rebate_verified
    early = several["EPRL"][0]
    assert (early.taker_fee, early.taker_fee_verified) == (0.00295, False)


# Times


def test_before_the_first_figure_the_first_is_used_and_said_once(directory, caplog):
    entry = directory.by_mic("XNAS")
    time_ns = nanoseconds(2013, 10, 7, 13, 30)
    figure = entry.figure_at(time_ns)
    assert (figure.taker_fee, figure.maker_rebate) == (0.0030, 0.0015)
    assert figure.start <= time_ns < figure.end == nanoseconds(2024, 1, 1)
    assert entry.figure_at(time_ns + 1) is figure
    assert entry.figure_at(0) is figure
    assert caplog.messages == ["venue XNAS: no fee is known before 2024-01-01; using the earliest one for 2013-10-07"]
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].name == "sor.market.venues"


def test_first_figure_begins_to_the_nanosecond(directory, caplog):
    entry = directory.by_mic("XNAS")
    start = nanoseconds(2024, 1, 1)
    assert entry.figure_at(start) is entry.figures[0]
    assert caplog.messages == []
    early = entry.figure_at(start - 1)
    assert early is not entry.figures[0]
    assert (early.start, early.end) == (MIN_TIME, start)
    assert caplog.messages[0].endswith("for 2023-12-31")


def test_each_venue_and_each_directory_warns_for_itself(directory, caplog):
    for entry in (directory.by_mic("XNAS"), directory.by_mic("XNYS"), VenueDirectory.load().by_mic("XNAS")):
        entry.figure_at(0)
        entry.figure_at(1)
    assert [message.split(":")[0] for message in caplog.messages] == [
        "venue XNAS",
        "venue XNYS",
        "venue XNAS",
    ]


@pytest.mark.parametrize("time_ns", [MIN_TIME, -(2**200)])
def test_time_beyond_the_calendar_is_no_error(directory, caplog, time_ns):
    assert directory.by_mic("XNAS").figure_at(time_ns).taker_fee == 0.0030
    assert len(caplog.messages) == 1


def test_last_figure_has_no_end(directory):
    entry = directory.by_mic("EDGA")
    assert entry.figure_at(MAX_TIME) is entry.figure_at(2**64 - 1) is entry.figures[-1]


def test_warning_leaves_the_entry_as_it_was(directory):
    entry, other = directory.by_mic("XNAS"), VenueDirectory.load().by_mic("XNAS")
    entry.figure_at(0)
    assert entry == other
    assert hash(entry) == hash(other)
    assert msgspec.json.encode(entry) == msgspec.json.encode(other)


def test_entries_and_figures_cannot_be_changed(directory):
    entry = directory.by_mic("XNAS")
    with pytest.raises(AttributeError):
        entry.known = False
    with pytest.raises(AttributeError):
        entry.figures[0].taker_fee = 0.0


# Publishers that are not listed


def test_unlisted_publisher_gets_the_default_and_is_said_once(directory, caplog):
    entry = directory.venue(9001)
    assert (entry.venue_id, entry.publisher_ids, entry.known) == ("publisher_9001", (9001,), False)
    assert rates(entry, IN_2024) == rates(entry, 0) == (0.0030, 0.0)
    assert not entry.figure_at(0).taker_fee_verified
    assert directory.venue(9001) is entry
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    for part in ("9001", "publisher_9001", "0.003", "maker rebate of 0 $", "--venues"):
        assert part in caplog.messages[0]


def test_each_unlisted_publisher_is_said(directory, caplog):
    assert directory.venue(9001) is not directory.venue(9002)
    assert len(caplog.records) == 2


def test_unlisted_publishers_are_not_among_the_listed(directory):
    directory.venue(9001)
    directory.level_venue(0)
    assert len(directory) == len(list(directory)) == 16
    assert directory.by_mic("publisher_9001") is None


def test_listed_publisher_is_not_worth_a_warning(directory, caplog):
    directory.venue(2).figure_at(IN_2024)
    assert caplog.messages == []


# Levels of one book shown as venues


def test_level_venues_take_the_rates_in_turn(directory, caplog):
    levels = [directory.level_venue(level) for level in range(4)]
    assert [entry.venue_id for entry in levels] == ["venue_0", "venue_1", "venue_2", "venue_3"]
    expected = [(0.003, 0.001), (0.002, 0.0015), (0.0025, 0.001), (0.003, 0.001)]
    assert [rates(entry, 0) for entry in levels] == expected
    assert all(entry.known for entry in levels)
    assert directory.level_venue(3) is levels[3]
    assert caplog.messages == []


def test_negative_level_is_refused(directory):
    with pytest.raises(InputError, match="level is -1: it may be 0 or more"):
        directory.level_venue(-1)


# Ids that a user names


def test_check_ids_passes_what_can_be_a_venue(directory):
    assert directory.check_ids([]) == ()
    given = ["XNAS", "publisher_9001", "venue_3", "XNAS", "venue_0"]
    assert directory.check_ids(given) == ("XNAS", "publisher_9001", "venue_3", "venue_0")


@pytest.mark.parametrize(
    ("venue_id", "guess"),
    [
        ("XNSA", "XNAS"),
        ("xnas", "XNAS"),
        ("EDGZ", "EDG"),
        ("publisher9001", "publisher_N"),
        ("venue-3", "venue_N"),
    ],
)
def test_check_ids_proposes_the_nearest(directory, venue_id, guess):
    with pytest.raises(InputError) as caught:
        directory.check_ids(["XNAS", venue_id])
    told, _, rest = str(caught.value).partition("?): ")
    assert told.startswith(f"venue id {venue_id!r} is not known (did you mean ")
    assert guess in told
    assert rest.startswith("it may be one of XNAS, XNYS")


@pytest.mark.parametrize("venue_id", ["", "?", "venue_", "venue_03", "publisher_-1", "publisher_²", "venue_1\n"])
def test_check_ids_refuses_the_rest(directory, venue_id):
    with pytest.raises(InputError, match="it may be one of XNAS, XNYS"):
        directory.check_ids([venue_id])


def test_check_ids_refuses_the_number_of_a_listed_publisher(directory):
    with pytest.raises(InputError, match="'publisher_46' is not in use: publisher 46 is XNAS"):
        directory.check_ids(["publisher_46"])


def test_check_ids_knows_the_users_own_venue(load):
    directory = load(venue_text(mic='"MINE"', publisher_ids="[9001]"))
    assert directory.check_ids(["MINE"]) == ("MINE",)


# A file of the user's own


def test_own_entry_replaces_the_built_in_one_whole(load, directory):
    merged = load(venue_text(publisher_ids="[2]"))
    assert rates(merged.by_mic("XNAS"), IN_2024) == (0.0030, 0.0029)
    assert merged.by_mic("XNAS").figures[0].source == "our contract"
    assert merged.venue(2).venue_id == "XNAS"
    assert not merged.venue(46).known  # the built-in entry had it, the new one has not
    assert [entry.venue_id for entry in merged] == [entry.venue_id for entry in directory]
    others = zip(merged, directory, strict=True)
    assert all(new == old for new, old in others if new.venue_id != "XNAS")
    assert merged.default == directory.default


def test_own_venue_is_added_at_the_end(load, directory):
    merged = load(venue_text(mic='"MINE"', publisher_ids="[9001, 9002]"))
    assert [entry.venue_id for entry in merged] == [entry.venue_id for entry in directory] + ["MINE"]
    assert merged.venue(9002) is merged.by_mic("MINE")
    assert merged.venue(2).venue_id == "XNAS"


def test_own_default_replaces_the_default(load, caplog):
    merged = load("[default]\ntaker_fee = 0.001\nmaker_rebate = -0.0002\n")
    assert rates(merged.venue(9001), IN_2024) == (0.001, -0.0002)
    assert "taker fee of 0.001 and maker rebate of -0.0002 $" in caplog.messages[0]
    assert len(merged) == 16


def test_own_file_may_say_nothing(load, directory):
    assert list(load()) == list(directory)


def test_figures_are_sorted_and_chained(load):
    days = ["2025-01-01", "2023-01-01", "2024-01-01"]
    merged = load(venue_text(*(figure_text(valid_from=day) for day in days)))
    figures = merged.by_mic("XNAS").figures
    assert [str(figure.valid_from) for figure in figures] == sorted(days)
    starts = [nanoseconds(year, 1, 1) for year in (2023, 2024, 2025)]
    assert [figure.start for figure in figures] == starts
    assert [figure.end for figure in figures] == [*starts[1:], MAX_TIME]


def test_whole_dollars_and_first_and_last_days_are_taken(load):
    figures = [figure_text(valid_from=day, taker_fee=fee) for day, fee in [("1970-01-01", "1"), ("2262-01-01", "-1")]]
    first, last = load(venue_text(*figures)).by_mic("XNAS").figures
    assert (first.start, first.taker_fee, last.taker_fee) == (0, 1.0, -1.0)
    assert isinstance(first.taker_fee, float)
    assert last.start < MAX_TIME


def test_path_may_be_text_and_the_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("schema_version = 1\n" + venue_text(), encoding="utf-8-sig")
    assert rates(VenueDirectory.load(os.fspath(path)).by_mic("XNAS"), IN_2024) == (0.0030, 0.0029)


# Below a dollar

SUB_DOLLAR = {
    "taker_fee": "0.003",
    "maker_rebate": "-0.001",
    "taker_fee_verified": "true",
    "maker_rebate_verified": "false",
    "source": '"our contract"',
}


def sub_dollar_text(**changes: str | None) -> str:
    return figure_text() + "\n[venue.figures.sub_dollar]\n" + lines(SUB_DOLLAR, changes)


def test_rates_below_a_dollar_are_parts_of_the_price(load):
    (figure,) = load(venue_text(sub_dollar_text())).by_mic("XNAS").figures
    assert figure.sub_dollar == SubDollar(0.003, -0.001, True, False, "our contract")
    assert figure.taker_fee == 0.0030


def test_where_nobody_stated_them_there_are_none(load, directory):
    (figure,) = load(venue_text()).by_mic("XNAS").figures
    assert figure.sub_dollar is directory.default.sub_dollar is directory.level_venue(0).figures[0].sub_dollar is None


def test_the_built_in_rates_below_a_dollar_are_within_the_cap(directory):
    """Reg NMS 610(c): 0.3 % of the price; and each says where it was read."""
    stated = {entry.venue_id: figure.sub_dollar for entry in directory for figure in entry.figures if figure.sub_dollar}
    assert set(stated) == {"XNAS", "BATS", "EDGX", "IEXG", "MEMX", "XCIS", "XBOS"}
    assert all(0.0 <= rates.taker_fee <= 0.003 and abs(rates.maker_rebate) <= 0.003 for rates in stated.values())
    assert all(rates.taker_fee_verified and len(rates.source) > 20 for rates in stated.values())


@pytest.mark.parametrize("value", ["0.30", "30", "-0.0501", "nan", "true"])
def test_a_wrong_part_of_the_price(complaint, value):
    text = complaint(venue_text(sub_dollar_text(taker_fee=value)))
    may_be = "it may be a number from -0.05 to 0.05, a part of the price; is it in percent?"
    assert "venue 1 (XNAS), figures 1, sub_dollar: taker_fee is " in text
    assert text.endswith(may_be)


def test_a_missing_and_an_unknown_key_below_a_dollar(complaint):
    where = "venue 1 (XNAS), figures 1, sub_dollar: "
    assert complaint(venue_text(sub_dollar_text(source=None))).endswith(where + "missing source")
    assert where + "unknown key 'taker_fees' (did you mean taker_fee?)" in complaint(
        venue_text(sub_dollar_text(taker_fees="1"))
    )


# Figures for all prices, and in basis points


def test_a_figure_holds_from_a_dollar_up_unless_it_says_otherwise(load, directory):
    assert {figure.from_price for entry in directory for figure in entry.figures} == {1.0}
    assert {figure.fee_bps for entry in directory for figure in entry.figures} == {0.0}
    (figure,) = load(venue_text(figure_text(from_price="0", fee_bps="1.5", rebate_bps="-0.5"))).by_mic("XNAS").figures
    assert (figure.from_price, figure.fee_bps, figure.rebate_bps) == (0.0, 1.5, -0.5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"from_price": "5"}, "figures 1: from_price is 5: it may be 1, or 0 for all prices"),
        ({"from_price": '"1"'}, "from_price is '1': it may be 1, or 0 for a figure that holds at all prices"),
        ({"fee_bps": "501"}, "fee_bps is 501: it may be a number from -500 to 500, basis points of the price"),
        ({"rebate_bps": "nan"}, "rebate_bps is nan: it may be a number from -500 to 500"),
    ],
)
def test_wrong_ranges_and_basis_points(complaint, changes, told):
    assert told in complaint(venue_text(figure_text(**changes)))


def test_a_figure_for_all_prices_has_nothing_below_a_dollar(complaint):
    text = complaint(venue_text(sub_dollar_text().replace("source", "from_price = 0\nsource", 1)))
    assert "venue 1 (XNAS), figures 1: from_price is 0: there may be no sub_dollar then" in text


# What a venue takes

RULES = {"valid_from": "2024-01-01", "verified": "true", "source": '"our contract"'}


def rules_text(**changes: str | None) -> str:
    return "[[venue.rules]]\n" + lines(RULES, changes)


def test_no_built_in_venue_has_rules(directory):
    assert {entry.rules for entry in directory} == {()}
    assert directory.by_mic("XNAS").rules_at(IN_2024) is directory.venue(9001).rules_at(0) is NO_RULES
    assert directory.level_venue(0).rules_at(0) is NO_RULES
    told = (NO_RULES.lot, NO_RULES.min_quantity, NO_RULES.min_notional, NO_RULES.min_execution, NO_RULES.max_quantity)
    assert told == (1, 0, 0.0, 0, None)
    assert (NO_RULES.ticket, NO_RULES.tick, NO_RULES.start, NO_RULES.end) == (0.0, None, MIN_TIME, MAX_TIME)


def test_rules_of_ones_own_by_date(load, caplog):
    every = {
        "lot": "100",
        "min_quantity": "200",
        "min_notional": "500.5",
        "min_execution": "300",
        "max_quantity": "5000",
        "ticket": "0.5",
        "tick": "0.05",
    }
    later = rules_text(valid_from="2025-01-01", lot='"round"')
    entry = load(venue_text(figure_text(), later, rules_text(**every))).by_mic("XNAS")
    change = nanoseconds(2025, 1, 1)
    first, second = entry.rules_at(change - 1), entry.rules_at(change)
    assert first == DatedRules(
        *(100, 200, 500.5, 300, 5000, 0.5, 0.05),
        nanoseconds(2024, 1, 1),
        change,
        True,
        "our contract",
        date(2024, 1, 1),
    )
    assert (second.lot, second.ticket, second.max_quantity) == ("round", 0.0, None)
    assert (second.start, second.end) == (change, MAX_TIME)
    assert not caplog.messages
    early = entry.rules_at(0)
    assert (early.lot, early.start, early.end) == (100, MIN_TIME, nanoseconds(2024, 1, 1))
    assert entry.rules_at(1) is early
    assert caplog.messages == ["venue XNAS: no rule is known before 2024-01-01; using the earliest one for 1970-01-01"]


def test_rules_cannot_be_changed():
    with pytest.raises(AttributeError):
        NO_RULES.lot = 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lot": "0"}, 'lot is 0: it may be a whole number of shares, 1 or more, or "round" for the round lot'),
        ({"lot": '"even"'}, "lot is 'even': it may be a whole number of shares"),
        ({"lot": "1.5"}, "lot is 1.5: it may be a whole number of shares"),
        ({"min_quantity": "-1"}, "min_quantity is -1: it may be a whole number of shares, 0 or more"),
        ({"min_execution": "2.5"}, "min_execution is 2.5: it may be a whole number of shares, 0 or more"),
        ({"min_notional": "inf"}, "min_notional is inf: it may be a number of dollars, 0 or more"),
        ({"max_quantity": "0"}, "max_quantity is 0: it may be a whole number of shares, 1 or more"),
        ({"ticket": "-0.5"}, "ticket is -0.5: it may be a number of dollars, 0 or more"),
        ({"tick": "0"}, "tick is 0: it may be a number above 0, dollars"),
        ({"lot": "100", "max_quantity": "99"}, "max_quantity is 99: it may be 100 or more, by the other rules"),
        ({"min_execution": "7", "max_quantity": "6"}, "max_quantity is 6: it may be 7 or more, by the other rules"),
        ({"source": None}, "missing source"),
        ({"lots": "1"}, "unknown key 'lots' (did you mean lot?)"),
        ({"valid_from": "1969-12-31"}, "valid_from is 1969-12-31: it may be 1970-01-01 to 2262-01-01"),
    ],
)
def test_wrong_rules(complaint, changes, told):
    text = complaint(venue_text(figure_text(), rules_text(**changes)))
    assert "venue 1 (XNAS), rules 1: " in text
    assert told in text


def test_two_rules_of_one_day_and_single_brackets(complaint):
    text = complaint(venue_text(figure_text(), rules_text(), rules_text()))
    assert "venue 1 (XNAS): valid_from is 2024-01-01 in two rules" in text
    single = rules_text().replace("[[venue.rules]]", "[venue.rules]")
    assert "write [[venue.rules]] in double brackets" in complaint(venue_text(figure_text(), single))


# What is wrong with a file


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: the venue file cannot be read: No such file"):
        VenueDirectory.load(tmp_path / "none.toml")


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        VenueDirectory.load(tmp_path)


def test_bad_toml_is_told_with_its_line(complaint):
    assert "not valid TOML: " in (text := complaint("[default]\ntaker_fee = = 3\n"))
    assert "line 3" in text


def test_text_that_is_not_utf_8(tmp_path):
    path = tmp_path / "my.toml"
    path.write_bytes(b"schema_version = 1\n# caf\xe9\n")
    with pytest.raises(InputError, match=r"my\.toml: not UTF-8 text"):
        VenueDirectory.load(path)


@pytest.mark.parametrize("version", ["2", "0", '"1"', "1.0", "true"])
def test_other_schema_version(complaint, version):
    text = complaint("future = true\n", version=f"schema_version = {version}\n")
    assert "schema_version is " in text
    assert text.endswith("it may be 1")


def test_no_schema_version(complaint):
    assert complaint(venue_text(), version="").endswith("my.toml: missing schema_version")


def test_unknown_key_at_the_top(complaint):
    assert "unknown key 'venues' (did you mean venue?): it may be schema_version, default, venue" in complaint(
        "[[venues]]\n"
    )


def test_unknown_key_of_a_venue(complaint):
    text = complaint(venue_text(publisher_id="2"))
    assert "venue 1 (XNAS): unknown key 'publisher_id' (did you mean publisher_ids?)" in text


def test_unknown_key_of_a_figure(complaint):
    text = complaint(venue_text(figure_text(taker_fees="0.003")))
    assert "venue 1 (XNAS), figures 1: unknown key 'taker_fees' (did you mean taker_fee?)" in text


def test_unknown_key_that_is_near_to_none(complaint):
    text = complaint("[default]\ntaker_fee = 0.001\nmaker_rebate = 0.0\nzzz = 1\n")
    assert "[default]: unknown key 'zzz': it may be taker_fee, maker_rebate" in text


@pytest.mark.parametrize("key", GOOD_VENUE)
def test_missing_key_of_a_venue(complaint, key):
    text = complaint(venue_text(), venue_text(**{"mic": '"MINE"', "publisher_ids": "[9001]", key: None}))
    where = "venue 2" if key == "mic" else "venue 2 (MINE)"
    assert text.endswith(f"my.toml: {where}: missing {key}")


@pytest.mark.parametrize("key", GOOD_FIGURE)
def test_missing_key_of_a_figure(complaint, key):
    text = complaint(venue_text(figure_text(), figure_text(**{key: None})))
    assert text.endswith(f"my.toml: venue 1 (XNAS), figures 2: missing {key}")


def test_missing_key_of_the_default(complaint):
    assert complaint("[default]\ntaker_fee = 0.001\n").endswith("my.toml: [default]: missing maker_rebate")


@pytest.mark.parametrize(
    ("key", "value", "may_be"),
    [
        ("mic", "5", "text in quotes"),
        ("name", '" "', "text in quotes, not empty"),
        ("model", "true", "text in quotes"),
        ("publisher_ids", "2", "a list of whole numbers"),
        ("publisher_ids", '["2"]', "a list of whole numbers"),
        ("publisher_ids", "[true]", "a list of whole numbers"),
        ("publisher_ids", "[2.0]", "a list of whole numbers"),
        ("publisher_ids", "[-1]", "a list of whole numbers, 0 or more"),
        ("publisher_ids", "[2, 46, 2]", "a list that names each id once"),
        ("mic", '"xnas"', "text in quotes, 4 upper-case letters or digits"),
        ("mic", '"NASDAQ"', "text in quotes, 4 upper-case letters or digits"),
        ("mic", '"XNÄS"', "text in quotes, 4 upper-case letters or digits"),
        ("mic", '"XNA²"', "text in quotes, 4 upper-case letters or digits"),
    ],
)
def test_wrong_value_of_a_venue(complaint, key, value, may_be):
    text = complaint(venue_text(**{key: value}))
    assert f"{key} is " in text
    assert f"it may be {may_be}" in text
    assert "venue 1" in text


@pytest.mark.parametrize("key", ["taker_fee", "maker_rebate"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("true", "True"),
        ('"0.003"', "'0.003'"),
        ("[0.003]", "[0.003]"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("-inf", "-inf"),
        ("30", "30"),
        ("-1.0001", "-1.0001"),
        ("1" + "0" * 400, "1" + "0" * 400),
    ],
)
def test_wrong_number(complaint, key, value, shown):
    text = complaint(venue_text(figure_text(**{key: value})))
    may_be = "a number from -1 to 1, dollars per share; is it in cents or basis points?"
    assert text.endswith(f"venue 1 (XNAS), figures 1: {key} is {shown}: it may be {may_be}")


def test_wrong_number_in_the_default(complaint):
    text = complaint("[default]\ntaker_fee = 30\nmaker_rebate = 0\n")
    assert "[default]: taker_fee is 30: it may be a number from -1 to 1, dollars per share" in text


@pytest.mark.parametrize("key", ["taker_fee_verified", "maker_rebate_verified"])
@pytest.mark.parametrize("value", ["1", '"true"'])
def test_wrong_mark(complaint, key, value):
    assert "it may be true or false, without quotes" in complaint(venue_text(figure_text(**{key: value})))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"2024-01-01"', "'2024-01-01'"),
        ("2024", "2024"),
        ("2024-01-01T00:00:00Z", "2024-01-01 00:00:00+00:00"),
        ("2024-01-01T00:00:00", "2024-01-01 00:00:00"),
    ],
)
def test_valid_from_that_is_no_day(complaint, value, shown):
    text = complaint(venue_text(figure_text(valid_from=value)))
    assert f"valid_from is {shown}: it may be a day without quotes, such as 2024-01-01" in text


@pytest.mark.parametrize("value", ["1969-12-31", "2262-01-02", "9999-12-31"])
def test_valid_from_beyond_64_bits(complaint, value):
    text = complaint(venue_text(figure_text(valid_from=value)))
    assert f"valid_from is {value}: it may be 1970-01-01 to 2262-01-01" in text


def test_empty_source(complaint):
    assert "source is '': it may be text in quotes, not empty" in complaint(venue_text(figure_text(source='""')))


def test_no_figures(complaint):
    assert (
        "venue 1 (XNAS): figures is []: it may be one or more: write [[venue.figures]] in double brackets"
        in complaint("[[venue]]\n" + lines(GOOD_VENUE, {"figures": "[]"}))
    )
    assert "venue 1 (XNAS): missing figures" in complaint("[[venue]]\n" + lines(GOOD_VENUE, {}))


def test_two_figures_of_one_day(complaint):
    text = complaint(venue_text(figure_text(), figure_text(valid_from="2025-01-01"), figure_text()))
    assert "venue 1 (XNAS): valid_from is 2024-01-01 in two figures" in text


def test_single_brackets(complaint):
    assert "write [[venue]] in double brackets" in complaint(venue_text().replace("[[venue]]", "[venue]"))
    text = complaint(venue_text().replace("[[venue.figures]]", "[venue.figures]"))
    assert "write [[venue.figures]] in double brackets" in text


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("venue = [1]\n", "venue 1 is 1"),
        ("default = 0.003\n", "[default] is 0.003"),
        ("[[venue]]\n" + lines(GOOD_VENUE, {"figures": "[0.003]"}), "venue 1 (XNAS), figures 1 is 0.003"),
    ],
)
def test_value_in_place_of_a_table(complaint, content, where):
    assert f"{where}: it may be a table with the keys " in complaint(content)


def test_same_mic_twice_in_a_file(complaint):
    text = complaint(venue_text(), venue_text(publisher_ids="[9001]"))
    assert "mic XNAS stands in two entries" in text


def test_same_publisher_in_two_venues_of_a_file(complaint):
    text = complaint(venue_text(), venue_text(mic='"MINE"', publisher_ids="[9001, 46]"))
    assert "publisher id 46 is in publisher_ids of both XNAS and MINE" in text


def test_publisher_of_a_built_in_venue(complaint):
    text = complaint(venue_text(mic='"MINE"', publisher_ids="[46]"))
    assert "merged with the built-in directory: publisher id 46 is in publisher_ids of both XNAS and MINE" in text
    assert "an entry for either venue in this file, without the id, settles it" in text


def test_publisher_moved_between_venues(load):
    directory = load(venue_text(publisher_ids="[2]"), venue_text(mic='"MINE"', publisher_ids="[46]"))
    assert (directory.venue(2).venue_id, directory.venue(46).venue_id) == ("XNAS", "MINE")


def test_directory_made_by_hand_is_checked_too():
    figure = Figure(0.003, 0.0, MIN_TIME, MAX_TIME, False, False, "test", date.min)
    entries = [VenueEntry(mic, mic, "test", (7,), (figure,), known=True) for mic in ("AAAA", "BBBB")]
    assert VenueDirectory(entries[:1], figure).venue(7) is entries[0]
    with pytest.raises(InputError, match="publisher id 7 is in publisher_ids of both AAAA and BBBB"):
        VenueDirectory(entries, figure)
