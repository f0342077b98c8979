"""What all figures share: colours that colour-blind readers tell apart, numbers, axes."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette, https://jfly.uni-koeln.de/color/; its yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Warm for excitation and cold for inhibition, as in the diverging map.
POSITIVE, NEGATIVE = "#C1440E", "#0072B2"
DIVERGING = "RdBu_r"
INK, MUTED, PALE = "#222222", "#767676", "#f2f2f2"
PRIOR = "#9a9a9a"
NBSP = "\N{NO-BREAK SPACE}"


def colour(index: int) -> str:
    """Colour of the line number `index`, starting over after the last.

    Examples
    --------
    >>> colour(0) == colour(6)
    True
    """
    return COLOURS[index % len(COLOURS)]


def signed(value: float, digits: int = 2) -> str:
    """Typeset a number with its sign, zero without one.

    Examples
    --------
    >>> signed(0.254), signed(-0.001)
    ('+0.25', '0.00')
    """
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", "\N{MINUS SIGN}")


def probability_text(probability: float) -> str:
    r"""Typeset a posterior probability in two digits, never claiming certainty.

    Examples
    --------
    >>> probability_text(0.934), probability_text(1.0)
    ('P\xa0=\xa00.93', 'P\xa0>\xa00.99')
    """
    if probability > 0.99:
        return f"P{NBSP}>{NBSP}0.99"
    return f"P{NBSP}={NBSP}{probability:.2f}"


def share_text(probability: float) -> str:
    r"""Typeset a probability in two digits, never claiming certainty.

    Examples
    --------
    >>> share_text(0.934), share_text(1.0), share_text(0.0)
    ('0.93', '>\xa00.99', '<\xa00.01')
    """
    if probability < 0.01:
        return f"<{NBSP}0.01"
    return f">{NBSP}0.99" if probability > 0.99 else f"{probability:.2f}"


def tidy(ax: Any) -> None:
    """Take away the upper and right border of a panel, which carry nothing."""
    ax.spines[["top", "right"]].set_visible(False)
