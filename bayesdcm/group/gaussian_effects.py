"""Effects of covariates on parameters, with a Gaussian posterior: tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.compare.reduction import with_interval


def tidy(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an effect, covariate by covariate, from tables (parameters, covariates) by column."""
    first = next(iter(tables.values()))
    pairs = [(c, p) for c in first.columns for p in first.index]
    long = pd.DataFrame(pairs, columns=["covariate", "parameter"])
    for name, table in tables.items():
        long[name] = table.to_numpy().T.ravel()
    return long


@dataclass(frozen=True, eq=False)
class GaussianEffects:
    """Effects of covariates (the first is the group mean) on parameters.

    Posterior means `centre` (parameters, covariates) and covariance `spread` (covariates x
    parameters, covariates x parameters), covariate by covariate; `log_evidence` of the group's
    model, nats.
    """

    covariates: tuple[str, ...]
    parameters: tuple[str, ...]
    log_evidence: float
    centre: NDArray = field(repr=False)
    spread: NDArray = field(repr=False)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Covariate and parameter of every effect, covariate by covariate."""
        return list(product(self.covariates, self.parameters))

    def _table(self, values: NDArray) -> pd.DataFrame:
        index = pd.Index(self.parameters, name="parameter")
        return pd.DataFrame(values, index, pd.Index(self.covariates, name="covariate"))

    @property
    def mean(self) -> pd.DataFrame:
        """Posterior means, parameters in rows and covariates in columns."""
        return self._table(self.centre.copy())

    @property
    def sd(self) -> pd.DataFrame:
        """Posterior standard deviations, as `mean`."""
        sd = np.sqrt(np.maximum(np.diagonal(self.spread), 0.0))
        return self._table(sd.reshape(len(self.covariates), -1).T)

    @property
    def covariance(self) -> pd.DataFrame:
        """Posterior covariance, labelled by covariate and parameter."""
        index = pd.MultiIndex.from_product(
            [self.covariates, self.parameters], names=["covariate", "parameter"]
        )
        return pd.DataFrame(self.spread, index, index)

    def summary(self) -> pd.DataFrame:
        """Posterior of every effect, one row each.

        Returns
        -------
        pandas.DataFrame
            Columns ``covariate``, ``parameter``, ``mean``, ``sd``, ``eti_5%``, ``eti_95%``
            (equal-tailed interval) and ``probability`` (that the effect has the sign of its
            mean; missing where it is off).
        """
        return with_interval(tidy({"mean": self.mean, "sd": self.sd}))


@dataclass(frozen=True, eq=False)
class ReducedEffects(GaussianEffects):
    """Effects on a group under a reduced model, in which some of them are off.

    Parameters
    ----------
    covariates, parameters, log_evidence, centre, spread
        As those of `GaussianEffects`.
    change : float
        Log-evidence minus that of the full model, nats.
    off : tuple of tuple
        Covariate and parameter of the effects that are off.
    """

    change: float
    off: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return (
            f"ReducedEffects({len(self.off)} of {self.centre.size} effects off, log evidence "
            f"{self.log_evidence:.2f} ({self.change:+.2f}))"
        )
