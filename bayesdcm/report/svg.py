"""Figures as SVG that may stand in one page together."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def inline_svg(drawn: Any, prefix: str, label: str) -> str:
    """SVG element of a figure, which is closed.

    Parameters
    ----------
    drawn : Figure or Axes
        What a plotting function returned.
    prefix : str
        Put before every identifier, so that those of several figures do not clash.
    label : str
        What the figure shows, for readers who hear the page.

    Returns
    -------
    str
        One ``<svg>`` element without references to anything outside it.

    Examples
    --------
    >>> inline_svg(plt.figure(), "empty", "nothing").startswith("<svg")
    True
    """
    figure: Figure = drawn if isinstance(drawn, Figure) else drawn.figure
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    quoted = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{quoted}" ', 1)


class Figures(list[tuple[str, str, str]]):
    """Figures of a page: heading, explanation and SVG of each."""

    def add(self, heading: str, text: str, drawn: Any) -> None:
        """Append what a plotting function returned."""
        self.append((heading, text, inline_svg(drawn, f"figure{len(self)}", heading)))
