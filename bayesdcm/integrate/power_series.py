"""Arithmetic of truncated power series, for Taylor integrators of any order.

A series is a list of its coefficients, lowest order first; a coefficient is an array.
"""

from __future__ import annotations

import jax

Series = list[jax.Array]


def product_term(a: Series, b: Series, order: int) -> jax.Array:
    """Coefficient `order` of the product of two series.

    Examples
    --------
    >>> product_term([1.0, 2.0], [3.0, 4.0], 1)
    10.0
    """
    return sum(a[j] * b[order - j] for j in range(order + 1))


def quotient_term(a: Series, b: Series, quotient: Series, order: int) -> jax.Array:
    """Coefficient `order` of ``a / b``, given the lower ones in `quotient`.

    Examples
    --------
    >>> quotient_term([1.0, 0.0], [1.0, 1.0], [1.0], 1)
    -1.0
    """
    lower = sum(b[j] * quotient[order - j] for j in range(1, order + 1))
    return (a[order] - lower) / b[0]


def power_term(a: Series, power: Series, exponent: float, order: int) -> jax.Array:
    """Coefficient `order` >= 1 of ``a ** exponent``, given the lower ones in `power`.

    Examples
    --------
    >>> power_term([1.0, 1.0], [1.0], 2.0, 1)
    2.0
    """
    terms = ((exponent * j - (order - j)) * a[j] * power[order - j] for j in range(1, order + 1))
    return sum(terms) / (order * a[0])


def evaluate(a: Series, t: jax.Array) -> jax.Array:
    """Value of a series at `t`.

    Examples
    --------
    >>> evaluate([1.0, 2.0, 3.0], 2.0)
    17.0
    """
    value = a[-1]
    for coefficient in reversed(a[:-1]):
        value = value * t + coefficient
    return value
