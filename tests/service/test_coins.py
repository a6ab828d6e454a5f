"""Coins from a file to a result: every command that reads them, and shares beside them as ever."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from kafka_broker import Servers
from topics import Names, results_in

import sor
from sor import Instruments, Order, Router, cli, read_feed, route_many
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.venues import VenueDirectory
from sor.service import check, produce
from sor.service.settings import load

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "sor" / "routing" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

INSTRUMENTS = """schema_version = 1
[[instrument]]
symbol = "BTC-EUR"
lot = 0.0001
round_lot = 0.01
currency = "EUR"
[[instrument]]
symbol = "ETH-USD"
lot = 1e-8
"""
HEADER = "time,venue,symbol,bid,ask,bid_size,ask_size"
ROWS = """2024-08-01T13:36:32.000000001Z,XNAS,BTC-EUR,59990,60000,0.5,0.0137
2024-08-01T13:36:32.000000002Z,XNYS,AAPL,222.82,222.83,100,36
2024-08-01T13:36:32.000000003Z,XNYS,BTC-EUR,59980,60010.5,12,0.01
2024-08-01T13:36:32.000000004Z,XNYS,ETH-USD,3000,3000.5,1.00000001,0.1
"""
QUOTES = f"{HEADER}\n{ROWS}"


class Done(NamedTuple):
    status: int
    out: bytes
    err: str
    summary: dict[str, Any]

    @property
    def results(self) -> list[Any]:
        found = [json.loads(line) for line in self.out.splitlines()]
        for result in found:
            VALIDATOR.validate(result)
        return found


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("SOR_") and name not in ("SOR_REQUIRE_EXT", "SOR_PURE_PYTHON"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("coins.toml").write_text(INSTRUMENTS)
    Path("q.csv").write_text(QUOTES)


@pytest.fixture
def run(capfdbinary: Any) -> Callable[..., Done]:
    def command(*arguments: str, instruments: str | None = "coins.toml") -> Done:
        more = [] if instruments is None else ["--instruments", instruments]
        if arguments[0] == "replay":
            Path("summary.json").unlink(missing_ok=True)
            more += ["--summary", "summary.json"]
        status = cli.main([*arguments, *more])
        out, err = capfdbinary.readouterr()
        summary = Path("summary.json")
        return Done(status, out, err.decode(), json.loads(summary.read_text()) if summary.exists() else {})

    return command


def test_a_replay_of_coins_and_shares(run: Callable[..., Done]) -> None:
    done = run("replay", "q.csv", "--order-size", "0.02", "--symbol", "BTC-EUR")
    assert done.status == 0
    first, second = done.results
    assert (first["order_size"], first["allocation"], first["currency"]) == (0.02, [0.0137], "EUR")
    assert second["allocation"] == [0.0137, 0.0063]
    assert second["parameters"]["step"] == 0.01
    assert [venue["ask_size"] for venue in second["venues"]] == [0.0137, 0.01]
    assert [(one["price"], one["quantity"]) for one in second["child_orders"]] == [(60000.0, 0.0137), (60010.5, 0.0063)]


def test_the_library_says_the_same(run: Callable[..., Done]) -> None:
    """The books that a feed in columns makes say the same but for a row's place; so does `route_many`."""
    coins = Instruments.load("coins.toml")
    feed = read_feed("q.csv", instruments=coins)
    books = Books(VenueDirectory.load(), instruments=coins)
    lines = []
    for batch in feed:
        for row in range(len(batch)):
            book = books.apply(batch.update(row))
            order = Order(book.symbol, "buy", 1, instrument=coins.get(book.symbol))
            lines.append(json.loads(Router().route(order, book).to_json()))
    done = run("replay", "q.csv", "--order-size", "1", "--venues-from", "publishers")
    found = [result | {"source": None} for result in done.results]
    assert found == lines
    columns = route_many(feed, Order("*", "buy", 1))
    for at, result in enumerate(found):
        assert columns["total_cost"][at] == result["total_cost"]
        assert columns["executed"][at] == result["execution_summary"]["total_executed"]
        assert columns["currencies"][columns["symbol"][at]] == result.get("currency", "USD")


def test_results_in_columns_are_the_same(run: Callable[..., Done]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = run("replay", "q.csv", "--order-size", "1", "--venues-from", "publishers")
    done = run("replay", "q.csv", "--order-size", "1", "--venues-from", "publishers", "--output", "r.parquet")
    table = parquet.read_table("r.parquet").drop_columns(["time"]).to_pylist()
    for row, result in zip(table, lines.results, strict=True):
        sent = [(one["venue_id"], one["allocation"]) for one in result["venues"] if one["allocation"]]
        assert list(zip(row["venue"], row["allocation"], strict=True)) == sent
        assert (row["quantity"], row["currency"]) == (result["order_size"], result.get("currency", "USD"))
        assert row["executed"] == result["execution_summary"]["total_executed"]
        assert (row["total_cost"], row["shortfall"]) == (result["total_cost"], result["shortfall"]["dollars"])
    same = ("results", "fill_rate", "cost_vs_mid_bps")
    assert [done.summary[name] for name in same] == pytest.approx([lines.summary[name] for name in same])
    by_currency = "cost_vs_mid_bps_by_currency"
    assert done.summary[by_currency] == pytest.approx(lines.summary[by_currency])
    part = run("replay", "q.csv", "--order-size", "0.5", "--symbol", "ETH-USD", "--output", "r.parquet")
    assert part.status == 0
    assert parquet.read_table("r.parquet").column("executed").to_pylist() == [0.1]
    refused = run("replay", "q.csv", "--order-size", "0.5", "--venues-from", "publishers", "--output", "r.parquet")
    assert refused.status == 2
    assert "quantity is 0.5: it must be a whole number from 1" in refused.err


def test_results_in_columns_of_a_feed_without_rows(run: Callable[..., Done]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("q.csv").write_text(f"{HEADER}\n")
    assert run("replay", "q.csv", "--venues-from", "publishers", "--output", "r.parquet").status == 0
    assert parquet.read_table("r.parquet").num_rows == 0


def test_currencies_are_told_apart(run: Callable[..., Done]) -> None:
    done = run("replay", "q.csv", "--order-size", "1")
    assert set(done.summary["cost_vs_mid_bps_by_currency"]) == {"EUR", "USD"}
    assert done.err.count("bps against the mid, fees included, of what trades in ") == 2
    only = run("replay", "q.csv", "--order-size", "1", "--symbol", "AAPL")
    assert "cost_vs_mid_bps_by_currency" not in only.summary
    assert "bps against the mid, fees included\n" in only.err


def test_the_log_names_the_currency(run: Callable[..., Done]) -> None:
    done = run("replay", "q.csv", "--order-size", "0.02", "--symbol", "BTC-EUR", "--log-level", "debug")
    assert "Optimizing allocation for 0.02 shares across 1 venues" in done.err
    assert "cost=822.00 EUR" in done.err
    assert "$" not in done.err
    counted = run(
        *("replay", "q.csv", "--order-size", "0.02", "--symbol", "BTC-EUR", "--objective", "shortfall"),
        *("--log-level", "debug"),
    )
    assert "Evaluating 1 possible allocations" in counted.err
    assert "Evaluating 3 possible allocations" in counted.err  # two steps of 0.01 over two venues


@pytest.mark.parametrize("options", [(), ("--objective", "shortfall"), ("--algorithm", "greedy_l2"), ("--pretty",)])
def test_symbols_without_an_entry_have_the_bytes_that_they_had(run: Callable[..., Done], options: Any) -> None:
    sample = str(ROOT / "sample.csv")
    as_ever = run("replay", sample, "--max-messages", "300", *options, instruments=None)
    done = run("replay", sample, "--max-messages", "300", *options)
    assert as_ever.out == done.out
    assert b"currency" not in done.out
    assert "EUR" not in done.err


def test_an_entry_in_whole_shares_adds_the_currency_alone(run: Callable[..., Done]) -> None:
    sample = str(ROOT / "sample.csv")
    Path("aapl.toml").write_text('schema_version = 1\n[[instrument]]\nsymbol = "AAPL"\n')
    as_ever = run("replay", sample, "--max-messages", "300", instruments=None)
    done = run("replay", sample, "--max-messages", "300", instruments="aapl.toml")
    assert done.out == as_ever.out.replace(b"}}\n", b'},"currency":"USD"}\n')


def test_a_size_that_is_no_multiple_is_a_dead_letter(run: Callable[..., Done]) -> None:
    bad = "2024-08-01T13:36:33Z,XNAS,BTC-EUR,59990,60000,0.5,0.00001"
    Path("q.csv").write_text(f"{QUOTES}{bad}\n")
    done = run("replay", "q.csv", "--order-size", "1", "--dead-letter-file", "letters")
    assert done.status == 1
    assert done.summary["bad"] == {"size": 1}
    letter = json.loads(Path("letters").read_text())
    assert (letter["reason"], base64.b64decode(letter["raw_base64"]).decode()) == ("size", bad)
    assert letter["detail"].startswith("ask_size is '0.00001': it must be a multiple of the lot 0.0001")


def test_an_order_size_that_is_no_multiple_is_told_of_each_message(run: Callable[..., Done]) -> None:
    done = run("replay", "q.csv", "--order-size", "0.00013", "--dead-letter-file", "letters")
    assert done.status == 1
    assert [result["symbol"] for result in done.results] == ["ETH-USD"]
    reasons = [json.loads(line)["detail"] for line in Path("letters").read_text().splitlines()]
    assert reasons[0].startswith("quantity is 0.00013: it must be a multiple of the lot 0.0001, from 0.0001")
    assert reasons[1].startswith("quantity is 0.00013: it must be a whole number from 1")
    assert done.summary["bad"] == {"routing": 3}


@pytest.mark.parametrize("value", ["0.5", "1.5"])
def test_decimals_need_instruments(run: Callable[..., Done], value: str) -> None:
    done = run("replay", "q.csv", "--order-size", value, instruments=None)
    assert done.status == 2
    assert f"--order-size is '{value}': it must be a whole number from 1 to 9007199254740992" in done.err
    asked = ("order", "--symbol", "BTC-EUR", "--side", "buy", "--orders-topic", "o", "--results-topic", "r")
    done = run(*asked, "--quantity", value, instruments=None)
    assert done.status == 2
    assert f"--quantity is '{value}': it must be a whole number from 1" in done.err
    done = run(*asked, "--quantity", "0.00001")
    assert done.status == 2
    assert "quantity is 1e-05: it must be a multiple of the lot 0.0001" in done.err


@pytest.mark.parametrize("command", ["replay", "info", "convert", "produce", "consume", "check"])
def test_a_file_that_is_not_there_is_told_before_anything(run: Callable[..., Done], command: str) -> None:
    more = {"consume": (), "check": ("q.csv", "--connect-timeout", "0"), "convert": ("q.csv", "--output", "o.parquet")}
    done = run(command, *more.get(command, ("q.csv",)), instruments="none.toml")
    told = done.err if command != "check" else done.out.decode()
    assert "none.toml: the instruments file cannot be read: No such file or directory" in told
    assert done.status == 2


def test_a_converted_feed_is_the_same_feed(run: Callable[..., Done]) -> None:
    pytest.importorskip("pyarrow")
    before = run("replay", "q.csv", "--order-size", "1")
    assert "wrote 4 rows" in run("convert", "q.csv", "--output", "q.parquet").err
    after = run("replay", "q.parquet", "--order-size", "1")
    assert [one | {"source": None} for one in after.results] == [one | {"source": None} for one in before.results]
    run("convert", "q.csv", "--output", "parts", "--by", "symbol")
    assert sorted(path.name for path in Path("parts").iterdir()) == [
        "AAPL.parquet",
        "BTC-EUR.parquet",
        "ETH-USD.parquet",
    ]
    again = run("convert", *map(str, Path("parts").iterdir()), "--output", "again.parquet")
    assert again.status == 0
    assert Path("again.parquet").read_bytes() == Path("q.parquet").read_bytes()
    refused = run("replay", "q.parquet", instruments=None)
    assert refused.status == 2
    assert "has sizes of BTC-EUR in lots of 0.0001, and its instrument's lot is 1" in refused.err


def test_info_reads_decimals(run: Callable[..., Done]) -> None:
    found = json.loads(run("info", "q.csv", "--json").out)
    assert (found["rows"], found["quotes"], found["bad"]) == (4, 4, {})
    assert json.loads(run("info", "q.csv", "--json", instruments=None).out)["bad"] == {"size": 3}


@pytest.mark.parametrize("name", ["q.csv", "q.parquet"])
def test_what_is_produced_is_decoded_as_it_was(run: Callable[..., Done], name: str) -> None:
    """Decimals in JSON, between `sor produce` and `sor consume`."""
    if name == "q.parquet":
        pytest.importorskip("pyarrow")
        run("convert", "q.csv", "--output", name)
    coins = Instruments.load("coins.toml")
    rows = produce.Rows(name, None, "coins.toml")
    messages = [row.message for row in rows]
    rows.source.close()
    assert rows.bad == 0
    assert b'"bid_sz_00":0.5,' in messages[0]
    assert b'"bid_sz_00":100,' in messages[1]
    decoder = JsonDecoder(1, instruments=coins)
    (batch,) = sor.read_feed("q.csv", instruments=coins)
    for row, message in enumerate(messages):
        update, wanted = decoder.decode(message), batch.update(row)
        assert (update.symbol, update.bids, update.asks) == (wanted.symbol, wanted.bids, wanted.asks)


def test_databento_csv_is_produced_as_it_stands() -> None:
    sample = str(ROOT / "sample.csv")
    Path("aapl.toml").write_text('schema_version = 1\n[[instrument]]\nsymbol = "AAPL"\nlot = 0.1\n')
    found = []
    for instruments in (None, "aapl.toml"):
        rows = produce.Rows(sample, None, instruments)
        found.append([row.message for row, _ in zip(rows, range(20), strict=False)])
        rows.source.close()
    assert found[0] == found[1]


def test_check_reads_a_feed_of_coins() -> None:
    assert check._feed("q.csv", None, "coins.toml").endswith("its first row is of BTC-EUR")
    with pytest.raises(sor.InputError, match=r"first row: bid_size is 0\.5"):
        check._feed("q.csv")
    settings = load("check", {"instruments": "coins.toml"}, {})
    assert check._instruments(settings) == "2 from coins.toml"


@pytest.mark.kafka
def test_coins_over_kafka(run: Callable[..., Done], kafka: Servers, topic: Names) -> None:
    """From a file to topics and back, in two runs: the second has its books from the quotes that are kept."""
    market, results, group = kafka.create_topic(topic("market")), kafka.create_topic(topic("results")), topic("group")
    servers = ("--kafka-servers", kafka.bootstrap)
    assert run("produce", "q.csv", *servers, "--topic", market).status == 0
    consume = ("consume", *servers, "--topic", market, "--group", group, "--order-size", "1", "--max-messages", "2")
    for _ in range(2):
        assert run(*consume, "--results-topic", results).status == 0
    found = results_in(kafka, results, "read_committed")
    for result in found:
        VALIDATOR.validate(result)
        del result["source"], result["stream"], result["book"]
    wanted = run("replay", "q.csv", "--order-size", "1", "--venues-from", "publishers").results
    for result in wanted:
        del result["source"], result["stream"], result["book"]
    assert found == wanted


def test_levels_of_one_publisher_may_be_coins(run: Callable[..., Done]) -> None:
    """The look ahead at who publishes reads decimals, too."""
    Path("one.csv").write_text(
        f"{HEADER},bid_1,ask_1,bid_size_1,ask_size_1\n"
        "2024-08-01T13:36:32Z,XNAS,BTC-EUR,59990,60000,0.5,0.0137,59989,60001,0.25,0.5\n"
    )
    (result,) = run("replay", "one.csv", "--order-size", "0.02").results
    assert [venue["venue_id"] for venue in result["venues"]] == ["venue_0", "venue_1"]
    assert result["allocation"] == [0.0137, 0.0063]
