"""How a result was made, so that it can be made again: the command, settings, versions and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from sor.market.storage import fingerprint, is_remote
from sor.report.html import Section, element, joined, paragraph, table
from sor.report.text import ABSENT


def origin_of(told: dict[str, Any], more: Mapping[str, Any]) -> Section:
    """The section on it.

    Parameters
    ----------
    told : dict
        With the keys of `Study.as_dict`: command, settings, versions, seed, and the files of data.
    more : mapping
        Settings that stand before these.
    """
    command = told["command"]
    again = (
        element("pre", element("code", command))
        if command
        else paragraph("It was made by the library, so there is no command; the settings are these.")
    )
    settings = dict(more) | told["settings"]
    opens, closes, timezone = settings["session"]
    settings["session"] = f"{timedelta(seconds=opens)} to {timedelta(seconds=closes)}, {timezone}"
    rows = [(name.replace("_", " "), _words(value)) for name, value in settings.items()]
    versions = told["versions"] | {"plotly": metadata.version("plotly")}
    parts = [
        element("h3", "The command that makes it again"),
        again,
        element("h3", "Settings, versions and inputs"),
        table("Settings", ["setting", "value"], [*rows, ("seed", told["seed"])], words=True),
        table("Versions", ["of", "version"], list(versions.items()), words=True),
    ]
    files = [(path, *_hashed(path)) for path in told["data"]["files"]]
    if files:
        parts.append(table("Input files", ["file", "bytes", "SHA-256"], files, words=True))
    return Section("origin", "How it was made", parts)


def _words(value: Any) -> Any:
    if isinstance(value, Mapping):
        return joined((f"{key}: {_words(one)}" for key, one in value.items()), "; ")
    if isinstance(value, list | tuple):
        return ", ".join(str(_words(one)) for one in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _hashed(path: str) -> tuple[str, str]:
    """Bytes and SHA-256 of a file, or what its store says of it; of a pipe neither."""
    if not is_remote(path) and not Path(path).is_file():
        return ABSENT, "no file that can be read again"
    told = fingerprint(path)
    return f"{told['bytes']:,}", str(told.get("sha256") or told["checksum"])
