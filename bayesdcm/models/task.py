"""The DCM of task fMRI: bilinear, nonlinear and two-state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.integrate import BilinearExpansion, ExactCascade, RungeKutta
from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.models.dcm import DCM, Parts
from bayesdcm.neural import Bilinear, TwoState
from bayesdcm.neural.switches import square, switches
from bayesdcm.observe import Balloon

INTEGRATORS = ("nonlinear", "bilinear")


@dataclass(frozen=True, eq=False)
class TaskDCM(DCM):
    """Dynamic causal model of task fMRI.

    Neuronal states obey a bilinear (or, with `D`, quadratic; or two-state) equation, drive the
    Balloon model of each region, and are seen as percent BOLD signal change. A model holds
    structure only; data go to `program`, `predict`, `simulate` and `bayesdcm.fit`.

    Parameters
    ----------
    A : array_like
        Endogenous connections, shape (to, from), 0 or 1. A diagonal entry of 0 fixes the
        self-connection at -0.5 Hz.
    B : array_like, optional
        Modulations, shape (input, to, from). None: none.
    C : array_like, optional
        Driving inputs, shape (to, input). None: none.
    D : array_like, optional
        Nonlinear terms, shape (gating region, to, from). None: a bilinear model.
    two_state : bool
        Excitatory and inhibitory populations instead of one state a region.
    integrator : {"nonlinear", "bilinear"}
        ``"nonlinear"`` solves the published equations (error about 1e-5 of the peak).
        ``"bilinear"`` is SPM's scheme, which expands the whole system to first order about
        rest; the two differ by up to a third of the peak at strong responses. With `D`,
        ``"bilinear"`` reproduces ``spm_int_D``, in which the linear term acts twice. With SPM's
        integrator come SPM's other choices: signals scaled down to a range of 4 (`C` then refers
        to the scaled signal), its prior of the noise, confounds in their own units.
    backwards : bool
        With `two_state`, whether extrinsic connections also reach inhibitory populations
        (SPM's option of that name; parameter ``A_backward``).
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own: from a parameter (``"A"``, ``"transit"``,
        ``"log_precision"``) or a labelled entry (``"A[V5, V1]"``) to ``(mean, variance)``, to
        ``{"mean": ...}`` or ``{"variance": ...}`` alone, to a fixed value, or to sparse priors
        (`bayesdcm.LaplacePrior`, `bayesdcm.HorseshoePrior`). Numbers are for all entries that are
        on, arrays have the shape of the parameter; labelled entries, found by
        the names of the data, come last. Or a table as `prior_table` gives. The model's attribute
        `priors` is the sequence of all of them.

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, not square, or its shape disagrees with the others; if
        `priors` names what the model does not have, has another shape, or is not finite.

    Notes
    -----
    Parameters are in SPM's parameterisation: off-diagonal ``A``, ``B`` and ``D`` in Hz (one
    state), their diagonals log scalings of a self-connection of -0.5 Hz, ``C`` in 1/16 Hz,
    ``transit``, ``decay`` and ``epsilon`` log scalings. Priors: `bayesdcm.neural.Bilinear`,
    `bayesdcm.neural.TwoState`, `bayesdcm.observe.haemodynamic_priors`; log-precisions of the
    noise N(2, 16), one a region, so that data decide on it, with ``"bilinear"`` SPM's N(6, 1/128),
    by which the standard deviation of the noise is 0.05 of the scaled signal's unit.

    References
    ----------
    .. [1] Friston, Harrison and Penny (2003), NeuroImage 19:1273.
           https://doi.org/10.1016/S1053-8119(03)00202-7
    .. [2] Zeidman et al. (2019), NeuroImage 200:174.
           https://doi.org/10.1016/j.neuroimage.2019.06.031

    Examples
    --------
    >>> model = TaskDCM(A=[[1, 0], [1, 1]], C=[[1], [0]])
    >>> model
    TaskDCM(2 regions, 1 input; connections: 3 A, 0 B, 1 C; integrator='nonlinear')
    """

    A: ArrayLike
    B: ArrayLike | None = None
    C: ArrayLike | None = None
    D: ArrayLike | None = None
    two_state: bool = False
    integrator: str = "nonlinear"
    backwards: bool = field(default=False, kw_only=True)
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        A, B, C = check_structure(self.A, self.B, self.C)
        n = len(A)
        D = self.D
        D = D if D is None else switches("D", D, (n, n, n), "gating region, to, from")
        for name, value in (("A", A), ("B", B), ("C", C), ("D", D)):
            object.__setattr__(self, name, value)
        self._check_options()
        self._set_priors(self.priors)

    def _check_options(self) -> None:
        for name in ("two_state", "backwards"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.integrator not in INTEGRATORS:
            raise ValueError(
                f"integrator must be one of {', '.join(map(repr, INTEGRATORS))}, "
                f"got {self.integrator!r}"
            )
        if self.backwards and not self.two_state:
            raise ValueError("backwards=True needs two_state=True, got two_state=False")
        if self.D is not None and self.integrator == "bilinear":
            warnings.warn(
                "integrator='bilinear' with D reproduces spm_int_D, in which the linear "
                "neuronal term acts twice; integrator='nonlinear' solves the equations",
                stacklevel=4,
            )

    def __repr__(self) -> str:
        counts = [f"{int(getattr(self, k).sum())} {k}" for k in "ABC"]
        if self.D is not None:
            counts.append(f"{int(self.D.sum())} D")
        kind = ", two-state" if self.two_state else ""
        regions = f"{self.n_regions} region{'s' * (self.n_regions != 1)}"
        inputs = f"{self.n_inputs} input{'s' * (self.n_inputs != 1)}"
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"TaskDCM({regions}, {inputs}{kind}; connections: {', '.join(counts)}; "
            f"integrator={self.integrator!r}{given})"
        )

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @cached_property
    def parts(self) -> Parts:
        """`Bilinear` or `TwoState`, one of three solvers, and `Balloon`."""
        if self.two_state:
            neural = TwoState(self.A, self.B, self.C, self.D, bool(self.backwards))
        else:
            neural = Bilinear(self.A, self.B, self.C, self.D)
        if self.integrator == "bilinear":
            return Parts(neural, BilinearExpansion(gated=not neural.affine), Balloon(as_spm=True))
        return Parts(neural, ExactCascade() if neural.affine else RungeKutta(), Balloon())

    @property
    def _wide_noise(self) -> str:
        return "integrator='nonlinear'" if self.integrator == "bilinear" else ""

    def time_grid(self, design: Any) -> TimeGrid:
        """Steps and sample points of the integrator for a BoldData or BoldDesign.

        Parameters
        ----------
        design : BoldData or BoldDesign
            Inputs and timing.
        """
        return self._steps(design)

    def response(self, parameters: Mapping[str, jax.Array], grid: TimeGrid) -> jax.Array:
        """Percent signal change (scans, regions) of full arrays, on a grid of `time_grid`.

        Parameters
        ----------
        parameters : mapping
            Full arrays, all of them present.
        grid : TimeGrid
            From `time_grid`.
        """
        neural, solver, observer = self.parts
        return solver.solve(neural, observer, parameters, grid)

    def restrict(
        self,
        A: ArrayLike | None = None,
        B: ArrayLike | None = None,
        C: ArrayLike | None = None,
        D: ArrayLike | None = None,
    ) -> TaskDCM:
        """The same model with connections switched off, see `DCM.restrict`.

        Examples
        --------
        >>> TaskDCM(A=[[1, 1], [1, 1]], C=[[1], [0]]).restrict(A=[[1, 0], [1, 1]]).A.tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        """
        return super().restrict(A=A, B=B, C=C, D=D)


def check_structure(
    A: ArrayLike, B: ArrayLike | None, C: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Switches of connections, modulations and driving inputs; None of either of the last: none.

    TypeError or ValueError where they are no switches, or their shapes disagree.

    Examples
    --------
    >>> [switches.shape for switches in check_structure([[1]], None, [[1, 1]])]
    [(1, 1), (2, 1, 1), (1, 2)]
    """
    A = square("A", A)
    n, n_inputs = len(A), None
    # Either tells the number of inputs; the other is checked against it, or all off.
    if C is not None:
        C = switches("C", C, (n, None), "to, input")
        n_inputs = C.shape[1]
    B = switches(
        "B",
        np.zeros((n_inputs or 0, n, n)) if B is None else B,
        (n_inputs, n, n),
        "input, to, from",
    )
    if C is None:
        C = switches("C", np.zeros((n, len(B))), (n, len(B)), "to, input")
    return A, B, C
