"""What every observer offers: from a solution to the signal, its likelihood, axes and units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
import numpyro.distributions as dist
from numpy.typing import NDArray

from bayesdcm.integrate.grid import TimeGrid
from bayesdcm.neural.base import NeuralModel, Parameters, Prior

# Means and variances of the log-precision of the noise. SPM's holds the standard deviation near
# exp(-3) = 0.05; the other leaves any from 0.007 to 20 within two standard deviations.
SPM_NOISE = (6.0, 1 / 128)
WIDE_NOISE = (2.0, 16.0)


class Observer(ABC):
    """How a data set sees a neural model.

    A subclass is best a frozen dataclass of options. Most derive from
    `bayesdcm.observe.BoldObserver` or `bayesdcm.observe.ChannelObserver`, which know the axes,
    noise and units of a class of data, and give the forward model alone.

    Attributes
    ----------
    data_class : type
        Class of the data.
    kind : str
        What is modelled, such as ``"task fMRI"``.
    node : str
        What a node of the neural model is, such as ``"region"``.
    states : tuple of str
        States of its own, solved together with the neural model: then `flow` and `read` are
        needed, and `bayesdcm.integrate.Solver` tells how they are used.
    longest_step : float or None
        Longest step, s, at which `respond` is accurate; None where there is no `respond`.
    as_spm : bool
        Whether scale, confounds and prior of the noise are SPM's.
    searches : bool
        Whether variational Laplace looks further where it finds a poor optimum.
    citations : sequence of (text, address)
        What to cite for it.
    derived, units : mapping
        As those of `bayesdcm.neural.NeuralModel`.
    headline : tuple of str
        Sites that most people look at first.
    axes : mapping
        Words, unit, and how many of it make one SI unit, of axes that are not drawn as time in s.
    sample : str
        What one data point in time is, in the singular.
    scaled : tuple of str
        Parameters by whose size signals are multiplied, node by node on the first axis: NUTS moves
        in their products with what else makes signals larger.
    power_laws : tuple of str
        Parameters whose first row are log amplitudes, and the second log exponents, of power laws:
        NUTS moves along the curves on which these make up for each other.
    mirrored : bool
        Whether signals tell signs of what is `scaled` relative to other nodes only, so that no fit
        crosses from one to the other: variational Laplace then tries both.
    """

    data_class: ClassVar[type]
    kind: ClassVar[str]
    node: ClassVar[str]
    states: ClassVar[tuple[str, ...]] = ()
    longest_step: ClassVar[float | None] = None
    as_spm: bool = False
    searches: bool = False
    citations: Sequence[tuple[str, str]] = ()
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {}
    units: ClassVar[Mapping[str, str]] = {}
    headline: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[Mapping[str, tuple[str, str, float]]] = {}
    sample: ClassVar[str] = "sample"
    scaled: ClassVar[tuple[str, ...]] = ()
    power_laws: ClassVar[tuple[str, ...]] = ()
    mirrored: bool = False

    @property
    def staged(self) -> bool:
        """Whether variational Laplace moves its parameters while the states stay as they are.

        Where the observer is solved with the neural model, its parameters are no less costly.
        """
        return not self.states

    # The forward model

    @abstractmethod
    def priors(self, neural: NeuralModel) -> tuple[Prior, ...]:
        """Priors of the observer's parameters, for a neural model that it sees.

        Parameters
        ----------
        neural : NeuralModel
        """

    def flow(self, activity: jax.Array, h: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of `states`, shape (nodes, states), 1/s, under activity (nodes,).

        Parameters
        ----------
        activity : jax.Array, relative to rest
        h : jax.Array, shape (nodes, states)
        parameters : mapping of full arrays by name
        """
        raise NotImplementedError(f"{type(self).__name__} has no states of its own")

    def read(self, h: jax.Array, parameters: Parameters) -> jax.Array:
        """What is seen of `states`: from (..., nodes, states) to (..., nodes).

        Parameters
        ----------
        h : jax.Array, shape (..., nodes, states)
        parameters : mapping of full arrays by name
        """
        raise NotImplementedError(f"{type(self).__name__} has no states of its own")

    def respond(
        self, generators: jax.Array, drive: jax.Array, parameters: Parameters, grid: TimeGrid
    ) -> jax.Array:
        """What is seen of `states` at the scans, (scans, nodes), under activity affine by steps.

        Parameters
        ----------
        generators : jax.Array
            Generator of the neural states for each distinct input, with a leading constant, shape
            (distinct inputs, m, m), 1/s.
        drive : jax.Array
            Which combination of neural states is the activity of each node, (nodes, m).
        parameters : mapping of full arrays by name
        grid : TimeGrid
            Steps of at most `longest_step`, and sample points.
        """
        raise NotImplementedError(f"{type(self).__name__} has no states of its own")

    def seen(self, priors: Mapping[str, Prior]) -> Any:
        """Index of the states of which `predict` makes the signal, by default all.

        Parameters
        ----------
        priors : see `observed`
        """
        return ...

    @abstractmethod
    def predict(self, solution: jax.Array, parameters: Parameters, arrays: Any) -> jax.Array:
        """The signal as it is modelled, without noise, (times, columns).

        Parameters
        ----------
        solution : jax.Array, from the solver
        parameters : mapping of full arrays by name
        arrays : pytree, from `prepare`
        """

    def derive(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Quantities of interest that follow from the parameters, by default none.

        Parameters
        ----------
        parameters : mapping of full arrays by name
        """
        return {}

    # Data

    @abstractmethod
    def check(self, data: Any, neural: NeuralModel) -> None:
        """Raise TypeError or ValueError where data do not fit a neural model that is seen.

        Parameters
        ----------
        data : object
        neural : NeuralModel
        """

    def prepare(self, data: Any, priors: Mapping[str, Prior]) -> Any:
        """Arrays that `predict` takes, from data and the priors of the observer's parameters.

        Parameters
        ----------
        data, priors : see `observed`
        """
        return None

    @abstractmethod
    def observed(self, data: Any, priors: Mapping[str, Prior]) -> tuple[Any, Any]:
        """The signal as it is modelled, (times, columns), and what `likelihood` takes of data.

        Parameters
        ----------
        data : object of `data_class`
            The data set.
        priors : mapping of str to Prior
            Priors of the observer's parameters in force.
        """

    @abstractmethod
    def noise_prior(self, neural: NeuralModel) -> Prior:
        """Prior of ``log_precision``.

        Parameters
        ----------
        neural : NeuralModel
        """

    @abstractmethod
    def likelihood(
        self, prediction: jax.Array, log_precision: jax.Array, noise: Any
    ) -> dist.Distribution:
        """Distribution of the signal.

        Parameters
        ----------
        prediction : jax.Array, from `predict`
        log_precision : jax.Array, of the shape of `noise_prior`
        noise : pytree, from `observed`
        """

    @abstractmethod
    def at_data(self, prediction: jax.Array, data: Any, priors: Mapping[str, Prior]) -> jax.Array:
        """A prediction on the axes of the data and in their units.

        Parameters
        ----------
        prediction : jax.Array, from `predict`
        data, priors : see `observed`
        """

    @abstractmethod
    def simulated(
        self,
        clean: NDArray,
        design: Any,
        priors: Mapping[str, Prior],
        log_precision: NDArray | None,
        snr: float | None,
        rng: np.random.Generator,
    ) -> Any:
        """Data with noise, of `snr` or of `log_precision`, added to a prediction at the data.

        Parameters
        ----------
        clean : ndarray, from `at_data`
        design : object
            Data or design to be completed.
        priors : see `observed`
        log_precision : ndarray or None
            Of the noise; None: none.
        snr : float or None
            In place of it: standard deviation of the signal over that of the noise.
        rng : numpy.random.Generator
        """

    # Names

    @abstractmethod
    def names(self, data: Any, neural: NeuralModel) -> dict[str, list[str]]:
        """Names along each kind of axis; of data that are None, such as "region 1".

        Parameters
        ----------
        data : object or None
        neural : NeuralModel
        """

    @abstractmethod
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the axes of the signal, ``log_precision`` and what `constants` gives."""

    @abstractmethod
    def coords(self, data: Any, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Coordinates of the axes that have no names.

        Parameters
        ----------
        data, priors : see `observed`
        """

    @abstractmethod
    def constants(self, data: Any, priors: Mapping[str, Prior]) -> dict[str, NDArray]:
        """Constants of a data set that results hold.

        Parameters
        ----------
        data, priors : see `observed`
        """

    @abstractmethod
    def restore(self, scaled: NDArray, data: Any, priors: Mapping[str, Prior]) -> NDArray:
        """From the signal as modelled to the units of the data and the axes of results.

        Parameters
        ----------
        scaled : ndarray, shape (..., times, columns)
        data, priors : see `observed`
        """

    def arrange(self, values: NDArray, data: Any) -> NDArray:
        """From the axes of what is modelled to those of results, by default the same.

        Parameters
        ----------
        values : ndarray, shape (..., times, columns)
        data : see `observed`
        """
        return values


def noise_prior(mean: float, variance: float, n_regions: int | None = None) -> Prior:
    """Prior of the log-precisions of the noise, one a region, or one for all channels."""
    shape = () if n_regions is None else (n_regions,)
    dims = ("region",) * len(shape)
    unit = "log precision"
    return Prior("log_precision", dims, np.full(shape, mean), np.full(shape, variance), unit)
