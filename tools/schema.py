"""The JSON Schema of results and rejections, from the structs that are written.

    python tools/schema.py [FILE]

Writes sor/routing/result.schema.json anew; a test says where it is not what the structs give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from sor.routing.result import SCHEMA_VERSION, RoutingResult
from sor.stream.messages import FilePlace, KafkaPlace, StreamState
from sor.stream.orders import OrderPlace, Rejection

COMMITTED = Path(__file__).resolve().parents[1] / "sor" / "routing" / "result.schema.json"
LATER = ("placement", "currency", "iso", "reason")  # not always there: the first results of version 1 had no `reason`
DESCRIPTION = (
    "The answer of sor to one order on one book, a line of JSON Lines. Keys stand in the order in which "
    "they are listed under required, at every level: first symbol, timestamp, order_size, algorithm, "
    "venues, allocation, total_cost, execution_summary, parameters, then the rest, source last (and currency after "
    "it, where a symbol has an instrument). Absent is null, never a made-up number. An order of a topic of orders that "
    "cannot be routed is answered by a rejection instead: it has a status, and looks like $defs/rejection."
)


def inlined(node: Any, parts: dict[str, Any]) -> Any:
    """A schema without references: what stands at one counts more than what it refers to."""
    if isinstance(node, list):
        return [inlined(one, parts) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return inlined(parts[node["$ref"].rpartition("/")[2]] | {k: v for k, v in node.items() if k != "$ref"}, parts)
    found = {key: inlined(value, parts) for key, value in node.items() if key not in ("title", "default")}
    if "description" in found:
        found["description"] = " ".join(found["description"].replace("``", "").split())
    if found.get("type") == "object":  # every key is written, but for these
        found["required"] = [name for name in found["properties"] if name not in LATER]
        found["additionalProperties"] = False
    return found


def schema() -> dict[str, Any]:
    places = FilePlace, KafkaPlace, OrderPlace
    kinds: tuple[Any, ...] = RoutingResult, Rejection, StreamState, *places
    refs, parts = msgspec.json.schema_components(kinds)
    result, rejection, stream, *source = (inlined(ref, parts) for ref in refs)
    properties = result["properties"]  # those that the router only copies, it does not know
    properties["stream"] |= {"anyOf": [stream, {"type": "null"}]}
    properties["source"] |= {"anyOf": [*source, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sor:result:{SCHEMA_VERSION}",
        "title": "Routing result",
        **result,
        "description": DESCRIPTION,
        "$defs": {"rejection": rejection},
    }


def written() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else COMMITTED).write_text(written(), encoding="utf-8")
