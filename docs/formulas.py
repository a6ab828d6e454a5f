"""Formulas as MathML, made when the site is built: nothing is loaded from elsewhere, and browsers draw them alone."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
TAG = re.compile(r"\\tag\{(.+?)\}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(_drawn(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    text = node.astext()
    number = "".join(f'<span class="number">({tag})</span>' for tag in TAG.findall(text))
    writer.body.append(f'<div class="formula">{_drawn(node, TAG.sub("", text), as_block=True)}{number}</div>')
    raise nodes.SkipNode


def _drawn(node: nodes.Element, text: str, as_block: bool) -> str:
    try:
        return str(tex2mathml(text, as_block=as_block))
    except Exception as error:  # noqa: BLE001 - its errors are of several kinds, some of them of its own mistakes
        logger.warning("formula %r: %s", text, error, location=node)
        return ""
