"""The blocks of a report as one self-contained HTML page, which follows light and dark."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from jepalm.escaping import for_terminal
from jepalm.report.plots.draw import theme_css
from jepalm.report.render.blocks import Block, Document, Heading, as_cell, mark_whitespace
from jepalm.version import __version__


def page(document: Document) -> str:
    """Return a report as a page."""
    environment = Environment(
        loader=PackageLoader("jepalm.report.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"marked": marked, "cell": as_cell}
    light, dark = theme_css()
    whole = environment.get_template("page.html").render(
        document=document,
        sections=_sections(document.shown_in("files")),
        theme_light=Markup(light),
        theme_dark=Markup(dark),
        version=__version__,
    )
    return for_terminal(whole)  # bidi controls turn the reading direction of a page, too


def marked(text: str) -> Markup:
    """Return text as HTML in which blanks and control characters are seen."""
    return Markup("").join(
        Markup('<span class="ws">{}</span>').format(piece) if is_mark else escape(piece)
        for piece, is_mark in mark_whitespace(text)
    )


def _sections(blocks: list[Block]) -> list[tuple[str, str, list[tuple[str, Block]]]]:
    """Id and heading of each section, and its blocks with the names of their kinds."""
    sections: list[tuple[str, str, list[tuple[str, Block]]]] = []
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            name = re.sub(r"[^a-z]+", "-", block.text.lower()).strip("-")
            sections.append((name, block.text, []))
        else:
            sections[-1][2].append((type(block).__name__, block))
    return sections
