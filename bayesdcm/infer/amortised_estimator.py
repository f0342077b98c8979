"""Estimators that are trained once on simulations of a model, for any number of recordings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesdcm.infer.amortised import AmortisedPosterior, Learnt, features_of, learn
from bayesdcm.infer.batches import Task
from bayesdcm.infer.conditional_flow import Trained
from bayesdcm.infer.fitting import check_call, fit_of
from bayesdcm.infer.loading import read_contents, rebuilt_problem
from bayesdcm.infer.method import as_method, positive_integer
from bayesdcm.infer.plain_objects import PlainWriter, from_plain
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.results import Fit
from bayesdcm.infer.simulated_features import FeatureScale
from bayesdcm.infer.simulations import simulations
from bayesdcm.infer.storage import plain_program, write_whole
from bayesdcm.infer.threads import single_threaded_linear_algebra

__all__ = ["AmortisedEstimator", "Calibration", "train_amortised"]

LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often an estimator is right, on simulations that it was not trained on.

    Attributes
    ----------
    ranks : pandas.DataFrame
        Share of the posterior's draws below the truth, one row a simulation, one column a
        parameter; uniform where posteriors are calibrated.
    coverage : pandas.DataFrame
        Share of simulations whose central interval holds the truth, by level and parameter.
    sd_ratio : pandas.Series
        Median posterior over prior standard deviation.
    """

    ranks: pd.DataFrame
    coverage: pd.DataFrame
    sd_ratio: pd.Series

    def __repr__(self) -> str:
        table = self.coverage.to_string(float_format="{:.3f}".format)
        return f"Calibration on {len(self.ranks)} simulations, coverage by level:\n{table}"


@dataclass(frozen=True, eq=False)
class AmortisedEstimator:
    """A trained posterior of a model: any recording's `Fit` in a moment.

    Made by `train_amortised` and `AmortisedEstimator.load`.

    Attributes
    ----------
    problem : Problem
        The model, bound to the data that gave shapes.
    learnt : Learnt
        Features of the simulations, and flows.
    """

    problem: Problem
    learnt: Learnt

    def __repr__(self) -> str:
        return (
            f"AmortisedEstimator({', '.join(self.problem.flat_labels)} from "
            f"{len(self.feature_names)} features, {self.learnt.counts[0]} simulations; "
            f"{self.problem.description})"
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, such as ``functional_connectivity[V1, V5]``."""
        return list(self.learnt.scale.names)

    @single_threaded_linear_algebra()
    def fit(self, data: Any, *, seed: int = 0) -> Fit:
        """The posterior of a recording.

        Parameters
        ----------
        data : object
            As the model takes it, in the shape that it was trained for.
        seed : int
            Of the draws.

        Returns
        -------
        Fit
            As `bayesdcm.fit` gives it.

        Raises
        ------
        TypeError, ValueError
            If the data are not the model's, or have another shape.
        """
        check_call(seed, False)
        problem = make_problem(self.problem.model, data)
        task = Task(problem, self.learnt.method, int(seed))
        return fit_of(task, self.learnt.posterior(problem, task.seed))

    @single_threaded_linear_algebra()
    def calibrate(self, n: int = 200, *, seed: int = 1, progress: bool = True) -> Calibration:
        """Posteriors of fresh simulations against the parameters that these were made with.

        Parameters
        ----------
        n : int
            Simulations.
        seed : int
            Of the simulations, another one than that of training.
        progress : bool
            Whether to show progress.

        Returns
        -------
        Calibration
            Ranks, coverage of central intervals, and widths.

        Raises
        ------
        ValueError
            If n is not a positive integer.
        """
        positive_integer("n", n)
        truth, values = simulations(self.problem, n, seed, progress, title="calibration")
        _, features = features_of(self.problem, values)
        finite = np.isfinite(features).all(1)
        truth = (truth[finite] - self.learnt.location) / self.learnt.width
        ranks, widths = [], []
        for number, (row, true) in enumerate(zip(features[finite], truth, strict=True)):
            draws, _ = self.learnt.draws(row, seed + number)
            ranks.append((draws < true).mean(0))
            widths.append(draws.std(0))
        labels = self.problem.flat_labels
        table = pd.DataFrame(ranks, columns=labels)
        inside = {level: ((table - 0.5).abs() <= level / 2).mean() for level in LEVELS}
        coverage = pd.DataFrame(inside).T.rename_axis("level")
        return Calibration(table, coverage, pd.DataFrame(widths, columns=labels).median())

    def save(self, path: str | Path) -> Path:
        """Write it to one file: plain arrays and JSON, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced.

        Returns
        -------
        pathlib.Path
            The path.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        """
        writer = PlainWriter()
        parts = {field.name: getattr(self.learnt, field.name) for field in fields(Learnt)}
        parts |= {name: parts[name]._asdict() for name in ("scale", "trained")}
        parts["labels"] = self.problem.flat_labels
        plain = {
            "program": plain_program(self.problem, writer),
            "estimator": {name: writer.plain(part, name) for name, part in parts.items()},
        }
        return write_whole(Path(path), self.learnt.method.name, plain, writer.arrays)

    @classmethod
    def load(cls, path: str | Path, model: Any = None, data: Any = None) -> AmortisedEstimator:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.
        model, data : optional
            Of a program of one's own, which the file does not hold.

        Returns
        -------
        AmortisedEstimator
            Which does all that the saved one did.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no estimator, or the model is missing or another one.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"path: there is no file {str(path)!r}")
        plain, arrays, _ = read_contents(path)
        if "estimator" not in plain:
            raise ValueError(
                f"path: {str(path)!r} holds a fit, and no estimator; read it by bayesdcm.load_fit"
            )
        if model is not None:
            problem = make_problem(model, data)
        elif plain["program"] is not None:
            problem = rebuilt_problem(plain["program"], arrays)
        else:
            raise ValueError(
                f"path: {str(path)!r} cannot hold a program of one's own; give it and data of its "
                "shape: load(path, model=program, data=data)"
            )
        parts = from_plain(plain["estimator"], arrays)
        labels = parts.pop("labels")
        if labels != problem.flat_labels:
            raise ValueError(
                f"model must be the one that was trained, with {', '.join(labels)}; got one with "
                f"{', '.join(problem.flat_labels)}"
            )
        parts |= {"scale": FeatureScale(**parts["scale"]), "trained": Trained(**parts["trained"])}
        return cls(problem, Learnt(**parts))


def train_amortised(
    model: Any,
    data: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> AmortisedEstimator:
    """Train a posterior on simulations of a model, for any number of recordings.

    Parameters
    ----------
    model : model or callable
        As `bayesdcm.fit` takes it; best a `bayesdcm.SimulationObjective`.
    data : object
        A recording, or what has its shape: its values do not matter.
    out : path-like, optional
        Folder in which simulations are kept, so that a run that was stopped goes on, and more
        simulations, or flows of other sizes, need only what is missing.
    seed : int
        Of everything random.
    progress : bool
        Whether to show progress.
    **options
        Fields of `AmortisedPosterior`.

    Returns
    -------
    AmortisedEstimator
        ``estimator.fit(recording)`` is a `Fit`.

    Raises
    ------
    ImportError
        If flowjax is not installed.
    TypeError, ValueError
        If the model, data or an option cannot be used, or nearly all simulations diverge.

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
    ...     numpyro.sample("y", dist.Normal(mean, 1.0).expand([3]).to_event(1), obs=data)
    >>> options = {"simulations": 100, "epochs": 2, "ensemble": 1, "progress": False}
    >>> estimator = train_amortised(program, np.zeros(3), **options)
    >>> estimator.feature_names, estimator.fit(np.ones(3)).method
    (['y[0]', 'y[1]', 'y[2]'], 'amortised')
    """
    method = as_method(AmortisedPosterior.name, options)
    check_call(seed, progress)
    problem = make_problem(model, data)
    method.require(problem)
    return AmortisedEstimator(problem, learn(problem, method, int(seed), bool(progress), out))
