"""What pages take from the code as they are built: a comment ``<!-- from code: NAME -->`` becomes what is made here.

Tables in Markdown, by the functions of `PARTS`. Nothing of it is committed, so nothing can fall behind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

import sor
from sor import cli
from sor.market import instruments, policy, venues
from sor.market.toml_file import MIN_TIME, day_of
from sor.service import settings as config
from sor.service import telemetry
from sor.service.options import Option

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import schema  # noqa: E402 - the generator of the committed schema

MARK = re.compile(r"^<!-- from code: (\w+) -->$", re.MULTILINE)
FOLDERS = {  # of the library, as its reader meets them
    "types": "Orders, venues, parameters",
    "models": "Splits and placements",
    "market": "Market data",
    "routing": "Routing",
    "backtest": "Backtests",
    "service": "Demonstration",
    "errors": "Errors",
}


def filled(text: str) -> str:
    """A page with all that it takes from the code."""
    return MARK.sub(lambda found: PARTS[found[1]](), text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(text: object) -> str:
    return f"`{text}`"


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> str:
    return "\n\n".join(f"## sor {name}\n\n{_command(name)}" for name in cli.COMMANDS)


def _command(name: str) -> str:
    text = cli.COMMANDS[name].help
    text = f"{text[0].upper()}{text[1:]}."
    found = config.options_of(name)
    if name == "check":  # what is its own; the rest is of the commands that it is for
        found = [option for option in found if not option.variable]
        text += (
            " Takes the options of [sor consume](#sor-consume) or, with a file, those of [sor produce](#sor-produce)."
        )
    if not found:
        return text
    return f"{text}\n\n{table(('flag and variable', 'default', 'meaning'), map(_option, found))}"


def _option(option: Option) -> tuple[str, str, str]:
    names = [code(option.name)] if option.flag is not None else []
    if option.variable:
        names.append(code(option.variable))
    return "<br>".join(names), _default(option.default), option.help


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return code(f"{value:g}" if type(value) is float else str(value).lower() if type(value) is bool else value)


# --- results ---------------------------------------------------------------------------------------------------------


def result() -> str:
    found = schema.schema()
    return f"{_keys(found)}\n\n### Rejection\n\n{found['$defs']['rejection'].get('description', '')}\n\n" + _keys(
        found["$defs"]["rejection"]
    )


def _keys(node: dict[str, Any]) -> str:
    return table(("key and type", "meaning"), _rows(node, ""))


def _rows(node: dict[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key, value in node["properties"].items():
        name = before + key
        yield f"{code(name)}<br>{_type(value)}", value.get("description", "")
        for inner, end in _objects(value):
            yield from _rows(inner, f"{name}{end}.")


def _objects(node: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects that a value may be, or be a list of."""
    for one in node.get("anyOf", [node]):
        if "properties" in one:
            yield one, ""
        elif "properties" in one.get("items", {}):
            yield one["items"], "[]"


def _type(node: dict[str, Any]) -> str:
    if "const" in node or "enum" in node:
        return ", ".join(code(value) for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(one) for one in node["anyOf"]))
    kind = node.get("type", "any")
    return f"list of {_type(node['items'])}" if kind == "array" and "items" in node else str(kind)


# --- files of the user's own -----------------------------------------------------------------------------------------


def venue_file() -> str:
    return _struct(venues._File)


def policy_file() -> str:
    return _struct(policy._File)


def instrument_file() -> str:
    return _struct(instruments._File)


def _struct(kind: type) -> str:
    return table(("key", "", "may be"), _fields(msgspec.inspect.type_info(kind), ""))


def _fields(struct: Any, before: str) -> Iterator[tuple[str, str, str]]:
    for field in struct.fields:
        name = before + field.encode_name
        inner, described = _unwrapped(field.type)
        need = (
            "required" if field.required else f"default {code(_plain(field.default))}" if _told(field) else "optional"
        )
        yield code(name), need, described or _kind(inner)
        item = getattr(inner, "item_type", inner)
        end = "[]" if item is not inner else ""
        item, _ = _unwrapped(item)
        if isinstance(item, msgspec.inspect.StructType):
            yield from _fields(item, f"{name}{end}.")


def _told(field: Any) -> bool:
    return field.default not in (None, msgspec.NODEFAULT)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | Decimal) else str(value)


def _unwrapped(kind: Any) -> tuple[Any, str]:
    """What a type is without its description and None, and that description."""
    described = ""
    while True:
        if isinstance(kind, msgspec.inspect.Metadata):
            described = (kind.extra_json_schema or {}).get("description", described)
            kind = kind.type
        elif isinstance(kind, msgspec.inspect.UnionType):
            kinds = [one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
            if len(kinds) > 1:
                return kind, described
            (kind,) = kinds
        else:
            return kind, described


def _kind(kind: Any) -> str:
    if isinstance(kind, msgspec.inspect.StructType):
        return "a table"
    return {"IntType": "a whole number", "FloatType": "a number", "StrType": "text"}.get(type(kind).__name__, "")


def market_policy() -> str:
    rows = []
    for subject, entries in ((name, getattr(policy.builtin(), name)) for name in policy.Policy.SUBJECTS):
        for entry in entries:
            figures = {key: value for key, value in msgspec.structs.asdict(entry).items() if key not in ABOUT}
            since = "" if entry.start == MIN_TIME else str(day_of(entry.start))
            marks = ("yes" if entry.sure else "no", "yes" if entry.verified else "no")
            rows.append((code(subject), code(entry.state or policy.PRESENT), since, _figures(figures), *marks))
    return table(("list", "state", "valid from", "figures", "sure", "verified"), rows)


ABOUT = ("sure", "verified", "source", "valid_from", "state")


def _figures(figures: dict[str, Any]) -> str:
    if "tiers" in figures:
        parts = [f"{one.lot}" + (f" up to ${one.up_to:,.2f}" if one.up_to else "") for one in figures["tiers"]]
        return ", ".join(parts)
    told = {
        key: str(value).lower() if type(value) is bool else f"{value:g}"
        for key, value in figures.items()
        if value is not None
    }
    return ", ".join(f"{key} {value}" for key, value in told.items())


def venue_directory() -> str:
    rows = []
    for venue in venues.VenueDirectory.load():
        latest = venue.figures[-1]
        checked = latest.taker_fee_verified, latest.maker_rebate_verified
        rows.append(
            (
                code(venue.venue_id),
                venue.name,
                venue.model,
                f"{latest.taker_fee:.4f}",
                f"{latest.maker_rebate:.4f}",
                {(True, True): "both", (True, False): "fee", (False, True): "rebate"}.get(checked, "no"),
                str(latest.valid_from),
            )
        )
    return table(("MIC", "name", "model", "taker fee", "maker rebate", "verified", "valid from"), rows)


# --- metrics ---------------------------------------------------------------------------------------------------------


def metrics() -> str:
    still = telemetry.Snapshot(
        turned=0.0, moved=0.0, stream=msgspec.structs.replace(telemetry.NO_STREAM, lags={("", 0): 0})
    )
    status = telemetry.Status(still, 1, 0, None, None)
    rows = []
    for family in telemetry.RunCollector(lambda: status).collect():
        (name,) = {family.name, f"{family.name}_total", f"{family.name}_info"} & set(telemetry.NAMES)
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        rows.append((code(name), family.type, ", ".join(map(code, labels)), telemetry.HELP[name]))
    return table(("metric", "type", "labels", "meaning"), rows)


def reasons() -> str:
    kinds = (
        ("sor_dead_letters_total", telemetry.BAD),
        ("sor_rejected_total", telemetry.REJECTED),
        ("sor_skipped_total", telemetry.SKIPPED),
        ("sor_doubtful_total", telemetry.DOUBTFUL),
    )
    return table(
        ("metric", "values that stand at 0 from the start"), ((code(n), ", ".join(map(code, v))) for n, v in kinds)
    )


# --- the library -----------------------------------------------------------------------------------------------------


def api() -> str:
    names: dict[str, list[str]] = {folder: [] for folder in FOLDERS}
    for name in sor.__all__:
        thing = getattr(sor, name)
        if callable(thing):
            module = getattr(thing, "__module__", None) or thing.__name__
            names[(f"{module}." if name != "backtest" else "sor.backtest.").split(".")[1]].append(name)
    return "\n\n".join(f"## {title}\n\n{_automatic(names[folder])}" for folder, title in FOLDERS.items())


def _automatic(names: list[str]) -> str:
    return "\n\n".join(f"```{{eval-rst}}\n{_directive(name)}\n```" for name in names)


def _directive(name: str) -> str:
    thing = getattr(sor, name)
    if name == "backtest":
        return ".. autofunction:: sor.backtest.run.backtest"
    if not isinstance(thing, type):
        return f".. autofunction:: sor.{name}"
    kind = "autoexception" if issubclass(thing, Exception) else "autoclass"
    fields = (
        f"\n   :exclude-members: {', '.join(thing._fields)}" if hasattr(thing, "_fields") else ""
    )  # of a named tuple
    return f".. {kind}:: sor.{name}\n   :members:{fields}"


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        commands,
        result,
        venue_file,
        policy_file,
        instrument_file,
        venue_directory,
        market_policy,
        metrics,
        reasons,
        api,
    )
}
