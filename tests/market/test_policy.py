"""The market's rules by date: what the built-in file says, alternatives, a user's own file, and complaints."""

import os
import pickle
from datetime import date, datetime, timezone

import msgspec
import pytest

from sor.errors import InputError
from sor.market.policy import Policy
from sor.market.toml_file import MAX_TIME, MIN_TIME
from sor.market.venues import DatedRules


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=timezone.utc).timestamp()) * 10**9


IN_2024, IN_2026, IN_2027 = at(2024, 8, 1), at(2026, 1, 5, 15), at(2027, 3, 1)
NEW_LOTS = at(2025, 11, 3)
PUT_OFF = at(2026, 11, 1)
LOT = "[[round_lot]]\ntiers = [{ lot = 100 }]\nsure = true\nverified = true\nsource = 'ours'\n"
CAP = "[[access_cap]]\ndollars = 0.002\npart = 0.001\nsure = true\nverified = false\nsource = 'ours'\n"
TICK = "[[tick]]\ntick = 0.05\ntick_below_dollar = 0.001\nsure = true\nverified = true\nsource = 'ours'\n"


@pytest.fixture
def load(tmp_path):
    def load_text(*parts: str, version: str = "schema_version = 1\n") -> Policy:
        path = tmp_path / "my.toml"
        path.write_text(version + "".join(parts), encoding="utf-8")
        return Policy.load(path)

    return load_text


@pytest.fixture
def complaint(load):
    def complaint_about(*parts: str, **options: str) -> str:
        with pytest.raises(InputError) as caught:
            load(*parts, **options)
        assert "my.toml" in str(caught.value)
        return str(caught.value)

    return complaint_about


# The built-in policy


@pytest.mark.parametrize(
    ("price", "lot"),
    [(0.01, 100), (250.0, 100), (250.01, 40), (1000.0, 40), (1000.01, 10), (10000.0, 10), (10000.01, 1), (700_000, 1)],
)
def test_round_lots_by_price(price, lot):
    answer = Policy.load().round_lot(IN_2026, price)
    assert (answer.value, answer.sure, answer.verified) == (lot, True, True)
    assert (answer.start, answer.end) == (NEW_LOTS, MAX_TIME)


def test_round_lots_before_their_definition_are_taken_for_100_and_not_sure():
    policy = Policy.load()
    before, after = policy.round_lot(NEW_LOTS - 1, 300.0), policy.round_lot(NEW_LOTS, 300.0)
    assert (before.value, before.sure, before.verified, before.start, before.end) == (
        100,
        False,
        False,
        MIN_TIME,
        NEW_LOTS,
    )
    assert (after.value, after.sure) == (40, True)


@pytest.mark.parametrize(("price", "cap"), [(100.0, 0.003), (1.0, 0.003), (0.5, 0.0015), (0.1, 0.0003)])
def test_the_access_fee_cap_by_price(price, cap):
    answer = Policy.load().access_cap(IN_2024, price)
    assert answer.value == pytest.approx(cap, rel=1e-12)
    assert answer.sure


def test_the_cap_and_the_ticks_are_not_sure_from_where_the_amendment_was_put_off_to():
    policy = Policy.load()
    for ask in (policy.access_cap, policy.tick):
        before, after = ask(PUT_OFF - 1, 10.0), ask(PUT_OFF, 10.0)
        assert (before.sure, after.sure) == (True, False)
        assert before.value == after.value
        assert before.end == after.start == PUT_OFF


def test_protection_is_not_sure_after_what_was_known():
    policy = Policy.load()
    known, unknown = policy.protected(at(2026, 8, 31)), policy.protected(at(2026, 9, 1))
    assert (known.value, known.sure) == (True, True)
    assert (unknown.value, unknown.sure) == (True, False)
    assert "2026-06-11" in unknown.source


@pytest.mark.parametrize(("price", "tick"), [(0.9999, 0.0001), (1.0, 0.01), (500.0, 0.01)])
def test_ticks(price, tick):
    assert Policy.load().tick(IN_2024, price).value == tick
    assert Policy.load().tick(IN_2024, price, 0.01).value == tick


def test_every_entry_of_the_built_in_file_has_a_source():
    for entries in Policy.load().entries:
        assert all(len(entry.source) > 20 for entry in entries)


# Where the rule is being changed, both states can be chosen


def test_the_amended_cap(load):
    policy = load("[choice]\naccess_cap = 'amended'\n")
    assert policy.access_cap(PUT_OFF - 1, 10.0).value == 0.003
    amended = policy.access_cap(PUT_OFF, 10.0)
    assert (amended.value, amended.sure, amended.start, amended.end) == (0.001, False, PUT_OFF, MAX_TIME)
    assert policy.access_cap(IN_2027, 0.5).value == 0.0005
    assert policy.tick(IN_2027, 10.0, 0.01).value == 0.01, "the other choices stay"
    assert policy.choice == {
        "round_lot": "present",
        "access_cap": "amended",
        "tick": "present",
        "protected": "present",
    }


@pytest.mark.parametrize(("spread", "tick"), [(0.015, 0.005), (0.0151, 0.01), (0.0, 0.005), (None, 0.01)])
def test_the_amended_ticks_go_by_the_spread(load, spread, tick):
    policy = load("[choice]\ntick = 'amended'\n")
    assert policy.tick(IN_2027, 10.0, spread).value == tick
    assert policy.tick(IN_2027, 0.5, spread).value == 0.0001
    assert policy.tick(IN_2024, 10.0, spread).value == 0.01


def test_protection_on_or_off(load):
    off, on = load("[choice]\nprotected = 'off'\n"), load("[choice]\nprotected = 'on'\n")
    assert [off.protected(time).value for time in (MIN_TIME, IN_2024, IN_2027)] == [False] * 3
    assert [on.protected(time).value for time in (MIN_TIME, IN_2024, IN_2027)] == [True] * 3
    assert on.protected(IN_2024).sure
    assert not off.protected(IN_2024).sure


def test_an_unknown_choice(complaint):
    text = complaint("[choice]\naccess_cap = 'amend'\n")
    told = "choice: access_cap is 'amend' (did you mean amended?): it may be present, amended"
    assert text.endswith(told)
    assert "unknown key 'ticks' (did you mean tick?)" in complaint("[choice]\nticks = 'amended'\n")


# A file of the user's own


def test_a_list_of_ones_own_replaces_the_built_in_one_whole(load):
    policy = load(LOT, LOT.replace("[[round_lot]]", "[[round_lot]]\nvalid_from = 2026-01-01").replace("100", "7"))
    assert policy.round_lot(at(2025, 12, 31), 5000.0).value == 100
    assert policy.round_lot(at(2026, 1, 1), 5000.0).value == 7
    assert policy.access_cap(IN_2024, 10.0) == Policy.load().access_cap(IN_2024, 10.0)


def test_entries_may_stand_in_any_order(load):
    later = [LOT.replace("\n", f"\nvalid_from = {year}-01-01\n", 1).replace("100", str(year)) for year in (2027, 2026)]
    policy = load(*later, LOT)
    assert [policy.round_lot(at(year, 6, 1), 1.0).value for year in (2025, 2026, 2027)] == [100, 2026, 2027]


def test_an_alternative_of_ones_own_holds_from_its_day_on_and_has_the_last_word(load):
    later = LOT.replace("\n", "\nvalid_from = 2026-06-01\n", 1).replace("100", "50")
    what_if = LOT.replace("\n", "\nstate = 'what if'\nvalid_from = 2026-03-01\n", 1).replace("100", "1")
    policy = load("[choice]\nround_lot = 'what if'\n", LOT, later, what_if)
    assert [policy.round_lot(at(2026, month, 1), 1.0).value for month in (2, 3, 7)] == [100, 1, 1]
    assert policy.round_lot(at(2026, 2, 1), 1.0).end == at(2026, 3, 1)
    present = load(LOT, later, what_if)
    assert [present.round_lot(at(2026, month, 1), 1.0).value for month in (2, 3, 7)] == [100, 100, 50]


def test_an_own_cap_and_ticks(load):
    policy = load(CAP, TICK)
    assert policy.access_cap(IN_2027, 0.5).value == 0.0005
    assert policy.access_cap(IN_2027, 2).value == 0.002
    assert policy.tick(IN_2027, 2, 0.001).value == 0.05


def test_a_file_may_say_nothing(load, tmp_path):
    load()
    assert Policy.load(os.fspath(tmp_path / "my.toml")).entries == Policy.load().entries


def test_a_policy_goes_to_other_processes():
    assert pickle.loads(pickle.dumps(Policy.load())).entries == Policy.load().entries  # noqa: S301


def test_entries_can_be_told():
    told = msgspec.to_builtins(Policy.load().entries)
    assert told[0][1]["valid_from"] == date(2025, 11, 3).isoformat()


# The lot of a venue


def test_the_lot_of_a_venue():
    policy = Policy.load()
    assert DatedRules().lot_at(policy, IN_2026, 300.0) == 1
    assert DatedRules(lot=25).lot_at(policy, IN_2026, 300.0) == 25
    rounds = DatedRules(lot="round")
    assert [rounds.lot_at(policy, IN_2026, price) for price in (250.0, 300.0, 2000.0, 20000.0)] == [100, 40, 10, 1]
    assert rounds.lot_at(policy, IN_2024, 300.0) == 100


# What is wrong


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), "10", None])
def test_a_wrong_price(price):
    policy = Policy.load()
    for ask in (policy.round_lot, policy.access_cap, policy.tick):
        with pytest.raises(InputError, match="price is "):
            ask(IN_2026, price)


def test_a_wrong_time_and_spread():
    with pytest.raises(InputError, match=r"time is datetime\.date"):
        Policy.load().protected(date(2026, 1, 1))
    with pytest.raises(InputError, match="spread is -1"):
        Policy.load().tick(IN_2026, 10.0, -1)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: the policy file cannot be read: No such file"):
        Policy.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LOT.replace("100", "0"), "round_lot 1, tiers 1: lot is 0: it may be a whole number of shares, 1 or more"),
        (LOT.replace("sure = true", "sure = 1"), "round_lot 1: sure is 1: it may be true or false, without quotes"),
        (LOT.replace("sure = true\n", ""), "round_lot 1: missing sure"),
        (LOT + "state = ' '\n", "state is ' ': it may be text in quotes, not empty"),
        (LOT + "state = 'present'\n", "round_lot 1 (present): state is 'present': it may be another name"),
        (LOT.replace("[{ lot = 100 }]", "[]"), "tiers is []: it may be a list of tables with up_to and lot"),
        (LOT.replace("lot = 100 }", "lot = 100, up_to = 5 }"), "the last of the tiers, and no other, may be without"),
        (
            LOT.replace("{ lot = 100 }", "{ lot = 9, up_to = 7 }, { lot = 8, up_to = 7 }, { lot = 1 }"),
            "up_to of the tiers is [7.0, 7.0]: it may be ascending prices",
        ),
        (LOT + LOT, "round_lot: two entries of 'present' have the same valid_from"),
        (LOT + "valid_from = 2026-01-01\n", "round_lot: an entry without valid_from and without state is missing"),
        (LOT + "state = 'a'\n", "round_lot: an entry without valid_from and without state is missing"),
        (LOT + "valid_from = 1969-12-31\n", "valid_from is 1969-12-31: it may be 1970-01-01 to 2262-01-01"),
        (LOT.replace("[[round_lot]]", "[round_lot]"), "write [[round_lot]] in double brackets"),
        (CAP.replace("0.002", "0.30"), None),
        (CAP.replace("0.002", "3"), "access_cap 1: dollars is 3: it may be a number from 0 to 1, dollars per share"),
        (CAP.replace("part = 0.001", "part = 0.3"), "part is 0.3: it may be a number from 0 to 0.05, a part of the"),
        (TICK.replace("0.05", "0"), "tick 1: tick is 0: it may be a number above 0, up to 1, dollars"),
        (TICK + "narrow_tick = 0.005\n", "narrow_tick and narrow_spread may only be given together"),
        ("[[protected]]\non = 'yes'\nsure = true\nverified = true\nsource = 'x'\n", "on is 'yes': it may be true or"),
        ("[[fees]]\n", "unknown key 'fees'"),
    ],
)
def test_complaints(load, complaint, text, told):
    if told is None:
        load(text)
    else:
        assert told in complaint(text)


def test_another_version(complaint):
    assert complaint(version="schema_version = 2\n").endswith("schema_version is 2: it may be 1")
