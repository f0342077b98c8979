"""Equations of a laminar cortical column: compartments, synapses, currents, dipole.

Six compartments, of which each stands for all cells of its kind: soma and apical dendrite of the
pyramidal cells of layers 2/3 and 5, and the basket cells of both layers. Synapses are conductances
with the time constants of the Human Neocortical Neurosolver, so that inhibition shunts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

COMPARTMENTS = ("L2 soma", "L2 apical", "L5 soma", "L5 apical", "L2 basket", "L5 basket")
PYRAMIDAL = COMPARTMENTS[:4]
# Populations that fire, and the compartments that decide it.
POPULATIONS = ("L2 pyramidal", "L5 pyramidal", "L2 basket", "L5 basket")
FIRING = np.array([0, 2, 4, 5])
# The other compartment of each pyramidal cell.
OTHER = np.array([1, 0, 3, 2])
# Synapses of the column's own cells, each with its sender, and those of drives.
LOCAL = (
    *("L2 pyramidal AMPA", "L2 pyramidal NMDA", "L5 pyramidal AMPA", "L5 pyramidal NMDA"),
    *("L2 basket GABA-A", "L2 basket GABA-B", "L5 basket GABA-A", "L5 basket GABA-B"),
)
DRIVEN = tuple(f"drive to {name} {kind}" for kind in ("AMPA", "NMDA") for name in COMPARTMENTS)
SYNAPSES = LOCAL + DRIVEN
SENDERS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
# Time constants of rise and decay of AMPA, NMDA, GABA-A and GABA-B, ms: those of hnn-core.
RECEPTORS = {
    "AMPA": (0.5, 5.0),
    "NMDA": (1.0, 20.0),
    "GABA-A": (0.5, 5.0),
    "GABA-B": (1.0, 20.0),
}
RISE, DECAY = np.array([RECEPTORS[name.split()[-1]] for name in SYNAPSES]).T
# Reversal potentials, mV, of leak, excitation, inhibition and potassium.
LEAK, EXCITATION, INHIBITION, POTASSIUM = -65.0, 0.0, -80.0, -77.0
# Local connections: where each synapse of the sender ends.
EXCITATORY = (
    ("L2 soma", "L2 pyramidal AMPA"),
    ("L2 soma", "L2 pyramidal NMDA"),
    ("L5 soma", "L5 pyramidal AMPA"),
    ("L5 soma", "L5 pyramidal NMDA"),
    ("L5 soma", "L2 pyramidal AMPA"),
    ("L5 apical", "L2 pyramidal AMPA"),
    ("L2 basket", "L2 pyramidal AMPA"),
    ("L5 basket", "L5 pyramidal AMPA"),
    ("L5 basket", "L2 pyramidal AMPA"),
)
INHIBITORY = (
    ("L2 soma", "L2 basket GABA-A"),
    ("L2 soma", "L2 basket GABA-B"),
    ("L5 soma", "L5 basket GABA-A"),
    ("L5 soma", "L5 basket GABA-B"),
    ("L5 apical", "L2 basket GABA-A"),
    ("L2 basket", "L2 basket GABA-A"),
    ("L5 basket", "L5 basket GABA-A"),
)
STATES = (
    *(f"{name} voltage" for name in COMPARTMENTS),
    *(f"{name} M-current" for name in PYRAMIDAL),
    *(f"{name} rise" for name in SYNAPSES),
    *(f"{name} decay" for name in SYNAPSES),
)
VOLTAGES, GATES = slice(0, 6), slice(6, 10)
RISES, DECAYS = slice(10, 30), slice(30, 50)


def peak_norm(rise: NDArray, decay: NDArray) -> NDArray:
    """Factor by which the difference of two exponentials has a peak of 1."""
    peak = rise * decay / (decay - rise) * np.log(decay / rise)
    return 1 / (np.exp(-peak / decay) - np.exp(-peak / rise))


NORM = peak_norm(RISE, DECAY)


class Group(NamedTuple):
    """Constants of one kind: names of the entries, a plausible value, sd of its log, unit."""

    entries: tuple[str, ...]
    value: float
    sd: float
    unit: str


def _pairs(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{synapse} to {target}" for target, synapse in pairs)


# Values before the calibration, and how far it may take them.
GROUPS: Mapping[str, Group] = {
    "time constant": Group(COMPARTMENTS, 14.5, 0.5, "ms"),
    "coupling": Group(PYRAMIDAL, 1.0, 1.0, "leak conductances"),
    "threshold": Group(POPULATIONS, 15.0, 0.5, "mV above rest"),
    "slope": Group(POPULATIONS, 4.0, 0.5, "mV"),
    "highest rate": Group(POPULATIONS, 0.05, 1.0, "1/ms"),
    "drive AMPA": Group(COMPARTMENTS, 1000.0, 1.5, "leak conductances per uS"),
    "drive NMDA": Group(COMPARTMENTS, 1000.0, 1.5, "leak conductances per uS"),
    "excitation": Group(_pairs(EXCITATORY), 3.0, 1.5, "leak conductances per event"),
    "inhibition": Group(_pairs(INHIBITORY), 3.0, 1.5, "leak conductances per event"),
    "M-current": Group(PYRAMIDAL, 2.5, 1.5, "leak conductances"),
    "opening": Group(PYRAMIDAL, 10.0, 1.0, "per event"),
    "apical threshold": Group(("L2 apical", "L5 apical"), 20.0, 0.5, "mV above rest"),
    "apical slope": Group(("L2 apical", "L5 apical"), 4.0, 0.5, "mV"),
    "dipole": Group(("L2", "L5"), 2e-4, 1.5, "nAm/mV"),
}
NAMES = tuple(f"{kind}: {entry}" for kind, group in GROUPS.items() for entry in group.entries)

# Highest rate of dendritic spikes, 1/ms, which open M-currents of apical dendrites.
DENDRITIC_RATE = 0.05
# Firing sets in smoothly: where this share of cells is beyond that at rest, half of it counts.
ONSET = 0.01


def _placed(connections: Sequence[tuple[str, str]], first: int, values: jax.Array) -> jax.Array:
    """Conductances of local connections as a matrix (compartments, four synapses)."""
    rows = np.array([COMPARTMENTS.index(target) for target, _ in connections])
    columns = np.array([LOCAL.index(synapse) - first for _, synapse in connections])
    return jnp.zeros((len(COMPARTMENTS), 4)).at[rows, columns].set(values)


def constants_of(values: jax.Array) -> dict[str, jax.Array]:
    """What `relaxation` and `layer_dipoles` take, from the values of `NAMES`, (constants,).

    Examples
    --------
    >>> constants_of(jnp.ones(len(NAMES)))["excitation"].shape
    (6, 4)
    """
    table, start = {}, 0
    for kind, group in GROUPS.items():
        table[kind] = values[start : start + len(group.entries)]
        start += len(group.entries)
    table["excitation"] = _placed(EXCITATORY, 0, table["excitation"])
    table["inhibition"] = _placed(INHIBITORY, 4, table["inhibition"])
    return table


def _share(above: jax.Array, threshold: jax.Array, slope: jax.Array) -> jax.Array:
    """Share of cells beyond their thresholds, counted from rest, of voltages in mV above rest."""
    more = jax.nn.sigmoid((above - threshold) / slope) - jax.nn.sigmoid(-threshold / slope)
    # Cells that hardly fire at rest cannot fire less, or conductances would turn negative; without
    # gain at rest, rest is stable.
    more = jnp.maximum(more, 0.0)
    return more**2 / (more + ONSET)


def firing(above: jax.Array, constants: Mapping[str, jax.Array]) -> jax.Array:
    """Events per cell and ms of the populations, 0 at rest, (..., populations).

    Parameters
    ----------
    above : jax.Array
        Voltages above rest, mV, (..., compartments).
    constants : mapping
        From `constants_of`.
    """
    share = _share(above[..., FIRING], constants["threshold"], constants["slope"])
    return constants["highest rate"] * share


def fired(states: jax.Array, step: float) -> jax.Array:
    """Events per cell and ms of the populations over each step, (steps, populations).

    Read from synapses, which are linear in the firing of their senders, so that the mean of states
    over trials gives the mean of firing.

    Parameters
    ----------
    states : jax.Array
        States relative to rest at the ends of exponential Euler steps, (steps, states).
    step : float
        Length of a step, ms.
    """
    synapses = np.array([int(np.argmax(SENDERS == i)) for i in range(len(POPULATIONS))])
    rise = states[:, RISES][:, synapses]
    before = jnp.concatenate([jnp.zeros_like(rise[:1]), rise[:-1]])
    kept = np.exp(-step / RISE[synapses])
    return (rise - kept * before) / (1 - kept) / RISE[synapses]


def _m_gate(voltage: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Steady state of the gate of the M-current and its rate, 1/ms."""
    x = (voltage + 30.0) / 18.0
    near = jnp.abs(x) < 1e-3
    safe = jnp.where(near, 1.0, x)
    return jax.nn.sigmoid(2 * x), 0.249e-3 * 18 * jnp.where(near, 1.0, safe / jnp.tanh(safe))


GATE_AT_REST = float(1 / (1 + np.exp(-(LEAK + 30.0) / 9.0)))


def rest() -> NDArray[np.float64]:
    """States without drives, (states,)."""
    x = np.zeros(len(STATES))
    x[VOLTAGES], x[GATES] = LEAK, GATE_AT_REST
    return x


class Parts(NamedTuple):
    """States, or what is said of each, by kind: ``STATES`` in four pieces."""

    voltage: jax.Array
    gate: jax.Array
    rise: jax.Array
    decay: jax.Array

    @classmethod
    def of(cls, x: jax.Array) -> Parts:
        """The pieces of states (..., states)."""
        return cls(*(x[..., part] for part in (VOLTAGES, GATES, RISES, DECAYS)))

    def joined(self) -> jax.Array:
        """One array again, (..., states)."""
        shape = self.voltage.shape[:-1]
        return jnp.concatenate([jnp.broadcast_to(p, (*shape, p.shape[-1])) for p in self], -1)


def relaxation(
    x: Parts, drive: jax.Array, constants: Mapping[str, jax.Array]
) -> tuple[Parts, Parts]:
    """Rate, 1/ms, at which each state relaxes, and the value that it relaxes to.

    A voltage obeys ``tau V' = (E_L - V) + c (V_o - V) + g_e (0 - V) + g_i (-80 - V) + g_M (n - n_0)
    (E_K - V)``, with c the coupling to the other compartment of the cell, at V_o; the gate of the
    M-current ``n' = r(V) (n_inf(V) - n) + j f (1 - n)``, with f the firing of the compartment. Each
    event starts a conductance that rises and decays by exponentials, of peak 1.

    Parameters
    ----------
    x : Parts
        States, mV and relative units.
    drive : jax.Array
        Events of drives at each compartment, through AMPA and then NMDA synapses, times their
        weights, uS/ms, shape (..., 12).
    constants : mapping
        From `constants_of`.
    """
    voltage, gate, rise, decay = x
    above = voltage - LEAK
    fired = firing(above, constants)
    conductance = NORM * (decay - rise)
    driven = conductance[..., 8:14] + conductance[..., 14:]
    excitation = driven + (constants["excitation"] * conductance[..., None, :4]).sum(-1)
    inhibition = (constants["inhibition"] * conductance[..., None, 4:8]).sum(-1)

    zeros = jnp.zeros_like(gate[..., :2])
    coupling = jnp.concatenate([jnp.broadcast_to(constants["coupling"], gate.shape), zeros], -1)
    potassium = jnp.concatenate([constants["M-current"] * (gate - GATE_AT_REST), zeros], -1)
    other = jnp.concatenate([voltage[..., OTHER], zeros], -1)
    total = 1 + coupling + excitation + inhibition + potassium
    towards = LEAK + coupling * other + INHIBITION * inhibition + POTASSIUM * potassium

    apical = DENDRITIC_RATE * _share(
        above[..., [1, 3]], constants["apical threshold"], constants["apical slope"]
    )
    events = jnp.stack([fired[..., 0], apical[..., 0], fired[..., 1], apical[..., 1]], -1)
    open_, rate = _m_gate(voltage[..., :4])
    kick = constants["opening"] * events
    gain = jnp.concatenate([constants["drive AMPA"], constants["drive NMDA"]])
    sent = jnp.concatenate([fired[..., SENDERS], gain * drive], -1)
    opened = rate + kick
    # Rates of synapses are constants, so that compilers work out what follows of them.
    rates = Parts(total / constants["time constant"], opened, 1 / RISE, 1 / DECAY)
    targets = Parts(towards / total, (rate * open_ + kick) / opened, RISE * sent, DECAY * sent)
    return rates, targets


def layer_dipoles(voltages: jax.Array, constants: Mapping[str, jax.Array]) -> jax.Array:
    """Current dipoles of layers 2/3 and 5, nAm, of voltages relative to rest.

    ``q (V_soma - V_apical)``, positive towards the surface.

    Parameters
    ----------
    voltages : jax.Array
        Relative to rest, mV, shape (..., compartments or states).
    constants : mapping
        From `constants_of`.
    """
    return constants["dipole"] * (voltages[..., [0, 2]] - voltages[..., [1, 3]])


class Calibration(NamedTuple):
    """What ``ci/laminar_calibration.py`` found.

    Attributes
    ----------
    values : (constants,)
        Of the constants `NAMES`, in the units that `GROUPS` say.
    error : (times, rank)
        Factor F of the covariance F F' of the error of the dipole, nAm.
    error_times : (times,)
        When, ms.
    size : float
        Root mean square of the dipoles it is of, nAm.
    box : mapping
        Drives that the runs had: their largest number, and ranges of times, ms, and weights, uS.
    """

    values: NDArray[np.float64]
    error: NDArray[np.float64]
    error_times: NDArray[np.float64]
    size: float
    box: Mapping[str, Any]


@lru_cache(maxsize=1)
def calibration() -> Calibration:
    """The constants that belong to this version of the package."""
    table = json.loads((files(__package__) / "laminar_constants.json").read_text())
    values = np.array([table["constants"][name] for name in NAMES])
    error, times = (np.array(table[name]) for name in ("error", "error_times"))
    return Calibration(values, error, times, table["size"], table["box"])
