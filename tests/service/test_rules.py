"""Settings that are right by themselves and wrong together; each is told before the first message, with its flag."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from sor import InputError, cli
from sor.errors import Exit
from sor.service import rules
from sor.service.settings import CLASSES, OPTIONS, FeedSettings, KafkaSettings, load, options_of

# --- files -----------------------------------------------------------------------------------------------------------

FILES = {
    command: [(option.field, option.file) for option in options_of(command) if option.file is not None]
    for command in CLASSES
    if command != "check"  # which is the one for consume, or that for produce
}
PAIRS = [
    (command, *pair)
    for command, files in FILES.items()
    for one, other in itertools.combinations(files, 2)
    for pair in [sorted((one, other), key=lambda each: each[1] == "written")]
    if pair[1][1] == "written"
]


def refuse(command: str, **values: Any) -> None:
    """As the command does it, without the files of a connection being read for what is in them."""
    settings = load(command, {}, {})
    if isinstance(settings, FeedSettings):  # which needs files, and takes many
        values["files"] = (values.get("files", "sample.csv"),)
    settings = settings.replaced(**values)
    rules.refuse(settings)


def test_the_pairs_are_all_there() -> None:
    """Whatever is added to the definitions is in a pair here; what reads and what writes is known by its name."""
    assert {option.field for option in OPTIONS if option.file == "written"} == {
        "output", "summary", "dead_letter_file", "heartbeat_file", "snapshot_file", "json", "report"
    }  # fmt: skip
    unmarked = {option.name for option in OPTIONS if option.file is None}
    assert {name for name in unmarked if "file" in name.lower()} == set()
    assert {field for field, how in FILES["consume"] if how == "read"} == {
        "venues", "policy", "instruments", "sasl_password_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file",
        "ssl_key_password_file",
    }  # fmt: skip
    assert len(PAIRS) > 40


@pytest.mark.parametrize("alike", ["same", "other spelling", "hard link", "symbolic link"])
@pytest.mark.parametrize(("command", "one", "other"), PAIRS)
def test_no_file_is_read_and_written_or_written_twice(
    tmp_path: Path, command: str, one: tuple[str, str], other: tuple[str, str], alike: str
) -> None:
    file, name = tmp_path / "file", tmp_path / "name"
    file.write_bytes(b"precious")
    if alike == "hard link":
        os.link(file, name)
    elif alike == "symbolic link":
        name.symlink_to(file)
    second = {"same": str(file), "other spelling": f"{tmp_path}/../{tmp_path.name}/./file"}.get(alike, str(name))
    with pytest.raises(InputError, match=r"that is the file (to read|for) ") as refused:
        refuse(command, **{one[0]: str(file), other[0]: second})
    assert str(refused.value).startswith("--")
    assert file.read_bytes() == b"precious"


@pytest.mark.parametrize("link", [False, True])
def test_files_that_are_not_there_yet(tmp_path: Path, link: bool) -> None:
    (tmp_path / "here").symlink_to(tmp_path)
    second = tmp_path / "here" / "new"
    if link:
        second = tmp_path / "link"
        second.symlink_to(tmp_path / "new")
    with pytest.raises(InputError, match=r"--summary is .* that is the file for --output"):
        refuse("replay", output=str(tmp_path / "new"), summary=str(second))
    assert not (tmp_path / "new").exists()


def test_different_files_and_the_null_device_are_fine(tmp_path: Path) -> None:
    refuse("replay", output="/dev/null", summary="/dev/null", dead_letter_file=str(tmp_path / "letters"))
    refuse("replay", output=str(tmp_path / "a"), summary=str(tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "field"), [(command, field) for command in FILES for field, how in FILES[command] if how == "written"]
)
@pytest.mark.parametrize("path", ["no/such/folder", ".", "file/below"])
def test_what_cannot_be_written_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, field: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(InputError, match=f"cannot write .*--{field.replace('_', '-')}"):
        refuse(command, **{field: path})


def test_a_summary_that_cannot_be_written(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["replay", str(checkout / "sample.csv"), "--summary", "/no/such/folder/s.json"])
    out, err = capfd.readouterr()
    assert (status, out) == (Exit.WRONG_CALL, "")
    assert err == "sor replay: error: cannot write /no/such/folder/s.json: No such file or directory (--summary)\n"


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["paper", "--folder", str(tmp_path / "file")]) == Exit.WRONG_CALL
    out, err = capsys.readouterr()
    assert out == ""
    assert "--folder is" in err
    refuse("paper", folder=str(tmp_path / "new" / "folder"))
    assert [path.name for path in tmp_path.rglob("*")] == ["file", "new", "folder"]


# --- topics ----------------------------------------------------------------------------------------------------------

ROLES = ["topic", "results_topic", "dead_letter_topic", "orders_topic"]


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations([*ROLES, "books", "orders"], 2))[:-1])
@pytest.mark.parametrize("second", ["a.b-books", "a_b-books"])
def test_no_topic_has_two_roles(delivery: str, workers: int, one: str, other: str, second: str) -> None:
    given = {"results_topic": "r", "delivery": delivery, "workers": workers, "group": "unlike"}
    kept = {"books", "orders"} & {other}
    first = "a.b-books" if not kept else f"a.b-{other}"
    second = second if not kept else second.replace("books", other)
    given |= {one: first} | ({"group": second.rpartition("-")[0]} if kept else {other: second})
    with pytest.raises(InputError, match=r"and each needs a topic of its own|differ only in"):
        refuse("consume", **given)


def test_topics_of_their_own_are_fine() -> None:
    refuse("consume", topic="a", results_topic="b", dead_letter_topic="c", orders_topic="d", group="e")


@pytest.mark.parametrize("group", ["desk/us", "a b", "é", "x" * 243])
def test_a_group_that_makes_no_topic_name(group: str) -> None:
    with pytest.raises(InputError, match=r"--group is .* must be a topic's name"):
        refuse("consume", results_topic="r", group=group)
    refuse("consume", group=group)  # nothing is kept
    refuse("consume", group=group, results_topic="r", delivery="at-least-once")


@pytest.mark.parametrize("name", [".", "..", "a/b", "", "x" * 250, "__consumer_offsets", "__transaction_state"])
@pytest.mark.parametrize("role", ROLES)
def test_names_that_brokers_refuse(role: str, name: str) -> None:
    with pytest.raises(InputError, match="it must"):
        load("consume", {role: name}, {})


def test_an_order_and_its_answer_have_topics_of_their_own() -> None:
    with pytest.raises(InputError, match="--orders-topic is 'o': that is --results-topic"):
        refuse("order", symbol="A", side="buy", quantity=1, orders_topic="o", results_topic="o")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--topic", "a", "--results-topic", "a"], "--topic is 'a': that is --results-topic"),
        (["--results-topic", "r", "--group", "desk/us"], "--group is 'desk/us'"),
        (["--algorithm", "cont_kukanov", "--theta-queue", "-0.0005"], "--theta-queue is -0.0005"),
    ],
)
def test_check_finds_it_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    flags += ["--connect-timeout", "0", "--kafka-servers", "127.0.0.1:1"]
    assert cli.main(["check", *flags]) == Exit.WRONG_CALL
    assert f"FAIL  settings: {words}" in capsys.readouterr().out
    assert cli.main(["consume", *flags]) == Exit.WRONG_CALL
    assert words in capsys.readouterr().err


# --- routing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["replay", "consume"])
@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"theta_queue": -0.0005}, "--theta-queue is -0.0005"),
        ({"lambda_under": -1e-9}, "--lambda-under"),
        ({"lambda_over": -1.0}, "--lambda-over"),
        ({"order_size": 10**12 + 1}, "--order-size is 1000000000001"),
        ({"windows": 5, "min_windows": 10}, "--min-windows is 10 and --windows 5"),
    ],
)
def test_what_the_model_does_not_take(command: str, values: dict[str, Any], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        refuse(command, algorithm="cont_kukanov", **values)
    refuse(command, **values)  # it means nothing there, or is fine


def test_orders_may_ask_for_the_model() -> None:
    with pytest.raises(InputError, match="--min-windows"):
        refuse("consume", orders_topic="o", windows=5, min_windows=10)


def test_settings_of_groups_only() -> None:
    """What a command does not use, its settings do not have."""
    assert not hasattr(load("replay", {}, {}), "group")
    assert not issubclass(CLASSES["replay"], KafkaSettings)
