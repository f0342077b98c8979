"""Quadratic forms of Gaussian observations: all that variational Laplace needs of the data.

With e the residual, J the Jacobian of the prediction beside the confounds, and Q_i a precision
component, an iteration uses e'Q_i e, J'Q_i e and J'Q_i J only, and these do not change while the
log-precisions are updated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.observe.gaussian import SMALLEST_SCALE, GaussianObservation


class Quadratic(NamedTuple):
    """Forms of the joined parameters (free parameters, then confound coefficients).

    Attributes
    ----------
    curvature : (components, n, n)
        J'Q_i J.
    gradient : (components, n)
        J'Q_i e.
    squared : (components,)
        e'Q_i e.
    """

    curvature: jax.Array
    gradient: jax.Array
    squared: jax.Array


class Noise(NamedTuple):
    """Noise of all observed sites: what does not depend on the parameters.

    Attributes
    ----------
    observations : list of GaussianObservation
        One a site; their predictions and log-precisions are not used.
    values : list of jax.Array
        Observed arrays, one a site.
    offset, design : (components,), (components, precisions)
        The components' log-precisions as an affine function of the precision sites.
    """

    observations: list[GaussianObservation]
    values: list[jax.Array]
    offset: jax.Array
    design: jax.Array

    @property
    def n_data(self) -> int:
        """Number of data points."""
        return sum(fn.columns.size for fn in self.observations)

    @property
    def counts(self) -> list[int]:
        """Number of components of each site."""
        return [_n_components(fn) for fn in self.observations]

    def scales(self, log_precision: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scales of the components with and without the floor of exp(-32)."""
        soft = jnp.exp(self.offset + self.design @ log_precision)
        return SMALLEST_SCALE + soft, soft

    def _split(self, values: jax.Array) -> list[jax.Array]:
        return jnp.split(values, np.cumsum(self.counts)[:-1])

    def log_determinant(self, scales: jax.Array) -> jax.Array:
        """Log-determinant of the precision of all data."""
        return sum(
            _log_determinant(fn, part)
            for fn, part in zip(self.observations, self._split(scales), strict=True)
        )

    def traces(self, scales: jax.Array, soft: jax.Array) -> tuple[jax.Array, jax.Array]:
        """tr(P_i S), shape (components,), and tr(P_i S P_j S), shape (components, components)."""
        parts = [
            _traces(fn, scale, part)
            for fn, scale, part in zip(
                self.observations, self._split(scales), self._split(soft), strict=True
            )
        ]
        single = jnp.concatenate([trace for trace, _ in parts])
        return single, jax.scipy.linalg.block_diag(*(pair for _, pair in parts))

    def initial_confounds(self) -> jax.Array:
        """Least-squares coefficients of the confounds on the data themselves."""
        found = []
        for fn, value in zip(self.observations, self.values, strict=True):
            basis, scale = fn.confounds
            coefficients = basis.T @ jnp.reshape(value, fn.columns.shape) / scale[:, None]
            found.append(coefficients.T.ravel())
        return jnp.concatenate(found)


def _n_components(fn: GaussianObservation) -> int:
    return fn.columns.shape[1] if fn.components is None else fn.components.shape[0]


def component_log_precisions(observations: list[GaussianObservation]) -> jax.Array:
    """Log-precisions of all components, site by site, shape (components,)."""
    return jnp.concatenate(
        [jnp.broadcast_to(fn.log_precision, (_n_components(fn),)) for fn in observations]
    )


def noise_of(
    observations: list[tuple[GaussianObservation, jax.Array]],
    log_precisions: Callable[[jax.Array], jax.Array],
    at: jax.Array,
) -> Noise:
    """Noise of a program.

    Parameters
    ----------
    observations : list of (GaussianObservation, jax.Array)
        Distribution and observed value of each site.
    log_precisions : callable
        The components' log-precisions as a function of the precision sites.
    at : jax.Array
        Where to linearise that function, which is taken to be affine.

    Returns
    -------
    Noise
        Structure of the noise.
    """
    offset = log_precisions(at)
    design = jnp.zeros((len(offset), 0))
    if at.size:
        design = jax.jacfwd(log_precisions)(at)
        offset = offset - design @ at
    return Noise([fn for fn, _ in observations], [v for _, v in observations], offset, design)


def _log_determinant(fn: GaussianObservation, scales: jax.Array) -> jax.Array:
    if fn.components is None:
        return fn.columns.shape[0] * jnp.log(scales).sum()
    precision = jnp.tensordot(scales, fn.components, 1)
    if precision.ndim == 1:
        return jnp.log(precision).sum()
    return jnp.linalg.slogdet(precision)[1]


def _traces(
    fn: GaussianObservation, scales: jax.Array, soft: jax.Array
) -> tuple[jax.Array, jax.Array]:
    if fn.components is None:
        share = soft / scales
        times = fn.columns.shape[0]
        return times * share, times * jnp.diag(share**2)
    precision = jnp.tensordot(scales, fn.components, 1)
    if precision.ndim == 1:
        share = soft[:, None] * fn.components / precision
        return share.sum(1), share @ share.T
    covariance = jnp.linalg.inv(precision)
    share = soft[:, None, None] * (fn.components @ covariance)
    return jnp.trace(share, axis1=1, axis2=2), jnp.einsum("iab,jba->ij", share, share)


def quadratic_forms(
    noise: Noise,
    jacobian: list[jax.Array],
    residual: list[jax.Array],
    confounds: jax.Array,
) -> Quadratic:
    """Forms of all sites over the joined parameters.

    Parameters
    ----------
    noise : Noise
        Structure of the noise.
    jacobian : list of jax.Array
        Of the predictions by the parameters, one a site, (times, columns, parameters).
    residual : list of jax.Array
        Observed minus predicted, confounds not yet taken out, (times, columns).
    confounds : jax.Array
        Coefficients of the confounds, site by site and column by column.

    Returns
    -------
    Quadratic
        With n the number of parameters plus all confound coefficients.
    """
    n_parameters = jacobian[0].shape[-1]
    n = n_parameters + len(confounds)
    parts, start = [], n_parameters
    for fn, J, e in zip(noise.observations, jacobian, residual, strict=True):
        size = fn.columns.shape[1] * fn.confounds.scale.shape[0]
        own = confounds[start - n_parameters : start - n_parameters + size]
        forms = _columns if fn.components is None else _components
        index = jnp.concatenate([jnp.arange(n_parameters), jnp.arange(start, start + size)])
        curvature, gradient, squared = forms(fn, J, e, own)
        parts.append(
            Quadratic(
                jnp.zeros((len(squared), n, n)).at[:, index[:, None], index].set(curvature),
                jnp.zeros((len(squared), n)).at[:, index].set(gradient),
                squared,
            )
        )
        start += size
    return jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)


def _columns(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """One component a column: the confounds of a column meet no other."""
    scaled = fn.confounds.basis * fn.confounds.scale
    columns, n_parameters = jacobian.shape[1:]
    n_confounds = scaled.shape[1]
    own = coefficients.reshape(columns, n_confounds)
    error = residual - scaled @ own.T
    J = jnp.moveaxis(jacobian, 1, 0)
    by_parameters = jnp.swapaxes(J, 1, 2) @ J
    crossed = jnp.swapaxes(J, 1, 2) @ scaled
    size = n_parameters + columns * n_confounds
    curvature = jnp.zeros((columns, size, size))
    curvature = curvature.at[:, :n_parameters, :n_parameters].set(by_parameters)
    gradient = jnp.zeros((columns, size))
    gradient = gradient.at[:, :n_parameters].set((J * error.T[:, :, None]).sum(1))
    for c in range(columns):
        block = slice(n_parameters + c * n_confounds, n_parameters + (c + 1) * n_confounds)
        curvature = curvature.at[c, :n_parameters, block].set(crossed[c])
        curvature = curvature.at[c, block, :n_parameters].set(crossed[c].T)
        curvature = curvature.at[c, block, block].set(jnp.diag(fn.confounds.scale**2))
        gradient = gradient.at[c, block].set(scaled.T @ error[:, c])
    return curvature, gradient, (error**2).sum(0)


def _components(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """Any components, over the flattened residual."""
    design = fn.confound_matrix()
    J = jnp.concatenate([jacobian.reshape(-1, jacobian.shape[-1]), design], axis=1)
    error = residual.ravel() - design @ coefficients
    if fn.components.ndim == 2:
        weighted = fn.components[:, :, None] * J
        weighted_error = fn.components * error
    else:
        weighted = fn.components @ J
        weighted_error = fn.components @ error
    curvature = jnp.einsum("np,inq->ipq", J, weighted)
    return curvature, weighted_error @ J, weighted_error @ error
