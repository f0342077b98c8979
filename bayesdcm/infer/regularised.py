"""Linear algebra of variational Laplace: jittered inverses, regularised steps, derivatives."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bayesdcm.infer.threads import map_rows

JITTER = float(np.exp(-32))
DIFFERENCE = float(np.exp(-8))


def inverse(matrix: jax.Array) -> jax.Array:
    """Inverse of a positive definite matrix with SPM's jitter, ``max(n ulp(norm), exp(-32))``."""
    return _plain_inverse(matrix + _jitter(matrix) * jnp.eye(len(matrix)))


def _plain_inverse(matrix: jax.Array) -> jax.Array:
    factor = jnp.linalg.cholesky(matrix)
    half = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(matrix)), lower=True)
    return half.T @ half


def bordered_inverse(matrix: jax.Array, n: int) -> jax.Array:
    """`inverse` of a matrix that is diagonal but for its first `n` rows and columns."""
    jittered = matrix + _jitter(matrix) * jnp.eye(len(matrix))
    diagonal = jnp.diagonal(jittered)[n:]
    crossed = jittered[:n, n:]
    gain = crossed / diagonal
    first = _plain_inverse(jittered[:n, :n] - gain @ crossed.T)
    beside = -first @ gain
    last = jnp.diag(1 / diagonal) - gain.T @ beside
    return jnp.block([[first, beside], [beside.T, last]])


def _jitter(matrix: jax.Array) -> jax.Array:
    norm = jnp.abs(matrix).sum(-1).max()
    spacing = 2.0 ** (jnp.floor(jnp.log2(norm)) - 52)
    return jnp.maximum(len(matrix) * spacing, JITTER)


def indefinite_inverse(matrix: jax.Array) -> jax.Array:
    """Inverse with SPM's jitter of a small symmetric matrix that need not be positive definite."""
    jitter = _jitter(matrix)
    if len(matrix) == 1:
        return 1 / (matrix + jitter)
    # Of a curvature, which a step has decomposed already.
    values, vectors = jnp.linalg.eigh(-matrix)
    return (vectors / (jitter - values)) @ vectors.T


def log_determinant(eigenvalues: jax.Array) -> jax.Array:
    """Log of the absolute determinant, without eigenvalues that are numerically 0 or infinite."""
    size = jnp.abs(eigenvalues)
    counted = (size > 1e-16) & (size < 1e16)
    return jnp.where(counted, jnp.log(jnp.where(counted, size, 1.0)), 0.0).sum()


def regularised_step(curvature: jax.Array, gradient: jax.Array, log_step: jax.Array) -> jax.Array:
    """Step ``(exp(t H) - 1) / H g`` (n,) with ``t = exp(v - logdet(H) / n)``.

    H (n, n) is the curvature of the objective, negative definite near an optimum, g (n,) its
    gradient; v goes from -4 (short steps) to 4 (Newton steps).

    >>> import jax.numpy as jnp
    >>> step = regularised_step(-jnp.eye(1), jnp.ones(1), jnp.asarray(4.0))
    >>> round(float(step[0]), 6)
    1.0
    """
    values, vectors = jnp.linalg.eigh(curvature)
    growth = _growth(values, log_step - log_determinant(values) / len(gradient))
    return vectors @ (growth * (vectors.T @ gradient))


def _growth(values: jax.Array, log_time: jax.Array) -> jax.Array:
    """Steps along eigenvectors for a gradient of one, ``(exp(t value) - 1) / value``."""
    t = jnp.exp(log_time)
    newton = t > jnp.exp(16.0)
    safe = jnp.where(values == 0, 1.0, values)
    # The exponential is bounded where the curvature has the wrong sign.
    growth = jnp.where(values == 0, t, jnp.expm1(jnp.minimum(t * values, 700.0)) / safe)
    return jnp.where(newton, jnp.where(values == 0, 0.0, -1 / safe), growth)


def diagonal_step(
    curvature: jax.Array, gradient: jax.Array, log_step: jax.Array, absolute: bool = False
) -> jax.Array:
    """`regularised_step` where the curvature, (n,), is diagonal.

    SPM takes the log-determinant of a diagonal matrix over its positive entries alone. Of a
    curvature that is negative, it is therefore zero and not the sum of logarithms, and the step is
    longer than that of a matrix with the least entry beside the diagonal. `absolute` takes it over
    all entries, for the eigenvalues of a matrix that is not diagonal itself.
    """
    counted = curvature if absolute else jnp.where(curvature > 0, curvature, 1.0)
    return _growth(curvature, log_step - log_determinant(counted) / len(gradient)) * gradient


def ascent_step(curvature: jax.Array, gradient: jax.Array, log_step: jax.Array) -> jax.Array:
    """`regularised_step`, or `diagonal_step` where the curvature is exactly diagonal."""
    diagonal = jnp.diagonal(curvature)
    plain = diagonal_step(diagonal, gradient, log_step)
    if len(gradient) == 1:
        return plain
    exactly = (curvature == jnp.diag(diagonal)).all()
    return jnp.where(exactly, plain, regularised_step(curvature, gradient, log_step))


def negative_semidefinite(curvature: jax.Array) -> jax.Array:
    """Nearest curvature of a concave log-prior; unchanged where the prior is log-concave."""
    values, vectors = jnp.linalg.eigh(curvature)
    concave = (values <= 0).all()
    clipped = (vectors * jnp.minimum(values, 0.0)) @ vectors.T
    return jnp.where(concave, curvature, clipped)


def half_log_determinant(matrix: jax.Array) -> jax.Array:
    """Half the log-determinant of a positive definite matrix."""
    return jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))).sum()


def one_sided_jacobian(function: Callable, point: jax.Array) -> tuple:
    """Jacobian by SPM's one-sided differences with a step of exp(-8), and the auxiliary output.

    The function returns a list of arrays, and an auxiliary output, that at `point` (n,); the arrays
    of the Jacobian have a first axis of length n.
    """
    value, auxiliary = function(point)
    steps = DIFFERENCE * jnp.eye(len(point))
    moved = map_rows(lambda step: function(point + step)[0], steps)
    jacobian = [(after - before) / DIFFERENCE for after, before in zip(moved, value, strict=True)]
    return jacobian, auxiliary
