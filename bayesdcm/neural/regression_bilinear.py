"""The bilinear neural model with the priors of regression DCM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayesdcm.neural.base import Prior
from bayesdcm.neural.bilinear import INPUT_SCALE
from bayesdcm.neural.rate_bilinear import RateBilinear

SELF_CONNECTION = -0.5
# Over and times the number of regions.
VARIANCE, SELF_VARIANCE = 8.0, 1 / 8
INPUT_VARIANCE = 256.0


@dataclass(frozen=True, eq=False)
class RegressionBilinear(RateBilinear):
    """One neuronal state per region, ``dx/dt = (A + sum_j u_j B_j) x + (C / 16) u``, rates in Hz.

    Nothing is transformed, so that rates are linear in parameters, as regression needs.

    Parameters
    ----------
    A, B, C, D : ndarray
        Switches as in `bayesdcm.neural.Bilinear`; `D` must be None.
    nonlinearity : None
        See `bayesdcm.neural.RateBilinear`.

    Notes
    -----
    Priors are those of [1]_, with n regions: ``A_ii ~ N(-1/2, 1 / (8 n))``, ``A_ij ~ N(0, 8 / n)``,
    `B` N(0, 1), and `C` N(0, 1) in Hz, which is N(0, 256) in its unit of 1/16 Hz.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090

    Examples
    --------
    >>> import numpy as np
    >>> model = RegressionBilinear(np.ones((2, 2)), np.zeros((1, 2, 2)), np.ones((2, 1)))
    >>> model.priors()[0].variance.tolist()
    [[0.0625, 4.0], [4.0, 0.0625]]
    """

    many_modes: ClassVar[bool] = False
    input_scale: ClassVar[float] = INPUT_SCALE
    input_unit: ClassVar[str] = "1/16 Hz"
    title: ClassVar[str] = "bilinear, in rates"
    label_note: ClassVar[str] = (
        "Labels read A[to, from], B[input, to, from] and C[to, input]. Connections, "
        "self-connections included, are in Hz, driving inputs in 1/16 Hz. "
    )
    citation: ClassVar[tuple[str, str]] = (
        "Fraessle S et al. (2017). Regression DCM for fMRI. NeuroImage 155:406-421.",
        "https://doi.org/10.1016/j.neuroimage.2017.02.090",
    )

    def priors(self) -> tuple[Prior, ...]:
        """Priors of ``A``, ``B`` and ``C``, where switched on."""
        n = self.n_nodes
        own = np.eye(n)
        variance = self.A * np.where(own, SELF_VARIANCE / n, VARIANCE / n)
        # A self-connection that is off keeps its region from integrating its input for ever.
        A = Prior("A", ("to", "from"), SELF_CONNECTION * own, variance, "Hz")
        return (A, *self._changes(1.0, INPUT_VARIANCE, "Hz"))
