"""Files of the studies of the model: data as CSV, and plots as SVG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sor.errors import InputError
from sor.models.studies import Study, studies


def write(folder: str, seed: int, training: int) -> Iterator[Path]:
    """Write each study's data as CSV, and plots as SVG; gives the paths as they are written.

    Raises
    ------
    InputError
        Where the folder cannot be written to; where matplotlib is missing, after the data has been written.
    """
    done = []
    for study in studies(seed, training):
        path = Path(folder) / f"{study.figure}_{study.name}.csv"
        _save(path, _csv(study))
        done.append(study)
        yield path
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"plots need matplotlib, which cannot be imported ({error}): pip install 'sor[paper]'; "
            f"the data is in {folder}"
        ) from None
    for figure in dict.fromkeys(study.figure for study in done):
        path = Path(folder) / f"{figure}.svg"
        _save(path, _drawn([study for study in done if study.figure == figure]))
        yield path


def _csv(study: Study) -> str:
    lines = [study.columns, *([f"{value:.6g}" for value in row] for row in study.rows)]
    return "".join(",".join(f'"{cell}"' if "," in cell else cell for cell in line) + "\n" for line in lines)


def _save(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _drawn(panels: list[Study]) -> str:
    """A figure with one panel for each study, as SVG; the same text in every run."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    fonts = {"font.size": 8, "font.sans-serif": ["DejaVu Sans"]}  # which comes with matplotlib
    with rc_context({"svg.hashsalt": "sor", "svg.fonttype": "none"} | fonts):
        high = -(-len(panels) // 2)
        figure = Figure(figsize=(9, 3 * high), layout="constrained")
        for axes, study in zip(figure.subplots(high, 2, squeeze=False).flat, panels, strict=False):
            _panel(axes, study)
        for axes in figure.axes[len(panels) :]:
            axes.set_axis_off()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", buffer.getvalue())  # hundredths of a point are fine enough
    return "\n".join(line.strip() for line in text.splitlines()) + "\n"


def _panel(axes: Any, study: Study) -> None:
    """Market orders dashed, limit orders solid, in one colour where they belong together."""
    if study.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.locator_params(nbins=5)
    x = [row[0] for row in study.rows]
    colours: dict[str, str] = {}
    for column, name in list(enumerate(study.columns))[study.lines]:
        head, _, flow = name.partition(" ")
        colour = colours.setdefault(flow or head, f"C{len(colours)}") if study.figure == "one_venue" else None
        style = "--" if head == "M" else "-"
        axes.plot(x, [row[column] for row in study.rows], style, color=colour, label=name, linewidth=1)
    axes.set_xlabel(study.columns[0])
    axes.set_ylabel(study.unit)
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(fontsize=6)
