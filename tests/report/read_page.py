"""What stands in a report, for tests: its tables, plots and text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """A page without its scripts.

    Attributes
    ----------
    tables : dict
        By caption the rows, cells as text, that of the head first.
    headings : list of (level, text)
    plots : dict
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[tuple[int, str]] = []
        self.plots: dict[str, Any] = {}
        self.words: list[str] = []
        self._open: list[str] = []
        self._cell = ""
        self._caption = ""
        self._rows: list[list[str]] = []
        self._plots = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            return
        self._open.append(tag)
        self._plots = ("id", "plots") in attrs
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td", "caption", "h1", "h2", "h3"):
            self._cell = ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("th", "td"):
            self._rows[-1].append(self._cell)
        if tag == "caption":
            self._caption = self._cell
        if tag == "table":
            assert self._caption not in self.tables
            self.tables[self._caption] = self._rows
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), self._cell))

    def handle_data(self, data: str) -> None:
        if self._plots and self._open[-1] == "script":
            self.plots = json.loads(data)
        elif self._open and self._open[-1] not in ("script", "style"):
            self._cell += data
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def table(self, beginning: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, by the names of columns."""
        (found,) = (rows for caption, rows in self.tables.items() if caption.startswith(beginning))
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]
