"""The precision of cross-spectra in SPM's likelihood: entries of one frequency are correlated."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from bayesdcm.integrate.hermitian import columns_to_entries
from bayesdcm.observe.temporal_precision import ConfoundBasis, confound_basis


class SpectralPrecision(NamedTuple):
    """A precision of columns (rows, columns) that is a block for each row.

    It stands in the place of a `bayesdcm.observe.TemporalPrecision` with one component, without
    confounds. Made by `spectral_precision`.

    Attributes
    ----------
    root : (rows, columns, columns)
        Upper triangular R with R'R the precision of a row.
    log_determinant : ()
        Of all rows together, divided by the number of columns.
    confounds, whitened : ConfoundBasis
        None.
    """

    root: jax.Array
    log_determinant: jax.Array
    confounds: ConfoundBasis
    whitened: ConfoundBasis

    @property
    def single(self) -> bool:
        """True: there is one component."""
        return True

    def whiten(self, series: jax.Array) -> jax.Array:
        """R times each row, shape (..., rows, columns).

        Parameters
        ----------
        series : jax.Array
            Shape (..., rows, columns).
        """
        return (self.root * series[..., None, :]).sum(-1)

    def unwhiten(self, series: jax.Array) -> jax.Array:
        """Rows of which `whiten` makes these, shape (rows, columns).

        Parameters
        ----------
        series : jax.Array
            Shape (rows, columns).
        """
        solve = jax.scipy.linalg.solve_triangular
        return jax.vmap(solve)(self.root, series)

    def weigh(self, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The precision times a residual, and its diagonal, shape (rows, columns).

        Parameters
        ----------
        residual : jax.Array
            Shape (rows, columns).
        """
        weighed = (self.root * self.whiten(residual)[..., None]).sum(-2)
        return weighed, (self.root**2).sum(-2)


def spectral_precision(spectra: NDArray, repetitions: int = 1) -> SpectralPrecision:
    """Precision of SPM's likelihood, as ``spm_dcm_csd_Q`` has it, of Hermitian data.

    With S the cross-spectra of the data, entries (i, j) and (k, l) of one frequency have the
    covariance ``S_ik S_jl``, to which a 32nd of the largest column sum is added on the diagonal.

    Parameters
    ----------
    spectra : ndarray
        Cross-spectra, shape (frequencies, n, n), Hermitian.
    repetitions : int
        How often the rows are repeated, one block of frequencies after the other.

    Returns
    -------
    SpectralPrecision
        Of the columns that `bayesdcm.integrate.hermitian.to_columns` makes.

    Examples
    --------
    >>> precision = spectral_precision(np.ones((3, 1, 1)))
    >>> round(float(np.exp(precision.log_determinant / 3)), 4), 32 / 33
    (0.9697, 0.969696...)
    """
    n = spectra.shape[-1]
    covariance = np.einsum("fik,fjl->fijkl", spectra, spectra).reshape(-1, n * n, n * n)
    largest = np.abs(covariance).sum(1).max()
    covariance = covariance + largest / 32 * np.eye(n * n)
    # As many real numbers as complex entries: quadratic forms and counts are SPM's. The
    # log-determinant is that of the complex matrix, as SPM has it.
    entries = columns_to_entries(n)
    precision = (entries.conj().T @ np.linalg.inv(covariance) @ entries).real
    root = np.linalg.cholesky((precision + precision.mT) / 2).mT
    log_determinant = -np.linalg.slogdet(covariance)[1].sum() * repetitions / n**2
    nothing = confound_basis(None, len(root) * repetitions)
    tiled = np.tile(root, (repetitions, 1, 1))
    return SpectralPrecision(tiled, np.asarray(log_determinant), nothing, nothing)
