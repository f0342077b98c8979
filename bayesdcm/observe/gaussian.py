"""The Gaussian observation: precision components and confounds, one distribution for all methods.

Confounds are integrated out analytically under a prior N(0, 1e8) on their coefficients, the one
that SPM uses for fMRI in place of a flat prior: likelihoods stay proper and free energies
comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpy.typing import ArrayLike
from numpyro.distributions import constraints

from bayesdcm.observe.spectral_precision import SpectralPrecision
from bayesdcm.observe.temporal_precision import (
    ConfoundBasis,
    TemporalPrecision,
    checked_confounds,
    confound_basis,
    temporal_precision,
)

CONFOUND_PRECISION = 1e-8
# Added to every component's scale, as in SPM: the precision never vanishes altogether.
SMALLEST_SCALE = float(np.exp(-32))


class _Dense(NamedTuple):
    """Noise with a full precision: repeated over the second axis of the residual.

    `precision` (m, m), or its diagonal (m,); `design` of the confounds, (m, q).
    """

    precision: jax.Array
    design: jax.Array

    def matrix(self) -> jax.Array:
        return jnp.diag(self.precision) if self.precision.ndim == 1 else self.precision

    def root(self) -> jax.Array:
        return jnp.linalg.cholesky(self.matrix()).T

    def log_determinant(self) -> jax.Array:
        if self.precision.ndim == 1:
            return jnp.log(self.precision).sum()
        return 2 * jnp.log(jnp.diagonal(self.root())).sum()


class Linearised(NamedTuple):
    """What variational Laplace takes of an observation at a point.

    Attributes
    ----------
    columns : (times, columns)
        The prediction, as the precision of the observation weighs it.
    residual : (times, columns)
        Observed minus predicted, in the same terms.
    remainder : ()
        By what the log-density exceeds that of the Gaussian of this residual.
    """

    columns: jax.Array
    residual: jax.Array
    remainder: jax.Array


class GaussianObservation(dist.Distribution):
    """Gaussian distribution of an observed array about a prediction.

    The precision of the noise is ``sum_i Q_i (exp(-32) + exp(log_precision_i))``; without
    components, there is one for each column and ``Q_i`` is the identity on that column.

    Parameters
    ----------
    prediction : jax.Array
        Noise-free prediction, shape (times,) or (times, columns).
    log_precision : jax.Array
        Log-precisions, shape (components,).
    components : jax.Array, TemporalPrecision, SpectralPrecision or None
        Precision components over the flattened prediction (C order): their diagonals, shape
        (components, n), or full matrices, shape (components, n, n); or temporal components that
        the columns share, or one of blocks.
    confounds : ConfoundBasis
        Confounds of every column.
    confound_precision : float
        Prior precision of the confounds' coefficients.
    validate_args : bool, optional
        Taken for NumPyro's sake; shapes are checked by `gaussian`.

    See Also
    --------
    gaussian : the function that programs call.
    """

    # Whether the precision does not depend on the prediction.
    fixed_precision = True
    arg_constraints = {
        "prediction": constraints.independent(constraints.real, 2),
        "log_precision": constraints.real_vector,
    }
    pytree_data_fields = ("prediction", "log_precision", "components", "confounds")
    pytree_aux_fields = ("confound_precision",)

    def __init__(
        self,
        prediction: jax.Array,
        log_precision: jax.Array,
        components: jax.Array | TemporalPrecision | None,
        confounds: ConfoundBasis,
        confound_precision: float = CONFOUND_PRECISION,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.prediction = prediction
        self.log_precision = log_precision
        self.components = components
        self.confounds = confounds
        self.confound_precision = confound_precision
        super().__init__(event_shape=jnp.shape(prediction), validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        """Real arrays of the prediction's shape."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def columns(self) -> jax.Array:
        """The prediction as (times, columns)."""
        return self.prediction.reshape(self.prediction.shape[0], -1)

    @property
    def scales(self) -> jax.Array:
        """Precision of each component, ``exp(-32) + exp(log_precision)``."""
        return SMALLEST_SCALE + jnp.exp(self.log_precision)

    @property
    def has_confounds(self) -> bool:
        """Whether there is at least one confound."""
        return self.confounds.scale.shape[0] > 0

    @property
    def temporal(self) -> TemporalPrecision | SpectralPrecision | None:
        """Temporal components, or those of spectra, where it has them."""
        known = isinstance(self.components, TemporalPrecision | SpectralPrecision)
        return self.components if known else None

    @property
    def white(self) -> bool:
        """Whether columns are white once they are whitened by a matrix without parameters."""
        return self.components is None or (self.temporal is not None and self.temporal.single)

    @property
    def whitened_confounds(self) -> ConfoundBasis:
        """Confounds of `whiten`-ed columns."""
        return self.confounds if self.temporal is None else self.temporal.whitened

    def whiten(self, columns: jax.Array) -> jax.Array:
        """The root of a single temporal component times columns; other columns as they are.

        Parameters
        ----------
        columns : jax.Array, shape (..., times, columns)
        """
        return columns if self.temporal is None else self.temporal.whiten(columns)

    def unwhiten(self, columns: jax.Array) -> jax.Array:
        """Columns of which `whiten` makes these.

        Parameters
        ----------
        columns : jax.Array, shape (times, columns)
        """
        return columns if self.temporal is None else self.temporal.unwhiten(columns)

    def residual(self, value: jax.Array) -> jax.Array:
        """Observed minus predicted, (times, columns).

        Parameters
        ----------
        value : jax.Array, as observed
        """
        return jnp.reshape(value, self.columns.shape) - self.columns

    def confound_matrix(self) -> jax.Array:
        """Confounds of the flattened residual (C order), shape (n, k columns)."""
        times, columns = self.columns.shape
        scaled = self.confounds.basis * self.confounds.scale
        n_confounds = scaled.shape[1]
        matrix = scaled[:, None, None, :] * jnp.eye(columns)[None, :, :, None]
        return matrix.reshape(times * columns, columns * n_confounds)

    def precision(self) -> jax.Array:
        """Precision of the flattened noise: its diagonal (n,), or the matrix (n, n).

        With temporal components, that of one column, (times, times).
        """
        if self.components is None:
            return jnp.broadcast_to(self.scales, self.columns.shape).ravel()
        components = self.components if self.temporal is None else self.temporal.components
        return jnp.tensordot(self.scales, components, 1)

    def weigh(self, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The precision times a residual, and the diagonal of the precision, (times, columns).

        Parameters
        ----------
        residual : jax.Array, shape (times, columns)
        """
        if isinstance(self.temporal, SpectralPrecision):
            weighed, diagonal = self.temporal.weigh(residual)
            return self.scales * weighed, self.scales * diagonal
        precision = self.precision()
        if precision.ndim == 1:
            diagonal = precision.reshape(residual.shape)
            return diagonal * residual, diagonal
        weighed = (precision @ residual.reshape(len(precision), -1)).reshape(residual.shape)
        diagonal = jnp.diagonal(precision)
        if self.temporal is None:
            return weighed, diagonal.reshape(residual.shape)
        return weighed, jnp.broadcast_to(diagonal[:, None], residual.shape)

    def linearised(self, value: jax.Array) -> Linearised:
        """What variational Laplace takes of it: here, the Gaussian itself.

        Parameters
        ----------
        value : jax.Array, as observed
        """
        return Linearised(self.columns, self.residual(value), jnp.zeros(()))

    def pointwise(self, value: jax.Array, fitted: jax.Array) -> jax.Array:
        """Log-likelihood of each data point given drawn confounds, of the prediction's shape.

        Points that dense components correlate have no likelihood of their own: theirs is given
        conditional on all the others.

        Parameters
        ----------
        value : jax.Array, as observed
        fitted : jax.Array, from `fitted`
        """
        residual = (value - fitted).reshape(self.columns.shape)
        weighed, diagonal = self.weigh(residual)
        log_density = (jnp.log(diagonal / (2 * jnp.pi)) - weighed**2 / diagonal) / 2
        return log_density.reshape(self.event_shape)

    def _dense(self) -> _Dense:
        if self.temporal is None:
            return _Dense(self.precision(), self.confound_matrix())
        return _Dense(self.precision(), self.confounds.basis * self.confounds.scale)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density with the confounds integrated out; -inf where a prediction diverged."""
        log_density = self._log_prob_white(value) if self.white else self._log_prob_dense(value)
        return jnp.where(jnp.isfinite(log_density), log_density, -jnp.inf)

    def _log_prob_white(self, value: jax.Array) -> jax.Array:
        residual = self.whiten(self.residual(value))
        basis, scale = self.whitened_confounds
        inside = basis.T @ residual
        outside = residual - basis @ inside
        weight = jnp.broadcast_to(self.scales, residual.shape[1:])
        inflation = 1 + weight * scale[:, None] ** 2 / self.confound_precision
        quadratic = (weight * (outside**2).sum(0)).sum() + (weight * inside**2 / inflation).sum()
        log_determinant = residual.shape[0] * jnp.log(weight).sum() - jnp.log(inflation).sum()
        if self.temporal is not None:
            log_determinant += residual.shape[1] * self.temporal.log_determinant
        return (log_determinant - quadratic - residual.size * jnp.log(2 * jnp.pi)) / 2

    def _log_prob_dense(self, value: jax.Array) -> jax.Array:
        dense = self._dense()
        residual = self.residual(value).reshape(len(dense.precision), -1)
        log_determinant = dense.log_determinant()
        weighted = dense.matrix() @ residual
        quadratic = (residual * weighted).sum()
        if self.has_confounds:
            factor = jnp.linalg.cholesky(self._information(dense))
            projected = solve_triangular(factor, dense.design.T @ weighted, lower=True)
            quadratic = quadratic - (projected**2).sum()
            log_determinant += len(factor) * jnp.log(self.confound_precision)
            log_determinant -= 2 * jnp.log(jnp.diagonal(factor)).sum()
        log_determinant *= residual.shape[1]
        return (log_determinant - quadratic - residual.size * jnp.log(2 * jnp.pi)) / 2

    def _information(self, dense: _Dense) -> jax.Array:
        """Posterior precision of the confounds' coefficients."""
        information = dense.design.T @ dense.matrix() @ dense.design
        return information + self.confound_precision * jnp.eye(len(information))

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Prediction plus noise; confounds, having no proper prior, are left out."""
        noise = jax.random.normal(key, (*sample_shape, *self.columns.shape))
        if self.white:
            noise = noise / jnp.sqrt(jnp.broadcast_to(self.scales, self.columns.shape))
            if self.temporal is not None:
                noise = _over_samples(self.unwhiten, noise)
        else:
            noise = self._correlated(noise)
        return self.prediction + noise.reshape(*sample_shape, *self.event_shape)

    def _correlated(self, noise: jax.Array) -> jax.Array:
        dense = self._dense()
        rows = len(dense.precision)
        shaped = noise.reshape(*noise.shape[:-2], rows, -1)
        if dense.precision.ndim == 1:
            return (shaped / jnp.sqrt(dense.precision)[:, None]).reshape(noise.shape)
        root = dense.root()
        return _over_samples(lambda flat: solve_triangular(root, flat), shaped).reshape(noise.shape)

    def whitened_residual(self, value: jax.Array) -> jax.Array:
        """Residual with unit precision, confounds taken out, (times, columns).

        Its squares sum to the least that any coefficients of the confounds leave.

        Parameters
        ----------
        value : jax.Array, as observed
        """
        residual = self.residual(value)
        if self.white:
            # The same weight at all times: weighting and projecting commute.
            basis, residual = self.whitened_confounds.basis, self.whiten(residual)
            return (residual - basis @ (basis.T @ residual)) * jnp.sqrt(self.scales)
        dense = self._dense()
        root = dense.root()
        whitened = root @ residual.reshape(len(root), -1)
        if self.has_confounds:
            basis, _ = jnp.linalg.qr(root @ dense.design)
            whitened = whitened - basis @ (basis.T @ whitened)
        return whitened.reshape(residual.shape)

    def fitted(self, value: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Prediction plus the confounds that the observed value implies, of the same shape.

        Parameters
        ----------
        value : jax.Array, as observed
        key : jax.Array, optional
            Draw the confounds' coefficients from their posterior; None for their mean.
        """
        if not self.has_confounds:
            return self.prediction
        residual = self.residual(value)
        if self.white:
            basis, scale = self.whitened_confounds
            weight = jnp.broadcast_to(self.scales, residual.shape[1:])
            shrink = 1 + self.confound_precision / (weight * scale[:, None] ** 2)
            inside = (basis.T @ self.whiten(residual)) / shrink
            if key is not None:
                inside += jax.random.normal(key, inside.shape) / jnp.sqrt(weight * shrink)
            return self.prediction + self.unwhiten(basis @ inside).reshape(self.event_shape)
        dense = self._dense()
        information = self._information(dense)
        weighted = dense.matrix() @ residual.reshape(len(dense.precision), -1)
        mean = jnp.linalg.solve(information, dense.design.T @ weighted)
        if key is not None:
            factor = jnp.linalg.cholesky(information)
            mean = mean + jnp.linalg.solve(factor.T, jax.random.normal(key, mean.shape))
        return self.prediction + (dense.design @ mean).reshape(self.event_shape)


def _over_samples(function: Callable, noise: jax.Array) -> jax.Array:
    """A linear map of the columns (times, columns) of many samples, (..., times, columns)."""
    rows = noise.shape[-2]
    columns = jnp.moveaxis(noise, -2, 0)
    return jnp.moveaxis(function(columns.reshape(rows, -1)).reshape(columns.shape), 0, -2)


def gaussian(
    prediction: jax.Array,
    log_precision: jax.Array,
    components: ArrayLike | TemporalPrecision | None = None,
    confounds: ArrayLike | ConfoundBasis | None = None,
    confound_precision: float = CONFOUND_PRECISION,
) -> GaussianObservation:
    """Distribution of data about a prediction, for ``numpyro.sample(..., obs=data)``.

    Parameters
    ----------
    prediction : jax.Array
        Noise-free prediction, shape (times,) or (times, columns).
    log_precision : jax.Array
        Log-precisions of the noise, shape (components,) or (). Give the values of sites marked
        ``infer={"role": "precision"}`` (or an affine function of them), so that variational
        Laplace treats them as hyperparameters.
    components : array_like or TemporalPrecision, optional
        Precision components. Shape (components, times, times): temporal components, the same for
        every column, whose noises are independent. Or over the flattened prediction (C order):
        their diagonals, shape (components, n), or full matrices (components, n, n).
        None: one component a column, the identity on that column; a single log-precision then
        serves all columns. `temporal_precision` decomposes temporal components beforehand.
    confounds : array_like, optional
        Effects of no interest, shape (times, k), added to every column with coefficients that
        are integrated out.
    confound_precision : float
        Prior precision of their coefficients: 1e-8 as SPM has it for fMRI; for evoked responses
        SPM has exp(-16).

    Returns
    -------
    GaussianObservation
        The distribution, with event shape of the prediction.

    Raises
    ------
    ValueError
        If shapes disagree, a single temporal component is not positive definite, or
        `confound_precision` is not positive.

    References
    ----------
    .. [1] Friston et al. (2007), NeuroImage 34:220.
           https://doi.org/10.1016/j.neuroimage.2006.08.035

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(gaussian(jnp.zeros(2), jnp.zeros(())).log_prob(jnp.zeros(2))), 4)
    -1.8379
    """
    prediction = jnp.asarray(prediction)
    if prediction.ndim not in (1, 2):
        raise ValueError(
            f"prediction must have shape (times,) or (times, columns), got {prediction.shape}"
        )
    confound_precision = float(confound_precision)
    if not 0 < confound_precision < np.inf:
        raise ValueError(f"confound_precision must be positive, got {confound_precision}")
    log_precision = jnp.atleast_1d(jnp.asarray(log_precision))
    if isinstance(components, TemporalPrecision):
        if confounds is not None:
            raise ValueError(
                "confounds must be given to temporal_precision, not to gaussian, where "
                "components come from it"
            )
        _check_components(prediction, len(log_precision), components.components, temporal=True)
        confounds = components.confounds
    else:
        if components is not None and not isinstance(components, jax.Array):
            components = np.asarray(components)
        _check_components(prediction, len(log_precision), components)
        times = prediction.shape[0]
        if not isinstance(confounds, ConfoundBasis):
            confounds = confound_basis(checked_confounds(confounds, times), times)
        if components is not None and components.shape[1:] == (times, times):
            components = temporal_precision(components, confounds)
        elif components is not None:
            components = jnp.asarray(components)
    return GaussianObservation(prediction, log_precision, components, confounds, confound_precision)


def _check_components(
    prediction: jax.Array, count: int, components: Any, temporal: bool = False
) -> None:
    times, size = prediction.shape[0], prediction.size
    if components is None:
        n_columns = size // times if times else 0
        if count not in (1, n_columns):
            raise ValueError(
                f"log_precision must have one entry, or one for each of the {n_columns} columns "
                f"of the prediction, got {count}; give components for another structure"
            )
        return
    allowed = [(count, times, times)]
    if not temporal:
        allowed += [(count, size), (count, size, size)]
    if components.shape not in allowed:
        raise ValueError(
            f"components must have shape ({count}, {size}), ({count}, {size}, {size}) or "
            f"({count}, {times}, {times}) for {count} log-precisions and a prediction of "
            f"{prediction.shape}, got {components.shape}"
        )
