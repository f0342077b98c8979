"""Figures as SVG that may stand in one page together."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


class Figures(list[tuple[str, str, str]]):
    """Figures of a page: heading, explanation and SVG of each."""

    def add(self, heading: str, text: str, drawn: Any) -> None:
        """Append what a plotting function returned, figure or axes; the figure is closed."""
        figure: Figure = drawn if isinstance(drawn, Figure) else drawn.figure
        prefix, buffer = f"figure{len(self)}", io.StringIO()
        with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": prefix}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
        svg = buffer.getvalue()
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
        # Identifiers of several figures must not clash.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}-", svg)
        # What the figure shows, for readers who hear the page.
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(heading)}" ', 1)
        self.append((heading, text, svg))
