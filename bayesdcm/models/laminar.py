"""The DCM of an evoked dipole by the drives of a laminar column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.drive import CELLS, Drive, check_drives
from bayesdcm.data.validation import warn_caller
from bayesdcm.integrate import ExponentialEuler
from bayesdcm.integrate.exponential_euler import STEP, step_ends
from bayesdcm.models.dcm import DCM, Parameters, Parts
from bayesdcm.models.priors import complete_parameters
from bayesdcm.neural import LaminarColumn
from bayesdcm.neural.laminar_equations import calibration, fired
from bayesdcm.observe import ColumnDipole
from bayesdcm.observe.dipole_correction import DipoleCorrection

# Peak of a dipole of the network, nAm, give or take a factor of 3.
PEAK, PEAK_RANGE = 0.009, 3.0
# Until when the runs of the calibration lasted, ms.
LAST_TIME = 170.0
# Prior standard deviations from the median scale that data may be away.
FARTHEST = 4.0


@dataclass(frozen=True, eq=False)
class LaminarDCM(DCM):
    """Dynamic causal model of an evoked dipole: proximal and distal drives of a cortical column.

    The column stands for the network of the Human Neocortical Neurosolver (HNN), on which it was
    calibrated, at some 10,000 times its speed. What is inferred is when, how dispersed and how
    strong its drives are (each number that has a prior in `bayesdcm.Drive`), and how many cells
    are active. Models with different numbers of drives are compared by their evidence
    (`bayesdcm.compare`).

    Parameters
    ----------
    drives : sequence of bayesdcm.Drive
        Evoked drives, such as those of `bayesdcm.read_hnn`; ``drive.free(time=5.0)`` gives priors
        to their numbers.
    scale : float
        Prior median of how many networks of 200 pyramidal cells are active together, in place of
        the factor that users of hnn-core set by hand.
    scale_variance : float
        Prior variance of the logarithm of that number; 0 fixes it.
    model_error : float
        Factor of the covariance of the column's error, which is added to that of the noise: the
        difference between the dipoles of column and network, measured on runs that the calibration
        did not see. 0 where data are of the column itself.
    trials : int
        Trials that stand for the jitter of drives from trial to trial.
    priors : mapping or pandas.DataFrame, optional
        Priors in place of those of the drives, as for `bayesdcm.TaskDCM`: by parameter
        (``"scale"``) or by entry (``{"time[evprox1]": (21.0, 9.0)}``, mean and variance).
    correction : DipoleCorrection, optional
        What runs of the network say of the difference to the column, for the data that were
        checked: `bayesdcm.Fit.check_with` makes it.

    Raises
    ------
    TypeError, ValueError
        If drives are none, names repeat, or an option is not as described.

    Warns
    -----
    UserWarning
        If numbers of the drives lie outside the box in which the column was calibrated; when used,
        if data go on for longer than 170 ms after the stimulus, as the calibration did not.

    Notes
    -----
    Parameters: ``time`` in ms; ``spread``, ``weights_ampa`` and ``weights_nmda`` as log scalings
    of the drives' numbers, whose values in ms and uS are ``drive_spread``, ``drive_weights_ampa``
    and ``drive_weights_nmda``; ``scale``, the log scaling of the number of cells, which is
    ``pyramidal_cells``; ``column``, log scalings of the constants of the column, fixed.

    The spread of a drive whose events all cells share is its jitter from trial to trial, over
    which the response is averaged; that of a drive whose cells draw their own events
    (``cell_specific``) makes a pulse.

    References
    ----------
    .. [1] Neymotin et al. (2020), eLife 9:e51214. https://doi.org/10.7554/eLife.51214
    .. [2] Jones et al. (2009), J Neurophysiol 102:3554. https://doi.org/10.1152/jn.00535.2009

    Examples
    --------
    >>> from bayesdcm import Drive
    >>> cells = "L2_basket", "L2_pyramidal", "L5_basket", "L5_pyramidal"
    >>> ampa = dict(zip(cells, (0.0036, 0.0039, 0.0019, 0.002)))
    >>> nmda = dict(zip(cells, (0.0029, 0.0005, 0.003, 0.0019)))
    >>> first = Drive("first", "proximal", 21.0, 3.0, ampa, nmda).free(time=5.0)
    >>> second = first.replace(name="second", time=130.0).free(time=8.0)
    >>> LaminarDCM([first, second])
    LaminarDCM(2 drives: first (proximal, 21 +- 5 ms), second (proximal, 130 +- 8 ms); scale=1)
    """

    drives: Sequence[Drive]
    scale: float = 1.0
    scale_variance: float = 0.5
    model_error: float = 1.0
    trials: int = 8
    priors: Any = field(default=None, kw_only=True)
    correction: DipoleCorrection | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drives", check_drives(self.drives))
        self._set_priors(self.priors)
        self._check_box()

    def __repr__(self) -> str:
        times = [f"{d.time:g}" if isinstance(d.time, float) else str(d.time) for d in self.drives]
        each = ", ".join(
            f"{drive.name} ({drive.location}, {time} ms)"
            for drive, time in zip(self.drives, times, strict=True)
        )
        given = f"; {self.priors!r}" if self.priors.given else ""
        number = f"{len(self.drives)} drive{'s' * (len(self.drives) != 1)}"
        return f"LaminarDCM({number}: {each}; scale={self.scale:g}{given})"

    @cached_property
    def parts(self) -> Parts:
        """`LaminarColumn`, `ExponentialEuler` and `ColumnDipole`."""
        observer = ColumnDipole(self.scale, self.scale_variance, self.model_error, self.correction)
        return Parts(LaminarColumn(self.drives), ExponentialEuler(self.trials), observer)

    def check(self, data: Any) -> None:
        """Raise an error where data are no dipole, are too short, or of another scale.

        Parameters
        ----------
        data : DipoleData
            The data set.
        """
        super().check(data)
        end = 1e3 * float(data.times[-1])
        if end > LAST_TIME + 1.0:
            warn_caller(
                f"data end at {end:.4g} ms, but the column was calibrated on the first "
                f"{LAST_TIME:g} ms after the stimulus only; crop the data by "
                f"data.crop(None, {1e-3 * LAST_TIME:g})"
            )
        peak = float(np.abs(data.nanoampere_metres).max())
        ratio = peak / (PEAK * self.scale)
        variance = float(self._of_observer["scale"].variance)
        limit = PEAK_RANGE * np.exp(FARTHEST * np.sqrt(variance))
        if not 1 / limit < ratio < limit:
            raise ValueError(
                f"data peak at {peak:.3g} nAm, {ratio:.2g} times what scale={self.scale:g} "
                "(networks of 200 pyramidal cells) gives, which peaks near "
                f"{PEAK * self.scale:.2g} nAm; give scale={peak / PEAK:.2g}, or check the unit of "
                "the dipole"
            )

    def layers(self, parameters: Parameters, data: DipoleData) -> jax.Array:
        """Dipoles of layers 2/3 and 5 without noise.

        Parameters
        ----------
        parameters : mapping
            As for `predict`.
        data : DipoleData
            Times and smoothing.

        Returns
        -------
        jax.Array
            In A m, shape (times, 2).

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.
        """
        self.check(data)
        model, observer = self.for_data(data), self.parts.observer
        complete = complete_parameters(model.priors, parameters, self.names(data))
        solution = model._solution(complete, model._steps(data))
        space = observer.prepare(data, model._of_observer)
        return 1e-9 * observer.layers(solution, complete, space)

    def firing(self, parameters: Parameters, data: DipoleData) -> jax.Array:
        """Firing of the populations, mean over the jitter of drives from trial to trial.

        Parameters
        ----------
        parameters : mapping
            As for `predict`.
        data : DipoleData
            Times; firing is not smoothed.

        Returns
        -------
        jax.Array
            Spikes a second of one cell, relative to rest, shape (times, 4): pyramidal cells of
            layers 2/3 and 5, basket cells of layers 2/3 and 5
            (`bayesdcm.neural.laminar_equations.POPULATIONS`).

        Raises
        ------
        ValueError
            If a parameter is missing or has the wrong shape.
        """
        self.check(data)
        model = self.for_data(data)
        complete = complete_parameters(model.priors, parameters, self.names(data))
        solution = model._solution(complete, model._steps(data), seen=False)[:, 0]
        rates, ends = 1e3 * fired(solution, 1e3 * STEP), step_ends(data.times)
        interpolate = jax.vmap(lambda rate: jnp.interp(data.times, ends, rate, left=0.0), 1, 1)
        return interpolate(rates)

    def drives_at(self, parameters: Mapping[str, ArrayLike]) -> tuple[Drive, ...]:
        """The drives with the numbers that parameters say, fixed: for `bayesdcm.write_hnn`.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name, such as ``fit.mean``; those that are absent are as the drives say.

        Returns
        -------
        tuple of Drive
            In the order of `drives`.
        """
        neural = self.parts.neural
        complete = complete_parameters(neural.priors(), _present(parameters, neural.priors()))
        values = {name: np.asarray(value) for name, value in neural.physical(complete).items()}
        return tuple(
            drive.at(**{name: values[name][i] for name in values})
            for i, drive in enumerate(self.drives)
        )

    def _check_box(self) -> None:
        """Warn where drives are not like those that the column was calibrated with."""
        outside = list(_outside(self.drives))
        if outside:
            warn_caller(
                f"drives are not like those that the column was calibrated with: "
                f"{'; '.join(outside)}. The response of hnn-core's network may differ by more than "
                "the model expects; compare it by fit.check_with(HnnSimulator())"
            )


def _present(parameters: Mapping[str, ArrayLike], priors: Sequence[Any]) -> dict[str, Any]:
    return {p.name: parameters.get(p.name, p.mean) for p in priors}


def _outside(drives: Sequence[Drive]) -> Any:
    """What of the drives lies outside the box of the calibration, in words."""
    box = calibration().box
    if len(drives) > box["drives"]:
        yield f"there are {len(drives)}, and were up to {box['drives']}"
    for drive in drives:
        low, high = box["time"]
        if not low <= drive.centre("time") <= high:
            yield (
                f"{drive.name} comes at {drive.centre('time'):g} ms, and they came from "
                f"{low:.3g} to {high:.3g} ms"
            )
        for name in ("weights_ampa", "weights_nmda"):
            for cell, (low, high) in box[drive.location][name].items():
                value = dict(zip(CELLS, drive.centre(name), strict=True))[cell]
                if not low <= value <= high:
                    yield (
                        f"{name} of {drive.name} to {cell} is {value:.3g} uS, and they were "
                        f"{low:.2g} to {high:.2g} uS"
                    )
