"""HnnSimulator: the biophysical network of the Human Neocortical Neurosolver with given drives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.drive import Drive, check_drives
from bayesdcm.data.hnn_network import (
    HNN_CORE,
    describe_network,
    need_hnn_core,
    network_with_drives,
)
from bayesdcm.data.validation import check_positive, check_whole, describe, warn_caller
from bayesdcm.models.hnn_trials import Trial, installed_version, simulate_trials

__all__ = ["HnnResponse", "HnnSimulator"]

ORIENTATION = "as hnn-core has it: positive is from deep to superficial"
AMPERE_METRES = 1e-9
# Between the name of a drive and the number of its event, where events are given.
SEPARATOR = " event "


@dataclass(frozen=True, eq=False, repr=False)
class HnnResponse:
    """What the network did, trial by trial.

    Attributes
    ----------
    drives : tuple of Drive
        Drives of the run, all numbers fixed.
    trials : tuple of DipoleData
        Dipole of each trial with its layers, in A m, not smoothed, for one network as it is (100
        pyramidal cells in each layer, where it is hnn-core's own).
    spikes : dict of str to array of int, shape (trials, ms)
        Spikes of all cells of a kind in each ms, by kind of cell.
    event_times : dict of str to array of shape (trials, events)
        When each drive's cells fired, in ms; NaN where they did not.
    """

    drives: tuple[Drive, ...]
    trials: tuple[DipoleData, ...]
    spikes: dict[str, NDArray[np.int64]]
    event_times: dict[str, NDArray[np.float64]]

    @cached_property
    def dipole(self) -> DipoleData:
        """Mean over trials, with the means of layers."""
        layers = {
            layer: np.mean([trial.layers[layer] for trial in self.trials], axis=0)
            for layer in self.trials[0].layers
        }
        mean = np.mean([trial.dipole for trial in self.trials], axis=0)
        return self.trials[0].replace(dipole=mean, layers=layers, n_averages=len(self.trials))

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return len(self.trials)

    def __repr__(self) -> str:
        spikes = ", ".join(
            f"{cell} {counts.sum() / self.n_trials:.3g}" for cell, counts in self.spikes.items()
        )
        drives = ", ".join(drive.name for drive in self.drives)
        return (
            f"HnnResponse({self.n_trials} trial(s) of {drives}; {self.dipole.n_times} times; "
            f"spikes a trial: {spikes})"
        )


@dataclass(frozen=True)
class HnnSimulator:
    """The biophysical network of hnn-core, simulated with the drives of a model or a fit.

    A trial of 170 ms costs about 20 s of a core. Trials run in processes of their own, side by
    side, and are kept in a folder if one is given, so that a run which was stopped goes on where it
    was. Needs hnn-core 0.6.1 and NEURON 8.2.7 (extra ``hnn``).

    Parameters
    ----------
    network : str, path or hnn_core.Network, default "N20"
        As `write_hnn` takes it. "N20" are the connections of hnn-core's file N20.json, for which
        `LaminarDCM` was calibrated; those of "default" are others.
    n_trials : int, default 10
        Trials of a run, unless it says otherwise.
    n_jobs : int, optional
        Trials at a time; None or -1: one for each core.
    dt : float, default 0.025
        Step of the simulation, in **ms**.
    duration : float, default 170
        Duration of a trial, in **ms**.
    seed : int, default 2
        Seed of the times of events, for drives that have none, as in `write_hnn`.
    progress : bool, default True
        Whether to show progress.
    cache : path, optional
        Folder that keeps trials. A trial is found by its network, drives, seed, duration, step and
        the versions of hnn-core and NEURON.

    Raises
    ------
    ImportError
        If hnn-core or NEURON is not installed.
    TypeError, ValueError
        If an option is none.

    Warns
    -----
    UserWarning
        If hnn-core has another version, with which numbers may differ.

    References
    ----------
    Neymotin SA et al. (2020). Human Neocortical Neurosolver (HNN). eLife 9:e51214.
    https://doi.org/10.7554/eLife.51214

    Jas M et al. (2023). HNN-core: a Python software for cellular and circuit-level interpretation
    of human MEG/EEG. J Open Source Softw 8(92):5848. https://doi.org/10.21105/joss.05848

    Examples
    --------
    >>> drives = [Drive("first", "proximal", 20.0, 3.0, {"L2_pyramidal": 0.004})]
    >>> response = HnnSimulator(n_trials=4).run(drives)  # doctest: +SKIP
    >>> response.dipole.nanoampere_metres  # doctest: +SKIP
    """

    network: Any = "N20"
    n_trials: int = 10
    n_jobs: int | None = None
    dt: float = 0.025
    duration: float = 170.0
    seed: int = 2
    progress: bool = True
    cache: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check the options, and that hnn-core is there."""
        check_whole("n_trials", self.n_trials)
        if self.n_jobs is not None and self.n_jobs != -1:
            check_whole("n_jobs", self.n_jobs)
        check_positive("dt", self.dt, "ms")
        check_positive("duration", self.duration, "ms")
        if self.duration <= 1:
            raise ValueError(
                f"duration is {self.duration:g} ms, which seems to be in s; it is in ms, as in "
                f"hnn-core. Give {self.duration * 1e3:g} if it is {self.duration:g} s"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer):
            raise TypeError(f"seed must be a whole number, got {self.seed!r}")
        if self.cache is not None and not isinstance(self.cache, str | PathLike):
            raise TypeError(f"cache must be a path to a folder, got {describe(self.cache)}")
        need_hnn_core("HnnSimulator")
        version = installed_version("hnn-core")
        if version != HNN_CORE:
            warn_caller(
                f"hnn-core is {version}; the column was calibrated on {HNN_CORE}, and numbers of "
                f"other versions may differ. Install hnn-core=={HNN_CORE} for those"
            )

    @cached_property
    def _column(self) -> dict[str, Any]:
        return describe_network(self.network)

    def run(
        self,
        drives: Drive | Sequence[Drive],
        event_times: Mapping[str, ArrayLike] | None = None,
        *,
        n_trials: int | None = None,
        seed: int | None = None,
    ) -> HnnResponse:
        """Simulate trials of one set of drives.

        Parameters
        ----------
        drives : Drive or sequence of Drive
            Drives; priors are taken at their centres.
        event_times : mapping of str to array_like, optional
            Exact times of the events of each drive, in ms: shape (trials,), or (trials, events);
            NaN for no event. All cells that a drive reaches share them. Times and spreads of the
            drives do not matter then. By default events are drawn as hnn-core draws them from the
            drive's seed: trials are those of ``simulate_dipole`` of what `write_hnn` writes.
        n_trials : int, optional
            How many trials; by default the simulator's, or as many as there are event times.
        seed : int, optional
            In place of the simulator's.

        Returns
        -------
        HnnResponse
            Dipoles, spikes and the times of events.

        Raises
        ------
        TypeError, ValueError
            If drives or times of events are not as described, or come after the trial has ended.
        RuntimeError
            If hnn-core fails.
        """
        return self.run_many(
            [drives],
            None if event_times is None else [event_times],
            n_trials=n_trials,
            seed=seed,
        )[0]

    def run_many(
        self,
        settings: Sequence[Sequence[Drive]],
        event_times: Sequence[Mapping[str, ArrayLike]] | None = None,
        *,
        n_trials: int | None = None,
        seed: int | None = None,
    ) -> list[HnnResponse]:
        """Simulate trials of many sets of drives, such as draws of a posterior, all side by side.

        Parameters
        ----------
        settings : sequence of sequences of Drive
            Drives of each set.
        event_times : sequence of mappings, optional
            Times of the events of each set, as in `run`. By default no two sets have the same
            deviations: trials are numbered through.
        n_trials : int, optional
            Trials of each set.
        seed : int, optional
            In place of the simulator's.

        Returns
        -------
        list of HnnResponse
            One for each set.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As for `run`.
        """
        checked = [tuple(drive.at() for drive in check_drives(each)) for each in settings]
        seed = self.seed if seed is None else seed
        if event_times is None:
            count = self.n_trials if n_trials is None else n_trials
            check_whole("n_trials", count)
            networks = [
                self._drawn(drives, seed, range(i * count, (i + 1) * count))
                for i, drives in enumerate(checked)
            ]
        else:
            if isinstance(event_times, Mapping) or len(event_times) != len(checked):
                raise ValueError(
                    "event_times must have one mapping for each set of drives, got "
                    f"{describe(event_times)} for {len(checked)} set(s)"
                )
            networks = [
                self._given(drives, _checked_events(drives, times, self.duration, n_trials))
                for drives, times in zip(checked, event_times, strict=True)
            ]
        results = simulate_trials(
            [network for each in networks for network in each],
            float(self.duration),
            float(self.dt),
            n_jobs=(os.cpu_count() or 1) if self.n_jobs in (None, -1) else self.n_jobs,
            folder=None if self.cache is None else Path(fspath(self.cache)),
            progress=self.progress,
        )
        responses, first = [], 0
        for drives, each in zip(checked, networks, strict=True):
            responses.append(self._response(drives, results[first : first + len(each)]))
            first += len(each)
        return responses

    def _drawn(self, drives: Sequence[Drive], seed: int, trials: range) -> list[dict[str, Any]]:
        """Networks whose first trial is the n-th one of hnn-core."""
        for drive in drives:
            if drive.time > self.duration:
                raise ValueError(
                    f"drive {drive.name!r} comes at {drive.time:g} ms, after the trial of "
                    f"{self.duration:g} ms has ended; give the simulator a longer duration"
                )
        networks = []
        for trial in trials:
            network = network_with_drives(self._column, drives, seed)
            last = max(place["stop"] for place in network["gid_ranges"].values())
            for drive in network["external_drives"].values():
                drive["event_seed"] += trial * last
            networks.append(network)
        return networks

    def _given(
        self, drives: Sequence[Drive], times: Mapping[str, NDArray[np.float64]]
    ) -> list[dict[str, Any]]:
        """Networks with one drive for each event, at that time without spread."""
        networks = []
        for trial in range(len(next(iter(times.values())))):
            single, at = [], {}
            for drive in drives:
                for i, time in enumerate(times[drive.name][trial]):
                    if np.isfinite(time):
                        name = f"{drive.name}{SEPARATOR}{i + 1}"
                        single.append(drive.replace(name=name, n_events=1, n_cells=1, event_seed=0))
                        at[name] = float(time)
            network = network_with_drives(self._column, single, 0)
            for name, drive in network["external_drives"].items():
                drive["dynamics"] = {"mu": at[name], "sigma": 0.0, "numspikes": 1}
            networks.append(network)
        return networks

    def _response(self, drives: tuple[Drive, ...], trials: Sequence[Trial]) -> HnnResponse:
        times = np.arange(trials[0].dipole.shape[1]) * self.dt * 1e-3
        dipoles = tuple(
            DipoleData(
                trial.dipole[0] * AMPERE_METRES,
                times,
                layers={
                    "L2": trial.dipole[1] * AMPERE_METRES,
                    "L5": trial.dipole[2] * AMPERE_METRES,
                },
                name="hnn-core",
                orientation=ORIENTATION,
            )
            for trial in trials
        )
        spikes = {cell: np.stack([t.spikes[cell] for t in trials]) for cell in trials[0].spikes}
        events = {drive.name: _events_of(drive.name, trials) for drive in drives}
        return HnnResponse(drives, dipoles, spikes, events)


def _events_of(name: str, trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Times of a drive's events in each trial, (trials, events), NaN after the last."""
    lists = [
        [
            time
            for each, cells in trial.events.items()
            if each.rpartition(SEPARATOR)[0] == name or each == name
            for cell in cells
            for time in cell
        ]
        for trial in trials
    ]
    table = np.full((len(lists), max(map(len, lists))), np.nan)
    for row, times in zip(table, lists, strict=True):
        row[: len(times)] = times
    return table


def _checked_events(
    drives: Sequence[Drive], given: Any, duration: float, n_trials: int | None
) -> dict[str, NDArray[np.float64]]:
    """Times of events of each drive, (trials, events) in ms, NaN for none."""
    names = [drive.name for drive in drives]
    if not isinstance(given, Mapping) or sorted(given) != sorted(names):
        got = sorted(given) if isinstance(given, Mapping) else describe(given)
        raise ValueError(
            f"event_times must be a mapping with the times of each drive, {names}, got {got}"
        )
    times: dict[str, NDArray[np.float64]] = {}
    for drive in drives:
        which = f"event_times[{drive.name!r}]"
        if not drive.shared:
            raise ValueError(
                f"{which} is given, but the drive is cell_specific: each cell draws its own times; "
                "leave event_times out, or give the drive cell_specific=False"
            )
        array = np.array(given[drive.name], float)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or not array.size:
            raise ValueError(
                f"{which} must have shape (trials,) or (trials, events), got {array.shape}"
            )
        happen = array[~np.isnan(array)]
        if happen.size and not ((happen > 0) & (happen <= duration)).all():
            raise ValueError(
                f"{which} has times from {happen.min():g} to {happen.max():g} ms; expected times "
                f"above 0 and up to the duration of {duration:g} ms, outside which nothing happens "
                "in hnn-core. Give NaN for no event"
            )
        if happen.size and happen.max() < 1:
            raise ValueError(
                f"{which} has times up to {happen.max():g} ms, which seem to be in s; times of "
                "events are in ms, as in hnn-core"
            )
        times[drive.name] = array
    counts = {name: len(array) for name, array in times.items()}
    if len(set(counts.values())) > 1 or (n_trials is not None and n_trials not in counts.values()):
        expected = "the same number for all" if n_trials is None else f"n_trials={n_trials}"
        raise ValueError(f"event_times are of {counts} trials; expected {expected}")
    return times
