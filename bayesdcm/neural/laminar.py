"""A laminar cortical column that evoked drives reach: neural mass of the HNN's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.data.drive import CELLS, Drive
from bayesdcm.neural.base import NeuralModel, Parameters, Prior
from bayesdcm.neural.laminar_equations import (
    COMPARTMENTS,
    NAMES,
    STATES,
    Parts,
    calibration,
    constants_of,
    layer_dipoles,
    relaxation,
    rest,
)

# Compartments that drives of each location reach, and the cells they belong to.
REACHED = {
    "proximal": {
        "L2 soma": "L2_pyramidal",
        "L5 soma": "L5_pyramidal",
        "L2 basket": "L2_basket",
        "L5 basket": "L5_basket",
    },
    "distal": {"L2 apical": "L2_pyramidal", "L5 apical": "L5_pyramidal", "L2 basket": "L2_basket"},
}
# Width of a single event, ms: what makes responses smooth functions of its time.
EVENT_WIDTH = 0.4
# From so many independent events on, they are a pulse that is the same in every trial.
MANY_EVENTS = 5


class _Paths(NamedTuple):
    """From drives to compartments.

    Weights of drives (drives, cells) go by ``cell`` to each compartment that ``reached`` says,
    both (drives, compartments), after ``delay``, ms.
    """

    cell: NDArray[np.intp]
    reached: NDArray[np.float64]
    delay: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LaminarColumn(NeuralModel):
    """A patch of cortex with superficial and deep pyramidal and basket cells, and its drives.

    A mean-field model of the network of the Human Neocortical Neurosolver: pyramidal cells of
    layers 2/3 and 5 with a somatic and an apical compartment each, and basket cells of both
    layers, joined by conductances with the network's time constants; M-currents in the pyramidal
    cells. Its constants were calibrated once on dipoles of that network at random settings of the
    drives (`bayesdcm.neural.laminar_equations.calibration`, ``ci/laminar_calibration.py``). They
    are the parameter ``column``, log scalings of the calibrated values, fixed unless a prior says
    otherwise.

    Proximal drives reach somata and basket cells, distal ones apical dendrites and the basket
    cells of layer 2/3, through AMPA and NMDA synapses, after the delays of the drive.

    Parameters
    ----------
    drives : sequence of bayesdcm.Drive
        Their priors are those of the parameters ``time``, ``spread``, ``weights_ampa`` and
        ``weights_nmda``.

    Notes
    -----
    Parameters: ``time`` in ms; ``spread``, ``weights_ampa`` and ``weights_nmda`` are log scalings
    of the drive's numbers.

    References
    ----------
    .. [1] Neymotin et al. (2020), eLife 9:e51214. https://doi.org/10.7554/eLife.51214
    .. [2] Jones et al. (2009), J Neurophysiol 102:3554. https://doi.org/10.1152/jn.00535.2009

    Examples
    --------
    >>> from bayesdcm import Drive
    >>> drive = Drive("first", "proximal", 25.0, 3.0, {"L5_pyramidal": 0.002, "L2_basket": 0.003})
    >>> column = LaminarColumn((drive,))
    >>> column.rest().shape, column.n_inputs
    ((1, 50), 12)
    """

    drives: Sequence[Drive]

    states: ClassVar[tuple[str, ...]] = STATES
    axes: ClassVar[Mapping[str, Sequence[str]]] = {"cell": CELLS, "constant": NAMES}
    derived: ClassVar[Mapping[str, tuple[tuple[str, ...], str]]] = {
        "drive_spread": (("drive",), "ms"),
        "drive_weights_ampa": (("drive", "cell"), "uS"),
        "drive_weights_nmda": (("drive", "cell"), "uS"),
    }
    titles: ClassVar[Mapping[str, str]] = {
        "time": "Times of drives",
        "spread": "Spreads of drives",
        "weights_ampa": "AMPA weights of drives",
        "weights_nmda": "NMDA weights of drives",
    }
    populations: ClassVar[Mapping[str, int]] = {name: i for i, name in enumerate(COMPARTMENTS)}
    title: ClassVar[str] = "laminar column"
    citation: ClassVar[tuple[str, str]] = (
        "Neymotin SA, Daniels DS, Caldwell B, McDougal RA, Carnevale NT, Jas M, Moore CI, "
        "Hines ML, Hämäläinen M, Jones SR (2020). Human Neocortical Neurosolver (HNN), a new "
        "software tool for interpreting the cellular and network origin of human MEG/EEG data. "
        "eLife 9:e51214.",
        "https://doi.org/10.7554/eLife.51214",
    )
    stability: ClassVar[str] = "check the weights of the drives"

    @property
    def n_nodes(self) -> int:
        """One column."""
        return 1

    @property
    def n_inputs(self) -> int:
        """Compartments times receptors that drives can reach."""
        return 2 * len(COMPARTMENTS)

    def priors(self) -> tuple[Prior, ...]:
        """Those of the drives, and the constants of the column."""

        def of(number: str, dims: tuple[str, ...], unit: str, centred: bool) -> Prior:
            variance = np.array([drive.variance(number) for drive in self.drives])
            mean = np.array([drive.centre(number) for drive in self.drives])
            return Prior(number, dims, mean if centred else np.zeros_like(mean), variance, unit)

        fixed = np.zeros(len(NAMES))
        return (
            of("time", ("drive",), "ms", True),
            of("spread", ("drive",), "log scaling", False),
            of("weights_ampa", ("drive", "cell"), "log scaling", False),
            of("weights_nmda", ("drive", "cell"), "log scaling", False),
            Prior("column", ("constant",), fixed, fixed, "log scaling"),
        )

    @cached_property
    def _paths(self) -> _Paths:
        shape = len(self.drives), len(COMPARTMENTS)
        cell, reached, delay = np.zeros(shape, int), np.zeros(shape), np.zeros(shape)
        for i, drive in enumerate(self.drives):
            for compartment, name in REACHED[drive.location].items():
                j, k = COMPARTMENTS.index(compartment), CELLS.index(name)
                cell[i, j], reached[i, j] = k, 1.0
                delay[i, j] = drive.centre("delays")[k]
        return _Paths(cell, reached, delay)

    @cached_property
    def _events(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
        """Drive of each event, how many it stands for, and whether its time jitters by trial."""
        drives, counts, jitters = [], [], []
        for i, drive in enumerate(self.drives):
            count = drive.n_events * drive.n_cells
            single = drive.shared and count < MANY_EVENTS
            repeats = count if single else 1
            drives += [i] * repeats
            counts += [1.0 if single else float(count)] * repeats
            jitters += [single and drive.centre("spread") > 0] * repeats
        return np.array(drives), np.array(counts), np.array(jitters)

    @property
    def jittered(self) -> NDArray[np.bool_]:
        """Which of the events come at another time in each trial, (events,)."""
        return self._events[2]

    def physical(self, parameters: Parameters) -> dict[str, jax.Array]:
        """Numbers of the drives in ms and uS, from log scalings.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name.

        Returns
        -------
        dict
            ``time`` and ``spread`` (drives,) in ms, weights (drives, cells) in uS.
        """
        scaled = {
            name: jnp.asarray(np.array([drive.centre(name) for drive in self.drives]))
            * jnp.exp(parameters[name])
            for name in ("spread", "weights_ampa", "weights_nmda")
        }
        return {"time": jnp.asarray(parameters["time"]), **scaled}

    def constants(self, parameters: Parameters) -> dict[str, Any]:
        """Constants of the column in their units.

        Parameters
        ----------
        parameters : mapping
            Full arrays by name; where ``column`` is absent, as calibrated.
        """
        scaling = parameters.get("column", jnp.zeros(len(NAMES)))
        return constants_of(calibration().values * jnp.exp(scaling))

    def input_series(
        self, times: jax.Array, parameters: Parameters, deviates: jax.Array
    ) -> jax.Array:
        """Events at each compartment times their weights in one trial, (times, 12), uS/ms.

        Through AMPA synapses at the six compartments, then NMDA.

        Parameters
        ----------
        times : jax.Array
            Times from the stimulus, s, shape (times,).
        parameters : mapping
            Full arrays by name.
        deviates : jax.Array
            How many spreads each event comes later than its mean in this trial, (events,).
        """
        drive, count, jitters = self._events
        paths, values = self._paths, self.physical(parameters)
        spread = values["spread"][drive]
        mean = values["time"][drive] + jnp.where(jitters, spread * deviates, 0.0)
        within = np.array([not self.drives[i].shared for i in drive]) | (count > 1)
        width = jnp.sqrt(EVENT_WIDTH**2 + jnp.where(within, spread, 0.0) ** 2)
        # (times, events, compartments)
        late = 1e3 * times[:, None, None] - mean[:, None] - paths.delay[drive]
        pulse = jnp.exp(-((late / width[:, None]) ** 2) / 2)
        area = count / (width * np.sqrt(2 * np.pi))
        series = []
        for name in ("weights_ampa", "weights_nmda"):
            weights = jnp.take_along_axis(values[name], jnp.asarray(paths.cell), 1)
            weights = (paths.reached * weights)[drive]
            series.append((pulse * (area[:, None] * weights)).sum(1))
        return jnp.concatenate(series, -1)

    def rest(self, parameters: Parameters | None = None) -> NDArray[np.float64]:
        """States without drives, shape (1, 50)."""
        return rest()[None]

    def flow(self, x: jax.Array, u: jax.Array, parameters: Parameters) -> jax.Array:
        """Rate of change of the states, see `NeuralModel.flow`."""
        drive = jnp.broadcast_to(u, (len(x), len(u)))
        rate, target = relaxation(Parts.of(x), drive, self.constants(parameters))
        return 1e3 * rate.joined() * (target.joined() - x)

    def layers(self, x: jax.Array, parameters: Parameters) -> jax.Array:
        """Dipoles of layers 2/3 and 5, nAm, (..., 2), of states relative to rest.

        Parameters
        ----------
        x : jax.Array
            States relative to rest, (..., states).
        parameters : mapping
            Full arrays by name.
        """
        return layer_dipoles(x, self.constants(parameters))

    def derive(self, parameters: Parameters, design: jax.Array | None) -> dict[str, jax.Array]:
        """Spreads in ms and weights in uS."""
        values = self.physical(parameters)
        names = ("spread", "weights_ampa", "weights_nmda")
        return {f"drive_{name}": values[name] for name in names}
