"""The recurrent form of DCM for fMRI: one cell a step, sparse connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate import Euler
from bayesdcm.models.dcm import DCM, Parameters, Parts
from bayesdcm.models.priors import complete_parameters
from bayesdcm.models.task import check_structure
from bayesdcm.neural import Prior, RateBilinear
from bayesdcm.neural.prior_families import LaplacePrior
from bayesdcm.observe import RegionalBalloon

CONNECTIONS = ("A", "B", "C")


@dataclass(frozen=True, eq=False)
class RecurrentDCM(DCM):
    """Dynamic causal model of task fMRI as a recurrent network (DCM-RNN).

    In steps of `step`, by explicit Euler: ``x' = x + step ((A + sum_j u_j B_j) x + C u)``, and so
    the vasodilatory signal, flow, volume and deoxyhaemoglobin, of which BOLD is read. Its negative
    log-density is the loss that recurrent DCM is trained by: the error of prediction, a sum of
    absolute connections (Laplace priors), and one of squares of haemodynamic constants about
    plausible values (normal priors). So it can be trained (``method="tbptt"``), inverted by
    variational Laplace, or sampled.

    Parameters
    ----------
    A, B, C : array_like
        Switches as those of `bayesdcm.TaskDCM`, here without transformation: `A` (self-connections
        included), `B` and `C` are in Hz.
    step : float
        Length of a step, s; see `bayesdcm.integrate.Euler`.
    sparsity : float or None
        Rate of the Laplace priors of the connections, per Hz: each adds ``sparsity |value|`` nats
        to the loss, a self-connection ``sparsity |value + 1|``. None: normal priors, see
        `bayesdcm.neural.RateBilinear`.
    haemodynamic_penalty : float
        Weight of ``((constant - mean) / sd)**2``, in nats. 0.5 is the published normal prior;
        infinity fixes haemodynamics at their means.
    nonlinearity : {None, "sigmoid"}
        Of what regions send, see `bayesdcm.neural.RateBilinear`.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of the model's own, as for `bayesdcm.TaskDCM`.

    Raises
    ------
    TypeError, ValueError
        If a structure is not binary, not square, or its shape disagrees with the others; if the
        step, a penalty or the nonlinearity is not as described, or a step is so long that
        haemodynamics diverge at the means of their priors.

    Warns
    -----
    UserWarning
        If a step is so long that venous volume overshoots.

    Notes
    -----
    Parameters: ``A``, ``B``, ``C`` in Hz, and by region ``kappa`` and ``gamma`` (Hz), ``tau`` (s),
    ``E0`` and ``alpha``, see `bayesdcm.observe.RegionalBalloon`. The default sparsity, with which
    most networks of a few regions are stable, is chosen here; `bayesdcm.compare` of fits with
    several tells which data prefer. Self-connections are shrunk to -1 Hz, where the authors'
    training begins: a prior about 0 has half its mass where activity explodes.

    References
    ----------
    .. [1] Wang, Wang and Lui (2018), NeuroImage 178:385.
           https://doi.org/10.1016/j.neuroimage.2018.05.042
    .. [2] Wang, Wang and Lui (2017), Proc ISMRM 25, abstract 0953.

    Examples
    --------
    >>> model = RecurrentDCM(A=[[1, 0], [1, 1]], C=[[1], [0]])
    >>> model
    RecurrentDCM(2 regions, 1 input; connections: 3 A, 0 B, 1 C; step=0.25, sparsity=3.0)
    >>> import jax.numpy as jnp
    >>> means = {prior.name: prior.mean for prior in model.priors}
    >>> cell, carry = model.cell(means | {"C": np.ones((2, 1))}), model.start(means)
    >>> carry, bold = jax.lax.scan(cell, carry, jnp.ones((40, 1)))
    >>> bold.shape
    (40, 2)
    """

    A: ArrayLike
    B: ArrayLike | None = None
    C: ArrayLike | None = None
    step: float = 0.25
    sparsity: float | None = 3.0
    haemodynamic_penalty: float = 0.5
    nonlinearity: str | None = None
    priors: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in zip(CONNECTIONS, check_structure(self.A, self.B, self.C), strict=True):
            object.__setattr__(self, name, value)
        for name in ("sparsity", "haemodynamic_penalty"):
            _check_weight(name, getattr(self, name))
        self._set_priors(self.priors)
        self._check_step()

    def _check_step(self) -> None:
        means = {prior.name: np.asarray(prior.mean) for prior in self.observer_priors}
        kappa, gamma, tau, alpha = (means[name] for name in ("kappa", "gamma", "tau", "alpha"))
        # Explicit Euler steps turn a rate r into a factor 1 + step r.
        oscillation = np.sqrt(np.asarray(kappa**2 / 4 - gamma, complex))
        venous = -1 / (tau * alpha)
        rates = np.concatenate([-kappa / 2 + oscillation, -kappa / 2 - oscillation, venous])
        longest = float(np.min(-2 * rates.real / np.abs(rates) ** 2))
        if not self.step < longest:
            raise ValueError(
                f"step is {self.step:g} s, but with haemodynamics at the means of their priors "
                f"Euler steps diverge from {longest:.2g} s on; take a shorter step"
            )
        smooth = float(np.min(-1 / venous))
        if self.step > smooth:
            warn_caller(
                f"step is {self.step:g} s, but venous volume follows flow within {smooth:.2g} s "
                "(tau times alpha), so that it overshoots at each step; take a shorter step"
            )

    def __repr__(self) -> str:
        counts = [f"{int(getattr(self, k).sum())} {k}" for k in CONNECTIONS]
        regions = f"{self.n_regions} region{'s' * (self.n_regions != 1)}"
        inputs = f"{self.n_inputs} input{'s' * (self.n_inputs != 1)}"
        options = [f"step={self.step:g}", f"sparsity={self.sparsity}"]
        if self.haemodynamic_penalty != 0.5:
            options.append(f"haemodynamic_penalty={self.haemodynamic_penalty:g}")
        if self.nonlinearity is not None:
            options.append(f"nonlinearity={self.nonlinearity!r}")
        given = f"; {self.priors!r}" if self.priors.given else ""
        return (
            f"RecurrentDCM({regions}, {inputs}; connections: {', '.join(counts)}; "
            f"{', '.join(options)}{given})"
        )

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return self.A.shape[0]

    @cached_property
    def parts(self) -> Parts:
        """`RateBilinear`, `Euler` and `RegionalBalloon`."""
        neural = RateBilinear(self.A, self.B, self.C, nonlinearity=self.nonlinearity)
        return Parts(neural, Euler(self.step), RegionalBalloon())

    def own_priors(self) -> tuple[Prior, ...]:
        """Priors that hold where none are given: as `sparsity` and `haemodynamic_penalty` say."""
        neural, _, observer = self.parts
        connections = neural.priors()
        if self.sparsity is not None:
            connections = tuple(map(LaplacePrior(1 / self.sparsity).in_place_of, connections))
        weight = 2 * self.haemodynamic_penalty
        haemodynamic = (replace(p, variance=p.variance / weight) for p in observer.priors(neural))
        return (*connections, *haemodynamic, observer.noise_prior(neural))

    # The network

    def start(self, parameters: Parameters) -> jax.Array:
        """The carry at rest: activity and the four haemodynamic states, (regions, 5).

        Parameters
        ----------
        parameters : mapping
            As for `cell`.
        """
        neural, solver, observer = self.parts
        return solver.start(neural, observer, parameters)

    def cell(
        self, parameters: Parameters
    ) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        """The recurrent cell, a function of carry and input for `jax.lax.scan` or a layer of yours.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name, as `predict` takes them; they may be traced, so that the cell can
            be trained within a larger network.

        Returns
        -------
        callable
            From a carry (regions, 5) and inputs (inputs,) to the carry one step later, and the
            percent signal change of the carry that was given, (regions,). Carries hold activity,
            vasodilatory signal, and flow, volume and deoxyhaemoglobin less one.

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.
        """
        neural, solver, observer = self.parts
        complete = complete_parameters(self.priors, parameters)
        return solver.cell(neural, observer, complete, self.step)

    def restrict(
        self,
        A: ArrayLike | None = None,
        B: ArrayLike | None = None,
        C: ArrayLike | None = None,
    ) -> RecurrentDCM:
        """The same model with connections switched off, see `DCM.restrict`.

        Parameters
        ----------
        A, B, C : array_like, optional
            Switches in the shapes of the model's own; None: as they are.
        """
        return super().restrict(A=A, B=B, C=C)


def _check_weight(name: str, value: Any) -> None:
    if value is None and name == "sparsity":
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and value > 0) or (name == "sparsity" and value == np.inf):
        wanted = "a positive number, or None for normal priors"
        if name == "haemodynamic_penalty":
            wanted = "a positive number, or infinity to fix haemodynamics"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
