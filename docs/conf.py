"""The documentation site: Markdown by MyST, built by `make docs`, where a warning is an error."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import from_code

import sor

project = "sor"
author = "The sor developers"
release = sor.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "formulas"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_dmath_allow_digits = False  # of `$1` and `$0.003` no formula is made
myst_dmath_allow_space = False
myst_heading_anchors = 4  # links to headings, as GitHub has them

default_role = "code"  # single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell types with their units
numpydoc_show_class_members = False  # autodoc shows them
autosummary_generate = False  # which numpydoc brings along

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "sor"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
smartquotes = False  # `--` is the beginning of a flag

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"http://localhost"]  # of containers that a reader starts


def setup(app):
    app.connect("source-read", fill)


def fill(app, name, source):
    source[0] = from_code.filled(source[0])
