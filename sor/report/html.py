"""A page of HTML that needs nothing but itself: elements, tables, plots, and the frame around them."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sor.market.whole_file import WholeFile

STYLE = """
:root { color-scheme: light; --line: #d0d5dd; --soft: #f5f6f8; --ink: #1d2433; --muted: #566074; --link: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 0 1rem 3rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p, li { max-width: 46rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; background: #fff; padding: .5rem; }
.skip:focus { left: 0; z-index: 9; }
.lead { color: var(--muted); margin-top: 0; }
.answer { max-width: 48rem; background: var(--soft); border-left: 4px solid var(--link); padding: .5rem 1rem; }
.answer p { margin: .5rem 0; }
nav ol { columns: 16rem; padding-left: 1.5rem; margin: .5rem 0; }
.scroll { overflow-x: auto; margin: 1rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .25rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tr > :first-child { text-align: left; position: sticky; left: 0; background: #fff; }
caption span { position: sticky; left: 0; display: inline-block; max-width: min(46rem, calc(100vw - 2rem)); }
thead th { white-space: normal; }
tbody th { font-weight: normal; }
.words td { text-align: left; white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
.words th { vertical-align: top; text-align: left; }
figure { margin: 1rem 0; }
figcaption { font-weight: 600; font-size: .875rem; }
code { font-size: .875em; background: var(--soft); padding: .1em .25em; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .75rem; white-space: pre-wrap; }
pre code { padding: 0; }
@media (max-width: 40rem) {
  body { padding: 0 .75rem 2rem; }
  h1 { font-size: 1.35rem; }
  tbody th { white-space: normal; min-width: 9.5rem; }
  .words tbody th { min-width: 6rem; }
}
@media print { .skip, nav { display: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
DRAW = """
for (const [name, plot] of Object.entries(JSON.parse(document.getElementById("plots").textContent)))
  Plotly.newPlot("plot-" + name, plot.data, plot.layout, {responsive: true, displayModeBar: false});
"""
# Nothing is fetched, whatever stands in the page.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


class Markup(str):
    """Text that is HTML already; all other text is escaped where it is put into an element."""

    __slots__ = ()


def element(name: str, *content: Any, **attributes: Any) -> Markup:
    """An element; ``class_`` and ``aria_label`` are the attributes class and aria-label."""
    said = "".join(f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{said}>{joined(content)}</{name}>")


def joined(parts: Iterable[Any], between: str = "") -> Markup:
    return Markup(between.join(part if isinstance(part, Markup) else escaped(part) for part in parts))


def escaped(value: Any) -> str:
    return html.escape(str(value))


def paragraph(*content: Any) -> Markup:
    return element("p", *content)


def listed(items: Iterable[Any]) -> Markup:
    return element("ul", *(element("li", item) for item in items))


def table(caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]], words: bool = False) -> Markup:
    """A table whose first column names its rows, in a box of its own that may be scrolled.

    Parameters
    ----------
    words : bool
        Whether cells are words, which are broken into lines, and not numbers.
    """
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    kind = {"class_": "words"} if words else {}
    found = element(
        "table", element("caption", element("span", caption)), element("thead", top), element("tbody", *body), **kind
    )
    return element("div", found, class_="scroll", tabindex=0, role="region", aria_label=caption)


@dataclass(frozen=True)
class Plot:
    """A plot as plotly takes it, whose numbers stand in a table beside it.

    Attributes
    ----------
    name : str
        Of its element: ``plot-name``.
    title : str
        What it shows, also for who does not see it.
    """

    name: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]

    def element(self) -> Markup:
        told = f"Plot: {self.title} The table beside it has the numbers."
        drawn = element("div", id=f"plot-{self.name}", class_="drawing", role="img", aria_label=told)
        return element("figure", element("figcaption", self.title), drawn, class_="drawn")


@dataclass(frozen=True)
class Section:
    """A part of a page; ``name`` is that of its anchor."""

    name: str
    title: str
    parts: Sequence[Markup | Plot]

    def element(self) -> Markup:
        inner = (part.element() if isinstance(part, Plot) else part for part in self.parts)
        heading = element("h2", self.title, id=f"{self.name}-title")
        return element("section", heading, *inner, id=self.name, aria_labelledby=f"{self.name}-title")


def written(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page, whole or not at all.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    with WholeFile(path) as file, file.writing():
        file.file.write(text.encode())


def page(title: str, lead: str, answer: Sequence[Any], sections: Sequence[Section], drawing: str) -> str:
    """A whole page: the question, its answer in words, and the sections that show why.

    Parameters
    ----------
    title, lead : str
        The heading, and what it is about.
    answer : list
        Paragraphs.
    sections : list of Section
    drawing : str
        The source of plotly.js.
    """
    plots = {part.name: part for section in sections for part in section.parts if isinstance(part, Plot)}
    drawn = {name: {"data": plot.data, "layout": plot.layout} for name, plot in plots.items()}
    text = json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    links = [element("li", element("a", one.title, href=f"#{one.name}")) for one in sections]
    told = element("p", "Plots need scripts, which are off: the numbers are in the tables.")
    hidden = element("style", Markup(".drawn { display: none; }"))
    head = [
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">'),
        element("title", title),
        element("style", Markup(STYLE)),
    ]
    body = [
        element("a", "Skip to the answer", class_="skip", href="#answer"),
        element("header", element("h1", title), element("p", lead, class_="lead")),
        element(
            "main",
            element("div", *map(paragraph, answer), id="answer", class_="answer", tabindex=-1),
            element("noscript", hidden, told),
            element("nav", element("ol", *links), aria_label="Contents"),
            *(section.element() for section in sections),
        ),
        element("script", Markup(drawing)),
        element("script", Markup(text), type="application/json", id="plots"),
        element("script", Markup(DRAW)),
    ]
    return "<!doctype html>\n" + element(
        "html", element("head", *head), "\n", element("body", joined(body, "\n")), "\n", lang="en"
    ) + "\n"  # fmt: skip
