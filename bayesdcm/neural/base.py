"""What every neural model offers: named states, a state equation, a table of priors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from numpy.typing import NDArray

Parameters = Mapping[str, jax.Array]


@dataclass(frozen=True, eq=False)
class Prior:
    """Independent Gaussian priors of one parameter array.

    Parameters
    ----------
    name : str
        Name of the parameter, the literature's letter where there is one.
    dims : tuple of str
        Names of the array's axes: ``"to"``, ``"from"``, ``"input"``, ``"region"``, ``"gating"``
        in fMRI; `SourceModel.axes` names the entries of those that only evoked responses have.
    mean, variance : ndarray
        Prior mean and variance of every entry, in the shape of the array. An entry of zero
        variance is a constant.
    unit : str
        Unit of the entries.
    symbol : str
        SPM's name of the field where it differs from `name`, for reading SPM's files; may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> prior = Prior("decay", (), np.zeros(()), np.full((), 1 / 256), "log scaling")
    >>> int(prior.free.sum())
    1
    """

    name: str
    dims: tuple[str, ...]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    unit: str
    symbol: str = ""

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which entries are estimated."""
        return np.asarray(self.variance) > 0


class NeuralModel(ABC):
    """A neural state equation with its states and priors.

    Subclasses say how many states a region has (`states`), which of them drives the
    haemodynamics (`output`, an index into `states`), whether the flow is affine in the states
    when the input is held (`affine`), and give `flow` and `priors`.
    """

    B: NDArray[np.float64]
    C: NDArray[np.float64]
    D: NDArray[np.float64] | None
    states: ClassVar[tuple[str, ...]]
    output: ClassVar[int] = 0
    title: ClassVar[str] = ""
    citation: ClassVar[tuple[str, str]] = ("", "")

    @property
    @abstractmethod
    def affine(self) -> bool:
        """Whether the flow is affine in the states while the input is constant."""

    @abstractmethod
    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states.

        Parameters
        ----------
        x : jax.Array
            States, shape (regions, states).
        u : jax.Array
            Inputs, shape (inputs,).
        parameters : mapping
            Full parameter arrays by name.

        Returns
        -------
        jax.Array
            Time derivative of `x` per second, shape (regions, states).
        """

    @abstractmethod
    def priors(self) -> tuple[Prior, ...]:
        """Priors of the neural parameters, in the order of the literature."""
