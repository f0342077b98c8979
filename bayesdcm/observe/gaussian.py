"""The Gaussian observation: precision components and confounds, one distribution for all methods.

Confounds are integrated out analytically under a prior N(0, 1e8) on their coefficients, the one
that SPM uses in place of a flat prior: likelihoods stay proper and free energies comparable.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpy.typing import ArrayLike
from numpyro.distributions import constraints

CONFOUND_PRECISION = 1e-8
# Added to every component's scale, as in SPM: the precision never vanishes altogether.
SMALLEST_SCALE = float(np.exp(-32))


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
    # Data that jit passes in are decomposed where they are used; all others only once.
    xp = jnp if isinstance(confounds, jax.core.Tracer) else np
    basis, scale, _ = xp.linalg.svd(xp.asarray(confounds), full_matrices=False)
    return ConfoundBasis(basis, scale)


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
    components : jax.Array or None
        Precision components over the flattened prediction (C order): their diagonals, shape
        (components, n), or full matrices, shape (components, n, n).
    confounds : ConfoundBasis
        Confounds of every column.
    validate_args : bool, optional
        Taken for NumPyro's sake; shapes are checked by `gaussian`.

    See Also
    --------
    gaussian : the function that programs call.
    """

    arg_constraints = {
        "prediction": constraints.independent(constraints.real, 2),
        "log_precision": constraints.real_vector,
    }
    pytree_data_fields = (
        "prediction",
        "log_precision",
        "components",
        "confounds",
    )

    def __init__(
        self,
        prediction: jax.Array,
        log_precision: jax.Array,
        components: jax.Array | None,
        confounds: ConfoundBasis,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.prediction = prediction
        self.log_precision = log_precision
        self.components = components
        self.confounds = confounds
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

    def residual(self, value: jax.Array) -> jax.Array:
        """Observed minus predicted.

        Parameters
        ----------
        value : jax.Array
            Observed array.

        Returns
        -------
        jax.Array
            Shape (times, columns).
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
        """Precision of the flattened noise: its diagonal (n,), or the matrix (n, n)."""
        if self.components is None:
            return jnp.broadcast_to(self.scales, self.columns.shape).ravel()
        return jnp.tensordot(self.scales, self.components, 1)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density with the confounds integrated out; -inf where a prediction diverged."""
        log_density = (
            self._log_prob_columns(value)
            if self.components is None
            else self._log_prob_components(value)
        )
        return jnp.where(jnp.isfinite(log_density), log_density, -jnp.inf)

    def _log_prob_columns(self, value: jax.Array) -> jax.Array:
        residual = self.residual(value)
        basis, scale = self.confounds
        inside = basis.T @ residual
        outside = residual - basis @ inside
        weight = jnp.broadcast_to(self.scales, residual.shape[1:])
        inflation = 1 + weight * scale[:, None] ** 2 / CONFOUND_PRECISION
        quadratic = (weight * (outside**2).sum(0)).sum() + (weight * inside**2 / inflation).sum()
        log_determinant = residual.shape[0] * jnp.log(weight).sum() - jnp.log(inflation).sum()
        return (log_determinant - quadratic - residual.size * jnp.log(2 * jnp.pi)) / 2

    def _log_prob_components(self, value: jax.Array) -> jax.Array:
        residual = self.residual(value).ravel()
        precision = self.precision()
        if precision.ndim == 1:
            log_determinant = jnp.log(precision).sum()
            precision = jnp.diag(precision)
        else:
            factor = jnp.linalg.cholesky(precision)
            log_determinant = 2 * jnp.log(jnp.diagonal(factor)).sum()
        weighted = precision @ residual
        quadratic = residual @ weighted
        if self.has_confounds:
            design = self.confound_matrix()
            information = design.T @ precision @ design
            information = information + CONFOUND_PRECISION * jnp.eye(len(information))
            factor = jnp.linalg.cholesky(information)
            projected = jax.scipy.linalg.solve_triangular(factor, design.T @ weighted, lower=True)
            quadratic = quadratic - (projected**2).sum()
            log_determinant += len(information) * jnp.log(CONFOUND_PRECISION)
            log_determinant -= 2 * jnp.log(jnp.diagonal(factor)).sum()
        return (log_determinant - quadratic - residual.size * jnp.log(2 * jnp.pi)) / 2

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Prediction plus noise; confounds, having no proper prior, are left out."""
        noise = jax.random.normal(key, (*sample_shape, *self.columns.shape))
        if self.components is None:
            noise = noise / jnp.sqrt(jnp.broadcast_to(self.scales, self.columns.shape))
        else:
            noise = self._correlated(noise)
        return self.prediction + noise.reshape(*sample_shape, *self.event_shape)

    def _correlated(self, noise: jax.Array) -> jax.Array:
        precision = self.precision()
        flat = noise.reshape(*noise.shape[:-2], -1)
        if precision.ndim == 1:
            return (flat / jnp.sqrt(precision)).reshape(noise.shape)
        factor = jnp.linalg.cholesky(precision)
        solved = jnp.linalg.solve(factor.T, jnp.moveaxis(flat, -1, 0).reshape(len(factor), -1))
        return jnp.moveaxis(solved.reshape(-1, *flat.shape[:-1]), 0, -1).reshape(noise.shape)

    def whitened_residual(self, value: jax.Array) -> jax.Array:
        """Residual with unit precision, confounds taken out.

        Its squares sum to the least that any coefficients of the confounds leave.

        Parameters
        ----------
        value : jax.Array
            Observed array.

        Returns
        -------
        jax.Array
            Shape (times, columns).
        """
        residual = self.residual(value)
        if self.components is None:
            # The same weight at all times: weighting and projecting commute.
            basis = self.confounds.basis
            return (residual - basis @ (basis.T @ residual)) * jnp.sqrt(self.scales)
        precision = self.precision()
        precision = jnp.diag(precision) if precision.ndim == 1 else precision
        root = jnp.linalg.cholesky(precision).T
        whitened = root @ residual.ravel()
        if self.has_confounds:
            basis, _ = jnp.linalg.qr(root @ self.confound_matrix())
            whitened = whitened - basis @ (basis.T @ whitened)
        return whitened.reshape(residual.shape)

    def fitted(self, value: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Prediction plus the confounds that the observed value implies.

        Parameters
        ----------
        value : jax.Array
            Observed array.
        key : jax.Array, optional
            Draw the confounds' coefficients from their posterior; None for their mean.

        Returns
        -------
        jax.Array
            Shape of the prediction.
        """
        if not self.has_confounds:
            return self.prediction
        residual = self.residual(value)
        if self.components is None:
            basis, scale = self.confounds
            weight = jnp.broadcast_to(self.scales, residual.shape[1:])
            shrink = 1 + CONFOUND_PRECISION / (weight * scale[:, None] ** 2)
            inside = (basis.T @ residual) / shrink
            if key is not None:
                inside += jax.random.normal(key, inside.shape) / jnp.sqrt(weight * shrink)
            return self.prediction + (basis @ inside).reshape(self.event_shape)
        precision = self.precision()
        precision = jnp.diag(precision) if precision.ndim == 1 else precision
        design = self.confound_matrix()
        information = design.T @ precision @ design
        information = information + CONFOUND_PRECISION * jnp.eye(len(information))
        mean = jnp.linalg.solve(information, design.T @ (precision @ residual.ravel()))
        if key is not None:
            factor = jnp.linalg.cholesky(information)
            mean = mean + jnp.linalg.solve(factor.T, jax.random.normal(key, mean.shape))
        return self.prediction + (design @ mean).reshape(self.event_shape)


def gaussian(
    prediction: jax.Array,
    log_precision: jax.Array,
    components: ArrayLike | None = None,
    confounds: ArrayLike | ConfoundBasis | None = None,
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
    components : array_like, optional
        Precision components over the flattened prediction (C order): their diagonals,
        shape (components, n), or full matrices (components, n, n). None: one component a
        column, the identity on that column; a single log-precision then serves all columns.
    confounds : array_like, optional
        Effects of no interest, shape (times, k), added to every column with coefficients that
        are integrated out.

    Returns
    -------
    GaussianObservation
        The distribution, with event shape of the prediction.

    Raises
    ------
    ValueError
        If shapes disagree.

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
    log_precision = jnp.atleast_1d(jnp.asarray(log_precision))
    n_columns = 1 if prediction.ndim == 1 else prediction.shape[1]
    if components is not None:
        components = jnp.asarray(components)
        expected = (len(log_precision),) + (prediction.size,) * (components.ndim - 1)
        if components.ndim not in (2, 3) or components.shape != expected:
            raise ValueError(
                f"components must have shape ({len(log_precision)}, {prediction.size}) or "
                f"({len(log_precision)}, {prediction.size}, {prediction.size}) for "
                f"{len(log_precision)} log-precisions and a prediction of "
                f"{prediction.shape}, got {components.shape}"
            )
    elif len(log_precision) not in (1, n_columns):
        raise ValueError(
            f"log_precision must have one entry, or one for each of the {n_columns} columns of "
            f"the prediction, got {len(log_precision)}; give components for another structure"
        )
    if not isinstance(confounds, ConfoundBasis):
        shape = (prediction.shape[0], 0) if confounds is None else jnp.shape(confounds)
        if len(shape) != 2 or shape[0] != prediction.shape[0]:
            raise ValueError(
                f"confounds must have shape (times, k), one row for each of the "
                f"{prediction.shape[0]} times, got {shape}"
            )
        confounds = confound_basis(confounds, prediction.shape[0])
    return GaussianObservation(prediction, log_precision, components, confounds)
