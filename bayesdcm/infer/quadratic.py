"""Quadratic forms of Gaussian observations: all that variational Laplace needs of the data.

With e the residual, J the Jacobian of the prediction beside the confounds, and Q_i a precision
component, an iteration uses e'Q_i e, J'Q_i e and J'Q_i J only, and these do not change while the
log-precisions are updated. Confounds enter as the orthogonal columns of their singular value
decomposition, after whitening where one temporal component serves all data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    @property
    def confound_precision(self) -> jax.Array:
        """Prior precisions of the confounds' coefficients."""
        return jnp.concatenate(
            [jnp.full(_n_confounds(fn), fn.confound_precision) for fn in self.observations]
        )

    @property
    def orthogonal_confounds(self) -> bool:
        """Whether the confounds' block of the curvature is diagonal."""
        return all(fn.white for fn in self.observations)

    @property
    def single_confounds(self) -> bool:
        """Whether no column has more than one confound."""
        return all(fn.confounds.scale.shape[0] < 2 for fn in self.observations)

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

    def initial_confounds(self, values: Sequence[jax.Array] | None = None) -> jax.Array:
        """Least-squares coefficients of the confounds on values, by default the data themselves."""
        parts = []
        values = self.values if values is None else values
        for fn, value in zip(self.observations, values, strict=True):
            basis, scale = fn.confounds
            coefficients = basis.T @ jnp.reshape(value, fn.columns.shape)
            if fn.white and fn.temporal is not None:
                explained = fn.whiten(basis @ coefficients)
                basis, scale = fn.whitened_confounds
                coefficients = basis.T @ explained
            # Confounds that depend on others have no coefficient of their own.
            distinct = scale > 1e-10 * scale.max(initial=0.0)
            safe = jnp.where(distinct, scale, 1.0)
            coefficients = jnp.where(distinct[:, None], coefficients / safe[:, None], 0.0)
            parts.append(coefficients.T.ravel())
        return jnp.concatenate(parts)


def _n_components(fn: GaussianObservation) -> int:
    return fn.log_precision.shape[0]


def _n_confounds(fn: GaussianObservation) -> int:
    return fn.columns.shape[1] * fn.confounds.scale.shape[0]


def without_prediction(fn: GaussianObservation) -> GaussianObservation:
    """The same observation about zero, so that what asks only for its noise traces no response."""
    nothing = jnp.zeros(fn.event_shape)
    return GaussianObservation(
        nothing, fn.log_precision, fn.components, fn.confounds, fn.confound_precision
    )


def component_log_precisions(observations: list[GaussianObservation]) -> jax.Array:
    """Log-precisions of all components, site by site, shape (components,)."""
    return jnp.concatenate([fn.log_precision for fn in observations])


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
    times, columns = fn.columns.shape
    if fn.white:
        constant = 0.0 if fn.temporal is None else columns * fn.temporal.log_determinant
        return times * (columns // len(scales)) * jnp.log(scales).sum() + constant
    precision = jnp.tensordot(scales, _matrices(fn), 1)
    if precision.ndim == 1:
        return jnp.log(precision).sum()
    return fn.columns.size // len(precision) * jnp.linalg.slogdet(precision)[1]


def _matrices(fn: GaussianObservation) -> jax.Array:
    """Components as arrays."""
    return fn.components if fn.temporal is None else fn.temporal.components


def _traces(
    fn: GaussianObservation, scales: jax.Array, soft: jax.Array
) -> tuple[jax.Array, jax.Array]:
    if fn.white:
        share, count = soft / scales, fn.columns.size // len(scales)
        return count * share, count * jnp.diag(share**2)
    components = _matrices(fn)
    precision = jnp.tensordot(scales, components, 1)
    if precision.ndim == 1:
        share = soft[:, None] * components / precision
        return share.sum(1), share @ share.T
    covariance, repeats = jnp.linalg.inv(precision), fn.columns.size // len(precision)
    share = soft[:, None, None] * (components @ covariance)
    pairs = jnp.einsum("iab,jba->ij", share, share)
    return repeats * jnp.trace(share, axis1=1, axis2=2), repeats * pairs


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
        Of the predictions by the parameters, one a site, (parameters, times, columns).
    residual : list of jax.Array
        Observed minus predicted, confounds not yet taken out, (times, columns).
    confounds : jax.Array
        Coefficients of the confounds, site by site and column by column.

    Returns
    -------
    Quadratic
        With n the number of parameters plus all confound coefficients.
    """
    n_parameters = jacobian[0].shape[0]
    n = n_parameters + len(confounds)
    parts, start = [], n_parameters
    for fn, J, e in zip(noise.observations, jacobian, residual, strict=True):
        size = _n_confounds(fn)
        coefficients = confounds[start - n_parameters : start - n_parameters + size]
        forms = Quadratic(*_forms_of(fn)(fn, J, e, coefficients))
        parts.append(_widened(forms, n_parameters, start - n_parameters, n - start - size))
        start += size
    return jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)


def _widened(forms: Quadratic, n_parameters: int, before: int, after: int) -> Quadratic:
    """Forms with rows and columns of zeros for the confounds of other sites."""
    if before == after == 0:
        return forms

    def widen(array: jax.Array, axis: int) -> jax.Array:
        parameters, confounds = jnp.split(array, [n_parameters], axis=axis)
        padding = [(0, 0)] * array.ndim
        padding[axis] = (before, after)
        return jnp.concatenate([parameters, jnp.pad(confounds, padding)], axis=axis)

    curvature = widen(widen(forms.curvature, 1), 2)
    return Quadratic(curvature, widen(forms.gradient, 1), forms.squared)


def _forms_of(fn: GaussianObservation) -> Callable:
    if fn.white:
        return _shared if len(fn.log_precision) == 1 else _columns
    return _components if fn.temporal is None else _temporal


def _columns(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """One component a column: the confounds of a column meet no other."""
    scaled = fn.confounds.basis * fn.confounds.scale
    n_parameters, _, columns = jacobian.shape
    n_confounds = scaled.shape[1]
    error = residual - scaled @ coefficients.reshape(columns, n_confounds).T
    J = jacobian.transpose(2, 1, 0)
    by_parameters = jnp.swapaxes(J, 1, 2) @ J
    crossed = jnp.swapaxes(J, 1, 2) @ scaled
    # Of each column's component, the confounds' block of that column alone is not zero.
    same = np.eye(columns)
    crossed = crossed[:, :, None, :] * same[:, None, :, None]
    crossed = crossed.reshape(columns, n_parameters, columns * n_confounds)
    squares = same[:, :, None] * fn.confounds.scale**2
    corner = jax.vmap(jnp.diag)(squares.reshape(columns, -1))
    curvature = jnp.block([[by_parameters, crossed], [jnp.swapaxes(crossed, 1, 2), corner]])
    by_confounds = same[:, :, None] * (error.T @ scaled)[:, None, :]
    gradient = [(J * error.T[:, :, None]).sum(1), by_confounds.reshape(columns, -1)]
    return curvature, jnp.concatenate(gradient, axis=1), (error**2).sum(0)


def _shared(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """One component for all columns, which are white once they are whitened."""
    basis, scale = fn.whitened_confounds
    n_parameters, _, columns = jacobian.shape
    scaled = basis * scale
    error = fn.whiten(residual) - scaled @ coefficients.reshape(columns, -1).T
    J = fn.whiten(jacobian)
    flat = J.reshape(n_parameters, residual.size)
    crossed = jnp.einsum("ptc,tq->pcq", J, scaled).reshape(n_parameters, columns * len(scale))
    corner = jnp.diag(jnp.tile(scale**2, columns))
    curvature = jnp.block([[flat @ flat.T, crossed], [crossed.T, corner]])
    gradient = jnp.concatenate([flat @ error.ravel(), (error.T @ scaled).ravel()])
    return curvature[None], gradient[None], (error**2).sum()[None]


def _temporal(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """Several temporal components, the same for all columns."""
    components = fn.temporal.components
    n_parameters, _, columns = jacobian.shape
    scaled = fn.confounds.basis * fn.confounds.scale
    error = residual - scaled @ coefficients.reshape(columns, -1).T
    weighed_design = components @ scaled
    weighed_error = components @ error
    weighed = jnp.einsum("ist,ptc->ipsc", components, jacobian)
    weighed = weighed.reshape(len(components), n_parameters, residual.size)
    flat = jacobian.reshape(n_parameters, residual.size)
    crossed = jnp.einsum("ptc,itq->ipcq", jacobian, weighed_design)
    crossed = crossed.reshape(len(components), n_parameters, columns * scaled.shape[1])
    corner = jax.vmap(lambda block: jnp.kron(jnp.eye(columns), block))(scaled.T @ weighed_design)
    curvature = jnp.block([[weighed @ flat.T, crossed], [jnp.swapaxes(crossed, 1, 2), corner]])
    by_confounds = (jnp.swapaxes(weighed_error, 1, 2) @ scaled).reshape(len(components), -1)
    by_parameters = weighed_error.reshape(len(components), -1) @ flat.T
    gradient = jnp.concatenate([by_parameters, by_confounds], axis=1)
    return curvature, gradient, (weighed_error * error).sum((1, 2))


def _components(
    fn: GaussianObservation, jacobian: jax.Array, residual: jax.Array, coefficients: jax.Array
) -> tuple:
    """Any components, over the flattened residual."""
    design = fn.confound_matrix()
    J = jnp.concatenate([jacobian.reshape(len(jacobian), residual.size).T, design], axis=1)
    error = residual.ravel() - design @ coefficients
    if fn.components.ndim == 2:
        weighted = fn.components[:, :, None] * J
        weighted_error = fn.components * error
    else:
        weighted = fn.components @ J
        weighted_error = fn.components @ error
    curvature = jnp.einsum("np,inq->ipq", J, weighted)
    return curvature, weighted_error @ J, weighted_error @ error
