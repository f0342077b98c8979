"""Exact integration of a linear neuronal system that drives one linear filter per region.

While the input is constant, the neuronal states x (with a leading constant 1, so that inputs
are part of the generator) and the filter states h of region i obey::

    dx/dt   = M x
    dh_i/dt = H_i h_i + entry * (drive_i . x)

The generator is block triangular, and so is its exponential. Working on the blocks keeps the
cost of a step linear in the number of filters, where the dense exponential would be quadratic
to apply and cubic to compute.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesdcm.integrate.grid import TimeGrid

# Of the exponential of what `bayesdcm.integrate.grid.squarings_for` makes small.
TAYLOR_DEGREE = 6
# Up to so many terms, sums are written out: propagators of three to ten regions, with derivatives
# along all parameters, take a quarter to two thirds of the time of products of matrices. With
# sixteen regions it would be twice as long.
FEW_TERMS = 12


class Cascade(NamedTuple):
    """Blocks of a cascade: a generator, its exponential, or any polynomial in a generator.

    Attributes
    ----------
    neuronal : (..., m, m)
        Acts on the neuronal states, the leading constant included.
    coupling : (..., regions, k, m)
        From neuronal to filter states.
    filter : (..., regions, k, k)
        Acts on the filter states.
    """

    neuronal: jax.Array
    coupling: jax.Array
    filter: jax.Array


def total(terms: jax.Array, axis: int, few: int = FEW_TERMS) -> jax.Array:
    """Sum over an axis, written out where it is short, so that XLA uses vector instructions.

    Parameters
    ----------
    terms : jax.Array
        What is summed.
    axis : int
        Over which axis; negative ones count from the last.
    few : int
        Up to how many terms are written out.

    Returns
    -------
    jax.Array
        Without that axis.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> total(jnp.ones((2, 3)), -1).tolist()
    [3.0, 3.0]
    """
    size = terms.shape[axis]
    if not 0 < size <= few:
        return terms.sum(axis)
    # Cut up only here, after multiplications: its derivative in reverse is one concatenation.
    return sum(jax.lax.split(terms, [1] * size, axis % terms.ndim)).squeeze(axis)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of matrices (..., i, k) and (..., k, j)."""
    if a.shape[-1] > FEW_TERMS:
        return a @ b
    return total(a[..., None] * b[..., None, :, :], -2)


def _compose(second: Cascade, first: Cascade) -> Cascade:
    received = _product(second.coupling, first.neuronal[..., None, :, :])
    return Cascade(
        _product(second.neuronal, first.neuronal),
        received + _product(second.filter, first.coupling),
        _product(second.filter, first.filter),
    )


def _identity(like: Cascade) -> Cascade:
    return Cascade(
        jnp.broadcast_to(jnp.eye(like.neuronal.shape[-1]), like.neuronal.shape),
        jnp.zeros_like(like.coupling),
        jnp.broadcast_to(jnp.eye(like.filter.shape[-1]), like.filter.shape),
    )


def exponential(generator: Cascade, duration: jax.Array, squarings: int) -> Cascade:
    """Exponential of a cascade's generator times a duration.

    Parameters
    ----------
    generator : Cascade
        Rates, 1/s.
    duration : jax.Array
        Duration, s, ().
    squarings : int
        Number of squarings, from `squarings_for`.

    Returns
    -------
    Cascade
        The propagator over `duration`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> one = jnp.ones((1, 1, 1))
    >>> P = exponential(Cascade(-one[0], one, -one), jnp.asarray(1.0), 5)
    >>> round(float(P.neuronal[0, 0]), 6)
    0.367879
    """
    small = jax.tree.map(lambda block: block * (duration / 2**squarings), generator)
    identity = _identity(small)

    # Horner's rule in a loop: products here are code that takes long to compile.
    def lower(k: jax.Array, higher: Cascade) -> Cascade:
        product = _compose(small, higher)
        return jax.tree.map(lambda one, term: one + term / (TAYLOR_DEGREE - k), identity, product)

    result = jax.lax.fori_loop(0, TAYLOR_DEGREE, lower, identity)
    return jax.lax.fori_loop(0, squarings, lambda _, power: _compose(power, power), result)


def propagators(generator: Cascade, grid: TimeGrid) -> Cascade:
    """Propagators of a grid, one per distinct pair of input and duration.

    Durations are whole bins, so powers of the one-bin propagator serve them all.

    Parameters
    ----------
    generator : Cascade
        Generators, one per distinct input: ``neuronal`` (distinct inputs, m, m), ``coupling``
        (regions, k, m), ``filter`` (regions, k, k).
    grid : TimeGrid
        Steps.

    Returns
    -------
    Cascade
        ``neuronal`` (propagators, m, m), ``coupling`` (propagators, regions, k, m), ``filter``
        (propagators, regions, k, k).
    """
    n, held, longest = len(grid.inputs), grid.propagator_input, len(grid.bins)
    coupling = jnp.broadcast_to(generator.coupling, (n, *generator.coupling.shape))
    stacked = Cascade(generator.neuronal, coupling, generator.filter[None])
    one_bin = exponential(stacked, grid.bin_width, len(grid.halvings))
    # The fewer products: with many inputs or short bins, doublings.
    if longest * n > longest.bit_length() * (n + len(held)):
        return _doubled(one_bin, grid)
    powers, bins = _powers(one_bin, longest), grid.propagator_bins
    return Cascade(powers.neuronal[bins, held], powers.coupling[bins, held], powers.filter[bins, 0])


def _doubled(one_bin: Cascade, grid: TimeGrid) -> Cascade:
    """`propagators` as products of powers 1, 2, 4, ... of that of one bin."""
    n, rates = len(grid.inputs), one_bin.filter
    one_bin = one_bin._replace(filter=jnp.broadcast_to(rates, (n, *rates.shape[1:])))

    def of_propagators(cascade: Cascade) -> Cascade:
        return jax.tree.map(lambda block: block[grid.propagator_input], cascade)

    def double(state: tuple[Cascade, Cascade], bit: jax.Array) -> tuple:
        power, result = state
        used = ((grid.propagator_bins >> bit) & 1).astype(bool)
        longer = jax.tree.map(
            lambda yes, no: jnp.where(used.reshape((-1,) + (1,) * (yes.ndim - 1)), yes, no),
            _compose(of_propagators(power), result),
            result,
        )
        return (_compose(power, power), longer), None

    start = one_bin, _identity(of_propagators(one_bin))
    return jax.lax.scan(double, start, jnp.arange(len(grid.bins).bit_length()))[0][1]


def _powers(one: Cascade, highest: int) -> Cascade:
    """Powers 0, 1, ..., `highest` of a cascade, on a new first axis."""

    def multiply(power: Cascade, _: None) -> tuple[Cascade, Cascade]:
        return _compose(one, power), power

    return jax.lax.scan(multiply, _identity(one), length=highest + 1)[1]


def trajectory(
    steps: Cascade,
    grid: TimeGrid,
    x0: jax.Array,
    h0: jax.Array,
    readout: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """States at every point of a grid, and linear functions of them on every step.

    Parameters
    ----------
    steps : Cascade
        From `propagators`.
    grid : TimeGrid
        Steps.
    x0 : jax.Array
        Initial neuronal states, the leading constant included, shape (m,).
    h0 : jax.Array
        Initial filter states, shape (regions, k).
    readout : jax.Array, optional
        Rows for each propagator, shape (propagators, rows, regions, m).

    Returns
    -------
    x : jax.Array
        Neuronal states, shape (steps + 1, m).
    h : jax.Array
        Filter states, shape (steps + 1, regions, k).
    read : jax.Array
        Rows of `readout` applied to the neuronal states at the start of each step, shape
        (steps, rows, regions); no rows where there is no `readout`.
    """
    if readout is None:
        readout = jnp.zeros((len(grid.propagator_bins), 0, len(h0), len(x0)))

    def advance(state: tuple, index: jax.Array) -> tuple:
        x, h = state
        step = jax.tree.map(lambda block: block[index], steps)
        # Gathering the rows here, not for all steps at once, keeps reverse mode free of a
        # scatter over the whole run.
        read = total(readout[index] * x, -1)
        h = total(step.coupling * x, -1) + total(step.filter * h[:, None, :], -1)
        x = total(step.neuronal * x, -1)
        return (x, h), (x, h, read)

    _, (x, h, read) = jax.lax.scan(advance, (x0, h0), grid.step)
    return jnp.concatenate([x0[None], x]), jnp.concatenate([h0[None], h]), read
