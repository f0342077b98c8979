"""Confounds and temporal precision, in the form that a likelihood needs: decomposed once.

With one temporal component Q = R'R, data times R are white whatever the log-precision, so a
density needs a product with R and no decomposition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

# Beyond some diagonals a matrix product is faster.
MOST_BANDS = 4


class ConfoundBasis(NamedTuple):
    """Confounds as orthonormal columns and their singular values.

    Attributes
    ----------
    basis : (times, k)
        Orthonormal columns that span the confounds.
    scale : (k,)
        Singular values of the confounds.
    """

    basis: jax.Array
    scale: jax.Array


def _namespace(*arrays: Any) -> Any:
    """JAX for arrays that jit passes in, which are worked on where they are used; else NumPy."""
    leaves = jax.tree.leaves(arrays)
    return jnp if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else np


def confound_basis(confounds: ArrayLike | None, n_times: int) -> ConfoundBasis:
    """Orthonormal form of confounds, worked out once for a data set.

    Parameters
    ----------
    confounds : array_like or None
        Shape (times, k); None for none.
    n_times : int
        Number of times.

    Returns
    -------
    ConfoundBasis
        With k columns, or none.

    Examples
    --------
    >>> import numpy as np
    >>> confound_basis(np.ones((4, 1)), 4).scale.round(6).tolist()
    [2.0]
    """
    if confounds is None:
        return ConfoundBasis(np.zeros((n_times, 0)), np.zeros(0))
    xp = _namespace(confounds)
    basis, scale, _ = xp.linalg.svd(xp.asarray(confounds), full_matrices=False)
    return ConfoundBasis(basis, scale)


class TemporalPrecision(NamedTuple):
    """Temporal precision components that all columns share, with the confounds of each column.

    Made by `temporal_precision`.

    Attributes
    ----------
    components : (k, times, times)
        Precision components Q_i.
    root : (times, times)
        Upper triangular R with R'R = Q, where there is one component; (0, 0) otherwise.
    bands : (b, times)
        Diagonals of R from the main one up, ``bands[k, t] = R[t, t + k]``, where R has no others
        and they are few; (0, times) otherwise.
    log_determinant : ()
        Log-determinant of the only component; zero otherwise.
    confounds : ConfoundBasis
        Confounds of every column.
    whitened : ConfoundBasis
        R times the confounds; the confounds themselves where there are several components.
    """

    components: jax.Array
    root: jax.Array
    bands: jax.Array
    log_determinant: jax.Array
    confounds: ConfoundBasis
    whitened: ConfoundBasis

    @property
    def single(self) -> bool:
        """Whether there is one component only."""
        return self.components.shape[0] == 1

    def whiten(self, series: jax.Array) -> jax.Array:
        """R times columns, where there is one component.

        Parameters
        ----------
        series : jax.Array, shape (..., times, columns)
        """
        if not self.bands.shape[0]:
            return self.root @ series
        # Components that join neighbours only need no matrix product.
        times = series.shape[-2]
        whitened = self.bands[0, :, None] * series
        for k, band in enumerate(self.bands[1:], start=1):
            later = jax.lax.slice_in_dim(series, k, times, axis=-2)
            padding = [(0, 0)] * (series.ndim - 2) + [(0, k), (0, 0)]
            whitened += band[:, None] * jnp.pad(later, padding)
        return whitened

    def unwhiten(self, columns: jax.Array) -> jax.Array:
        """Columns of which `whiten` makes these, where there is one component.

        Parameters
        ----------
        columns : jax.Array, shape (times, columns)
        """
        return jax.scipy.linalg.solve_triangular(self.root, columns)


def temporal_precision(
    components: ArrayLike, confounds: ArrayLike | ConfoundBasis | None = None
) -> TemporalPrecision:
    """Temporal precision components and confounds, decomposed once.

    `bayesdcm.observe.gaussian` calls this itself; call it beforehand where the components are
    arguments of compiled code, such as the prepared data of a model.

    Parameters
    ----------
    components : array_like
        Symmetric precision components, shape (k, times, times).
    confounds : array_like or ConfoundBasis, optional
        Effects of no interest, shape (times, q).

    Returns
    -------
    TemporalPrecision
        A tree of arrays, to be given to `bayesdcm.observe.gaussian` as `components`.

    Raises
    ------
    ValueError
        If shapes disagree, or the only component is not positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(temporal_precision(2 * np.eye(3)[None]).log_determinant), 4)
    2.0794
    """
    shape = jnp.shape(components)
    if len(shape) != 3 or shape[1] != shape[2] or not shape[0]:
        raise ValueError(f"components must have shape (k, times, times), got {shape}")
    if not isinstance(confounds, ConfoundBasis):
        confounds = confound_basis(checked_confounds(confounds, shape[1]), shape[1])
    xp = _namespace(components, confounds)
    components = xp.asarray(components, float)
    if shape[0] > 1:
        nothing = np.zeros((0, 0))
        bands = np.zeros((0, shape[1]))
        return TemporalPrecision(components, nothing, bands, np.zeros(()), confounds, confounds)
    root = _upper_root(components[0])
    whitened = confound_basis(root @ (confounds.basis * confounds.scale), shape[1])
    log_determinant = 2 * xp.log(xp.diagonal(root)).sum()
    return TemporalPrecision(components, root, _bands(root), log_determinant, confounds, whitened)


def checked_confounds(confounds: ArrayLike | None, n_times: int) -> ArrayLike | None:
    """The same confounds; an error where they do not have one row for each time."""
    shape = (n_times, 0) if confounds is None else jnp.shape(confounds)
    if len(shape) != 2 or shape[0] != n_times:
        raise ValueError(
            f"confounds must have shape (times, k), one row for each of the {n_times} times, "
            f"got {shape}"
        )
    return confounds


def _bands(root: Any) -> NDArray:
    """Diagonals of an upper triangular matrix if they are few."""
    times = len(root)
    if isinstance(root, np.ndarray) and not np.triu(root, MOST_BANDS).any():
        count = min(MOST_BANDS, times)
        padded = [np.r_[np.diagonal(root, k), np.zeros(k)] for k in range(count)]
        kept = [band for k, band in enumerate(padded) if np.triu(root, k).any()]
        return np.stack(kept)
    return np.zeros((0, times))


def _upper_root(component: Any) -> Any:
    xp = _namespace(component)
    try:
        return xp.linalg.cholesky(component).T
    except np.linalg.LinAlgError as error:
        raise ValueError(
            "components must be positive definite where there is one only, got a matrix with "
            f"eigenvalues down to {np.linalg.eigvalsh(component).min():.3g}"
        ) from error
