"""A posterior of drives beside the biophysical network, and corrected by its runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.data.dipole import DipoleData
from bayesdcm.data.drive import Drive
from bayesdcm.data.hamming import hamming_weights, smoothed
from bayesdcm.data.validation import check_positive, check_whole
from bayesdcm.infer.problem import make_problem
from bayesdcm.infer.threads import single_threaded_linear_algebra
from bayesdcm.observe.dipole_correction import fit_correction

if TYPE_CHECKING:
    from bayesdcm.infer.results import Fit

__all__ = ["NetworkCheck", "check_with_network"]

# Numbers of the drives on which the difference between network and column depends.
NUMBERS = ("time", "weights_ampa", "weights_nmda")
# Draws that are no drives (too early for their spread) are replaced; so many are tried for each.
TRIES = 20
# Later than any response: an event that does not happen.
NEVER = 1e6


@dataclass(frozen=True, eq=False)
class NetworkCheck:
    """What the biophysical network says of a posterior.

    Attributes
    ----------
    before, after : Fit
        The fit that was checked, and that of the same data by the corrected model.
    responses : tuple of HnnResponse
        Runs of the network, each with drives from a draw of the posterior of the last round.
    """

    before: Fit
    after: Fit
    responses: tuple[Any, ...]

    @cached_property
    def network(self) -> NDArray[np.float64]:
        """Mean dipole of the network with each set of drives, as the data were smoothed.

        In A m of as many cells as the posterior has on average, shape (sets, times).
        """
        data = self.after.problem.data
        model = self.after.problem.model
        cells = model.scale * np.exp(float(self.after.mean.get("scale", 0.0)))
        return cells * np.stack([_seen(r.dipole, data) for r in self.responses])

    @property
    def variance_explained(self) -> pd.Series:
        """R2 of the data: of column, corrected column, and mean of the network over sets."""
        data = self.after.problem.data.dipole
        predicted = {
            "column": np.asarray(self.before.predict()),
            "corrected column": np.asarray(self.after.predict()),
            "network": self.network.mean(0),
        }
        total = ((data - data.mean()) ** 2).sum()
        return pd.Series(
            {name: 1 - ((data - each) ** 2).sum() / total for name, each in predicted.items()},
            name="R2",
        )

    def summary(self) -> pd.DataFrame:
        """How much each parameter moved.

        Returns
        -------
        pandas.DataFrame
            By parameter: ``mean`` and ``sd`` before, ``corrected_mean`` and ``corrected_sd``, and
            ``moved``, the difference of means over the sd before.
        """
        before, after = self.before.summary(), self.after.summary()
        table = pd.DataFrame(
            {
                "mean": before["mean"],
                "sd": before["sd"],
                "corrected_mean": after["mean"],
                "corrected_sd": after["sd"],
            }
        )
        table["moved"] = (table["corrected_mean"] - table["mean"]) / table["sd"]
        return table

    def __repr__(self) -> str:
        table = self.summary()
        most = table["moved"].abs().idxmax()
        explained = ", ".join(f"{n} {v:.2f}" for n, v in self.variance_explained.items())
        return (
            f"NetworkCheck({len(self.responses)} sets of drives; {most} moved by "
            f"{table.loc[most, 'moved']:.2g} sd; R2: {explained})"
        )


def check_with_network(
    checked: Fit,
    simulator: Any,
    *,
    draws: int = 40,
    n_trials: int = 3,
    rounds: int = 2,
    inflation: float = 2.0,
    seed: int = 0,
    progress: bool = True,
) -> NetworkCheck:
    """What `Fit.check_with` does, where arguments are explained."""
    model, data = _model_and_data(checked)
    for name, value in (("draws", draws), ("n_trials", n_trials), ("rounds", rounds)):
        check_whole(name, value)
    check_positive("inflation", inflation, "standard deviations")
    end = getattr(simulator, "duration", np.inf)
    if end < 1e3 * data.times[-1]:
        raise ValueError(
            f"simulator.duration is {end:g} ms, but the data last until {1e3 * data.times[-1]:g} "
            "ms; give HnnSimulator(duration=...) of that length, or crop the data"
        )
    rng = np.random.default_rng(seed)
    current, network, column, entries, groups = checked, [], [], [], []
    for round_ in range(rounds):
        wider = inflation if round_ < rounds - 1 else 1.0
        settings = _settings(current, draws, wider, rng)
        # Each draw has events of its own.
        responses = simulator.run_many(
            [[_unseeded(drive) for drive in drives] for drives, _ in settings],
            n_trials=n_trials,
            seed=int(rng.integers(2**31)),
        )
        single = _SingleTrials(model, data)
        for (_, values), response in zip(settings, responses, strict=True):
            for trial in range(response.n_trials):
                own = single.parameters(values, response, trial)
                column.append(own)
                entries.append(single.entries(values, response, trial))
                network.append(1e9 * _seen(response.trials[trial], data))
                groups.append(len(groups) // n_trials)
        correction = fit_correction(
            np.array(network),
            single.predict(column),
            {name: np.array([each[name] for each in entries]) for name in NUMBERS},
            np.array(groups),
            data.times,
            data.n_averages,
        )
        current = _fitted(checked, _remade(model, correction=correction), data, seed, progress)
    return NetworkCheck(checked, current, tuple(responses))


@single_threaded_linear_algebra()
def _fitted(checked: Fit, model: Any, data: DipoleData, seed: int, progress: bool) -> Fit:
    """The fit of another model by the same method."""
    method = checked.posterior.method
    problem = make_problem(model, data)
    made = type(checked)(problem, method.run(problem, seed, progress))
    made.status |= {"seed": seed, "options": method.options()}
    return made


def _model_and_data(checked: Fit) -> tuple[Any, DipoleData]:
    model, data = checked.problem.model, checked.problem.data
    if not hasattr(model, "drives_at"):
        raise TypeError(
            f"check_with is for fits of LaminarDCM, whose drives a network takes, got one of "
            f"{type(model).__name__}"
        )
    return _remade(model, correction=None), data


def _remade(model: Any, **changes: Any) -> Any:
    """The model with other fields; its warnings were said when it was first made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return replace(model, **changes)


def _unseeded(drive: Drive) -> Drive:
    return drive.replace(event_seed=None)


def _settings(
    current: Fit, draws: int, inflation: float, rng: np.random.Generator
) -> list[tuple[tuple[Drive, ...], dict[str, NDArray]]]:
    """Drives from draws of a posterior, and their parameters."""
    model, sample = current.problem.model, current._draws_by_site
    names = [prior.name for prior in model.parts.neural.priors()]
    flat = {n: np.asarray(sample[n]) for n in names if n in sample}
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in flat.items()}
    count = len(next(iter(flat.values())))
    means = {name: values.mean(0) for name, values in flat.items()}
    settings: list = []
    for _ in range(TRIES * draws):
        if len(settings) == draws:
            break
        at = int(rng.integers(count))
        values = {n: means[n] + inflation * (v[at] - means[n]) for n, v in flat.items()}
        try:
            with warnings.catch_warnings():
                # Of events that do not happen: in the network they do not, either.
                warnings.simplefilter("ignore", UserWarning)
                settings.append((model.drives_at(values), values))
        except ValueError as error:
            fault = error
    if len(settings) < draws:
        raise ValueError(f"draws of the posterior are no drives that a network takes: {fault}")
    return settings


class _SingleTrials:
    """The column in single trials, of which the times of events are known."""

    def __init__(self, model: Any, data: DipoleData) -> None:
        self._model, self._data = model, data
        self._drives: list[Drive] = []
        self._of: list[tuple[int, int]] = []
        for i, drive in enumerate(model.drives):
            events = drive.n_events * drive.n_cells if drive.shared else 1
            for event in range(events):
                name = f"{drive.name} event {event + 1}"
                single = drive.replace(name=name, n_events=1, n_cells=1)
                self._drives.append(single.replace(spread=0.0) if drive.shared else single)
                self._of.append((i, event))
        self._predict = self._compiled()

    def _compiled(self) -> Callable[[dict[str, NDArray]], Any]:
        column = _remade(self._model, drives=self._drives, priors=None)
        return jax.jit(jax.vmap(lambda values: column.predict(values, self._data)))

    def parameters(self, values: Any, response: Any, trial: int) -> dict[str, NDArray]:
        """Parameters of the column with one drive for each event."""
        rows = [i for i, _ in self._of]
        # Drives of the response have the numbers themselves; these are relative to the model's.
        own = {}
        for name in ("spread", "weights_ampa", "weights_nmda"):
            full = values.get(name)
            shape = np.shape([drive.centre(name) for drive in self._model.drives])
            own[name] = (np.zeros(shape) if full is None else np.asarray(full))[rows]
        times = []
        for i, event in self._of:
            drive = response.drives[i]
            if drive.shared:
                row = response.event_times[drive.name][trial]
                time = row[event] if event < len(row) else np.nan
                times.append(NEVER if np.isnan(time) else time)
            else:
                times.append(drive.time)
        return own | {"time": np.array(times), "scale": np.zeros(())}

    def entries(self, values: Any, response: Any, trial: int) -> dict[str, NDArray]:
        """Numbers of the drives in this trial, as the model's parameters have them."""
        numbers = {}
        for name in NUMBERS:
            centres = np.array([drive.centre(name) for drive in self._model.drives])
            at_rest = centres if name == "time" else np.zeros_like(centres)
            numbers[name] = np.array(values.get(name, at_rest), float)
        for i, drive in enumerate(response.drives):
            events = response.event_times[drive.name][trial]
            if drive.shared and np.isfinite(events).any():
                numbers["time"][i] = np.nanmean(events)
        return numbers

    def predict(self, parameters: Sequence[dict[str, NDArray]]) -> NDArray[np.float64]:
        """Dipoles of the column in nAm of one network, (trials, times)."""
        stacked = {n: np.stack([each[n] for each in parameters]) for n in parameters[0]}
        return 1e9 / self._model.scale * np.asarray(self._predict(stacked))


def _seen(dipole: DipoleData, data: DipoleData) -> NDArray[np.float64]:
    """A simulated dipole, A m, at the times of the data and as smooth; 0 before it begins."""
    values = dipole.dipole
    if data.smoothing:
        step = float(dipole.times[1] - dipole.times[0])
        values = smoothed(values, hamming_weights(data.smoothing, step))
    return np.interp(data.times, dipole.times, values, left=0.0)
