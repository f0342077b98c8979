"""Covariances, or correlations, between the signals of regions: functional connectivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.bold import BoldData
from bayesdcm.data.checked_fields import CheckedFields
from bayesdcm.data.connectome import Connectome, check_connectome
from bayesdcm.data.connectome_validation import check_square
from bayesdcm.data.named_axes import in_order
from bayesdcm.data.spectral_estimates import without_confounds
from bayesdcm.data.validation import check_names, check_positive, describe, some_names

__all__ = ["CovarianceData"]

_SYMMETRIC = 1e-6
_SHOWN = 6
_AXES = ("regions", "regions")


@dataclass(frozen=True, eq=False, repr=False)
class CovarianceData(CheckedFields):
    """Covariance of the signals of regions at the same time, or their correlations.

    Parameters
    ----------
    covariance : array_like, shape (regions, regions)
        Symmetric, in squared units of the signals; with a diagonal of 1 it is a matrix of
        correlations, functional connectivity. Names of a DataFrame are those of the regions.
    degrees_of_freedom : float
        Number of independent samples behind it. Signals vary slowly, so that it is below the number
        of scans; `from_bold` works it out.
    region_names : sequence of str, optional
        By default "region 1", "region 2", ...
    unit : str
        Of the signals.
    connectome : Connectome, optional
        The person's own, which `bayesdcm.WholeBrainDCM` takes in place of that of the model.

    Raises
    ------
    TypeError
        If an argument does not hold the kind of values it should.
    ValueError
        If the matrix is not square, not symmetric, no covariance, or holds missing values, or names
        repeat.

    Examples
    --------
    >>> CovarianceData([[1.0, 0.4], [0.4, 1.0]], 120, ["V1", "V5"])
    CovarianceData(correlations of 2 regions (V1, V5), 120 degrees of freedom)
    """

    covariance: NDArray[np.float64]
    degrees_of_freedom: float
    region_names: tuple[str, ...] | None = None
    unit: str = "arbitrary"
    connectome: Connectome | None = None

    def __post_init__(self) -> None:
        """Check every argument and fill the defaults."""
        value, given = self.covariance, self.region_names
        if given is None and hasattr(value, "columns"):
            given = list(value.columns)
        if given is not None and not isinstance(given, str):
            source = ("region_names", list(given))
            value = in_order("covariance", value, {0: source, 1: source})
        matrix = check_square("covariance", value, _AXES)
        check_connectome(self.connectome)
        variances = np.diagonal(matrix)
        names = check_names("region_names", given, len(matrix), "region", "covariance")
        if (variances <= 0).any():
            which = int(np.flatnonzero(variances <= 0)[0])
            raise ValueError(
                f"covariance has {variances[which]:g} for {names[which]!r} with itself; expected a "
                "variance above 0. Leave out regions without signal; correlations have 1 there, "
                "which np.fill_diagonal(matrix, 1) gives"
            )
        scale = np.sqrt(np.outer(variances, variances))
        if np.abs(matrix - matrix.T).max() > _SYMMETRIC * scale.max():
            raise ValueError(
                "covariance is not symmetric; covariances at a lag, and effective connectivity, "
                "are not what this class is for"
            )
        if np.linalg.eigvalsh(matrix / scale)[0] < -np.sqrt(_SYMMETRIC):
            raise ValueError(
                "covariance has a negative eigenvalue, which no covariance has; values that were "
                "set to 0, or transformed to Fisher's z (undone by np.tanh), make such"
            )
        self._set(
            covariance=matrix,
            degrees_of_freedom=check_positive(
                "degrees_of_freedom", self.degrees_of_freedom, "samples"
            ),
            region_names=names,
        )

    @classmethod
    def from_bold(cls, bold: BoldData | Sequence[BoldData], correlation: bool = True) -> Self:
        """Covariance, by default correlations, of BOLD signals, with their degrees of freedom.

        Confounds are taken out. Samples count as Bartlett has it: that of a correlation of two
        series with the autocorrelations r_k has ``n / sum_k r_k^2`` independent ones; here r_k is
        the mean over regions.

        Parameters
        ----------
        bold : BoldData or sequence of BoldData
            Runs of the same regions; covariances are averages, weighted by degrees of freedom.
        correlation : bool
            Whether signals are scaled to a variance of 1.

        Raises
        ------
        TypeError, ValueError
            If there is no run, or runs have other regions.

        References
        ----------
        .. [1] Bartlett (1946), Suppl J R Stat Soc 8:27. https://doi.org/10.2307/2983611

        Examples
        --------
        >>> signal = np.random.default_rng(0).normal(size=(400, 2))
        >>> CovarianceData.from_bold(BoldData(signal, 2.0)).covariance.shape
        (2, 2)
        """
        runs = [bold] if isinstance(bold, BoldData) else list(bold)
        for run in runs:
            if not isinstance(run, BoldData):
                raise TypeError(f"bold must be BoldData, or several of them, got {describe(run)}")
        if not runs:
            raise ValueError("bold holds no run; expected at least one BoldData")
        names = runs[0].region_names
        for run in runs:
            if run.region_names != names:
                raise ValueError(
                    f"bold has runs of other regions, {some_names(run.region_names)} after "
                    f"{some_names(names)}; bring them in one order by run.reordered"
                )
        made = [_estimate(run, correlation) for run in runs]
        weights = np.array([freedom for _, freedom in made])
        mean = np.average([matrix for matrix, _ in made], axis=0, weights=weights)
        return cls(mean, weights.sum(), names, "1" if correlation else runs[0].unit)

    @property
    def is_correlation(self) -> bool:
        """Whether all variances are 1, so that nothing is known of the size of signals."""
        return bool(np.allclose(np.diagonal(self.covariance), 1.0, rtol=0, atol=_SYMMETRIC))

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.covariance)

    def _describe(self) -> dict[str, str]:
        kind = "correlations" if self.is_correlation else f"covariances, {self.unit} squared"
        return {
            "Of": kind,
            "Regions": f"{self.n_regions} ({some_names(self.region_names or ())})",
            "Degrees of freedom": f"{self.degrees_of_freedom:.4g}",
        }

    def __repr__(self) -> str:
        kind = "correlations" if self.is_correlation else "covariances"
        names = list(self.region_names or ())
        shown = ", ".join(names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "..."])
        return (
            f"CovarianceData({kind} of {self.n_regions} regions ({shown}), "
            f"{self.degrees_of_freedom:.4g} degrees of freedom)"
        )


def _estimate(run: BoldData, correlation: bool) -> tuple[NDArray[np.float64], float]:
    """Covariance of a run, and its degrees of freedom."""
    signal: Any = without_confounds(np.asarray(run.signal), np.asarray(run.confounds))
    n, left = len(signal), len(signal) - np.linalg.matrix_rank(np.asarray(run.confounds))
    covariance = signal.T @ signal / left
    sd = np.sqrt(np.diagonal(covariance))
    power = np.abs(np.fft.rfft(signal / sd, 2 * n, axis=0)) ** 2
    lagged = np.fft.irfft(power.mean(1), 2 * n)[:n]
    squares = (lagged / lagged[0])[1:] ** 2
    # Beyond where they are lost in their own errors, estimates would only add up.
    last = int(np.argmax(squares < 2 / n)) if (squares < 2 / n).any() else n - 1
    freedom = left / (1 + 2 * squares[:last].sum())
    return covariance / (np.outer(sd, sd) if correlation else 1.0), float(freedom)
