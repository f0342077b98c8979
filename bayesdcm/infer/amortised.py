"""Posteriors from simulations alone: neural density estimation, trained once for many recordings.

Parameters are drawn from the prior and simulated; conditional flows learn the density of parameters
given features of the data [1]_. A recording's posterior is then a pass through them.

References
----------
.. [1] Cranmer, Brehmer and Louppe (2020), PNAS 117:30055. https://doi.org/10.1073/pnas.1912789117
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesdcm.infer.batches import shape_of
from bayesdcm.infer.conditional_flow import (
    FlowShape,
    Trained,
    Training,
    draw,
    require_flowjax,
    train,
)
from bayesdcm.infer.evaluation import modelled_confounds, observed_values
from bayesdcm.infer.findings import add, listed
from bayesdcm.infer.method import Method, as_method, option, positive_integer, positive_number
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem, make_problem
from bayesdcm.infer.simulated_features import FeatureScale, feature_scale, named_features
from bayesdcm.infer.simulations import own_simulator, simulations
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.threads import single_threaded_linear_algebra

if TYPE_CHECKING:
    from bayesdcm.infer.batches import Batch
    from bayesdcm.infer.results import Fit

__all__ = ["AmortisedEstimator", "AmortisedPosterior", "Calibration", "train_amortised"]

# Fewer simulations cannot be divided into those that flows see and those by which they stop.
FEWEST = 50
# Farther out than so many of the simulations: outside what was trained on.
OUTSIDE = 0.995
# Of simulations that may be lost without a word.
LOST = 0.05
# Posterior over prior standard deviation above which data say next to nothing.
WIDE = 0.9
LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True, eq=False)
class AmortisedPosterior(Method):
    """Posterior by simulation: conditional flows, trained on draws from the prior.

    For models without a density, such as nonlinear stochastic networks
    (`bayesdcm.SimulationObjective`, whose terms are the features; how they are compared does not
    matter), with few parameters; for any other program, what it observes are the features.
    `bayesdcm.infer.train_amortised` trains once for many recordings.

    Parameters
    ----------
    simulations : int
        Draws from the prior that are simulated.
    components : int
        Principal components of the features that flows take, at most.
    ensemble : int
        Flows whose mixture is the posterior.
    layers, width : int
        Of each flow, and of the networks in its layers.
    epochs, patience : int
        Passes over the simulations at most, and without gain on held-out ones before training
        stops.
    learning_rate : float
        Step of Adam.
    draws : int
        Draws of the posterior.

    References
    ----------
    .. [1] Papamakarios, Pavlakou and Murray (2017), Advances in Neural Information Processing
           Systems. https://arxiv.org/abs/1705.07057
    .. [2] Hermans et al. (2022), Transactions on Machine Learning Research.
           https://arxiv.org/abs/2110.06581

    Examples
    --------
    >>> AmortisedPosterior(simulations=500).options()
    {'simulations': 500}
    """

    name: ClassVar[str] = "amortised"
    title: ClassVar[str] = "amortised neural posterior estimation"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Cranmer K, Brehmer J, Louppe G (2020). The frontier of simulation-based inference. "
            "Proceedings of the National Academy of Sciences 117:30055-30062.",
            "https://doi.org/10.1073/pnas.1912789117",
        ),
        (
            "Papamakarios G, Pavlakou T, Murray I (2017). Masked autoregressive flow for density "
            "estimation. Advances in Neural Information Processing Systems 30.",
            "https://arxiv.org/abs/1705.07057",
        ),
        (
            "Ward D (2023). FlowJax: distributions and normalizing flows in JAX.",
            "https://doi.org/10.5281/zenodo.10402073",
        ),
    )
    needs: ClassVar[str] = "simulator"

    simulations: int = option(
        2000, positive_integer, words="Draws from the prior that are simulated.", shell=True
    )
    components: int = option(60, positive_integer, words="Components of the features.")
    ensemble: int = option(4, positive_integer, words="Flows whose mixture is the posterior.")
    layers: int = option(3, positive_integer, words="Layers of a flow.")
    width: int = option(48, positive_integer, words="Width of the networks in a layer.")
    epochs: int = option(300, positive_integer, words="Passes over the simulations.", shell=True)
    patience: int = option(20, positive_integer, words="Passes without gain.")
    learning_rate: float = option(1e-3, positive_number, words="Step of Adam.")
    draws: int = option(1000, positive_integer, words="Draws of the posterior.", shell=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.simulations < FEWEST:
            raise ValueError(
                f"simulations must be an integer of at least {FEWEST}, got {self.simulations}"
            )

    def require(self, problem: Problem) -> None:
        """Refuse programs that cannot be simulated as data are, see `Method.require`."""
        require_flowjax()
        if not observed_values(problem):
            raise ValueError(
                f"method {self.name!r} simulates what is observed, but {problem.description} "
                "observes nothing that can be simulated; a SimulationObjective needs terms, such "
                'as {"functional_connectivity": "correlation"}'
            )
        if own_simulator(problem) is None and modelled_confounds(problem).size:
            raise ValueError(
                f"method {self.name!r} cannot draw confounds, of which nothing is known before; "
                "leave them out (confounds=None), or use method='nuts'"
            )

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Simulate, train, and look at the data, as `Method.run`."""
        return trained_on(problem, self, seed, progress).posterior(problem, seed)

    def batch_key(self, problem: Problem) -> Hashable | None:
        """One training serves all recordings of a model and shape, see `Method.batch_key`."""
        try:
            key = problem.source, shape_of(problem.prepared), repr(self.options())
            hash(key)
        except TypeError:
            return None
        return key

    def run_many(
        self, batch: Batch, side_by_side: str
    ) -> Iterator[tuple[Hashable, Posterior | Exception]]:
        """Train once for all, see `Method.run_many`."""
        del side_by_side
        estimator = None
        for key, task in zip(batch.keys, batch.tasks, strict=True):
            try:
                if estimator is None:
                    task.method.require(task.problem)
                    # The first recording gives no more than shapes.
                    estimator = trained_on(task.problem, task.method, 0, False)
                yield key, estimator.posterior(task.problem, task.seed)
            except Exception as error:
                yield key, error

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Training, place of the recording among simulations, width, as `Method.check`."""
        status = fit.status
        facts |= {name: status[name] for name in ("nearest", "beyond", "left_out")}
        ratios = np.asarray(status["sd_ratio"])
        facts["sd_ratio"] = ratios
        if not status["converged"]:
            add(
                problems,
                "not converged",
                "The density of held-out simulations was still rising when training ended: raise "
                "epochs.",
            )
        if status["left_out"] > LOST * status["simulations"]:
            add(
                problems,
                "simulations lost",
                f"{status['left_out']} of {status['simulations']} simulations were not finite and "
                "left out: the posterior holds for stable parameters only. Narrow the priors, or "
                "take a shorter step.",
            )
        if max(status["nearest"], status["beyond"]) > OUTSIDE:
            unusual = [f"{name} by {far:g}" for name, far in status["unusual"].items()]
            add(
                problems,
                "outside the simulations",
                "The data do not look like any simulation that was trained on (farther out than "
                f"{100 * max(status['nearest'], status['beyond']):.1f} % of these), so the "
                f"posterior is a guess. Farthest from their mean, in standard deviations: "
                f"{listed(unusual)}. Check units, preprocessing and duration of the data, or widen "
                "the priors.",
            )
        wide = [label for label, ratio in zip(fit.labels, ratios, strict=True) if ratio > WIDE]
        if wide:
            add(
                problems,
                "no narrower than the prior",
                f"The features hardly tell {listed(wide)}: the posterior has at least "
                f"{100 * WIDE:.0f} % of the width of the prior. Compare further measures, or fix "
                "them.",
            )
        if fit.posterior.log_q is not None:
            check_approximation(fit, "amortised", ", or raise simulations", problems, facts)


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
    method : AmortisedPosterior
        How it was trained.
    scale : FeatureScale
        Features of the simulations.
    location, width : ndarray
        Prior means and standard deviations, by which parameters are scaled, (size,).
    trained : Trained
        The flows.
    counts : tuple of int
        Simulations, and how many were left out since they are not finite.
    """

    problem: Problem
    method: AmortisedPosterior
    scale: FeatureScale
    location: NDArray
    width: NDArray
    trained: Trained
    counts: tuple[int, int]

    def __repr__(self) -> str:
        return (
            f"AmortisedEstimator({', '.join(self.problem.flat_labels)} from "
            f"{len(self.scale.names)} features, {self.counts[0]} simulations; "
            f"{self.problem.description})"
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, such as ``functional_connectivity[V1, V5]``."""
        return list(self.scale.names)

    @cached_property
    def _shape(self) -> FlowShape:
        components = self.scale.basis.shape[1]
        return FlowShape(len(self.location), components, self.method.layers, self.method.width)

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
        from bayesdcm.infer.batches import Task
        from bayesdcm.infer.fitting import check_call, fit_of

        check_call(seed, False)
        problem = make_problem(self.problem.model, data)
        return fit_of(Task(problem, self.method, int(seed)), self.posterior(problem, int(seed)))

    def posterior(self, problem: Problem, seed: int) -> Posterior:
        """The posterior of a problem, over its flat vector.

        Parameters
        ----------
        problem : Problem
            The model bound to a recording.
        seed : int
            Of the draws.

        Raises
        ------
        ValueError
            If the recording has other features than the simulations.
        """
        features = self.features(problem)
        draws, log_q = self._draws(features, seed)
        place = self.scale.place(features)
        flat = self.location + self.width * draws
        # The loss of an objective stands in for a density that the simulator does not have.
        density = None
        if own_simulator(problem) is None:
            density = (log_q - np.log(self.width).sum())[None]
        status = {
            "converged": self.trained.settled,
            "complete": True,
            "simulations": self.counts[0],
            "left_out": self.counts[1],
            "held_out": -float(self.trained.losses[:, 1].min(0).mean()),
            "sd_ratio": draws.std(0).tolist(),
            **place._asdict(),
        }
        trace = {
            "log_density": -self.trained.losses[:, 0],
            "held_out_log_density": -self.trained.losses[:, 1],
        }
        return Posterior(
            self.method, draws=flat[None], log_q=density, seed=seed, trace=trace, status=status
        )

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Features of the data of a problem, (features,).

        Parameters
        ----------
        problem : Problem
            The model bound to a recording.
        """
        observed = {name: value[None] for name, value in observed_values(problem).items()}
        names, features = _features(problem, observed)
        if tuple(names) != tuple(self.scale.names):
            other = sorted(set(names) ^ set(self.scale.names))
            raise ValueError(
                f"data have {len(names)} features, the simulations {len(self.scale.names)}, and "
                f"only one of them has {listed(other)}; give data of the shape that the estimator "
                "was trained for"
            )
        if not np.isfinite(features).all():
            raise ValueError("data give features that are not finite; expected numbers")
        return features[0]

    def _draws(self, features: NDArray, seed: int) -> tuple[NDArray, NDArray]:
        """Scaled draws (draws, size) and their log density."""
        components = self.scale.inputs(features[None])[0]
        return draw(self._shape, self.trained, components, self.method.draws, seed)

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
        _, features = _features(self.problem, values)
        finite = np.isfinite(features).all(1)
        truth = (truth[finite] - self.location) / self.width
        ranks, widths = [], []
        for number, (row, true) in enumerate(zip(features[finite], truth, strict=True)):
            draws, _ = self._draws(row, seed + number)
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
        from bayesdcm.infer.plain_objects import PlainWriter
        from bayesdcm.infer.storage import plain_program, write_whole

        writer = PlainWriter()
        parts = {
            "method": self.method,
            "scale": self.scale._asdict(),
            "location": self.location,
            "width": self.width,
            "trained": self.trained._asdict(),
            "counts": self.counts,
            "labels": self.problem.flat_labels,
        }
        plain = {
            "program": plain_program(self.problem, writer),
            "estimator": {name: writer.plain(part, name) for name, part in parts.items()},
        }
        return write_whole(Path(path), self.method.name, plain, writer.arrays)

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
        from bayesdcm.infer.loading import read_contents, rebuilt_problem
        from bayesdcm.infer.plain_objects import from_plain

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
        if parts["labels"] != problem.flat_labels:
            raise ValueError(
                f"model must be the one that was trained, with {', '.join(parts['labels'])}; got "
                f"one with {', '.join(problem.flat_labels)}"
            )
        return cls(
            problem,
            parts["method"],
            FeatureScale(**parts["scale"]),
            parts["location"],
            parts["width"],
            Trained(**parts["trained"]),
            tuple(parts["counts"]),
        )


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
    from bayesdcm.infer.fitting import check_call

    method = as_method(AmortisedPosterior.name, options)
    check_call(seed, progress)
    problem = make_problem(model, data)
    method.require(problem)
    return trained_on(problem, method, int(seed), bool(progress), out)


@single_threaded_linear_algebra()
def trained_on(
    problem: Problem,
    method: AmortisedPosterior,
    seed: int,
    progress: bool,
    out: str | Path | None = None,
) -> AmortisedEstimator:
    """An estimator for a problem's model, see `train_amortised`."""
    flat, values = simulations(problem, method.simulations, seed, progress, out)
    names, features = _features(problem, values)
    finite = np.isfinite(features).all(1) & np.isfinite(flat).all(1)
    if finite.sum() < FEWEST:
        raise ValueError(
            f"only {int(finite.sum())} of {len(flat)} simulations are finite, too few to learn "
            "from; narrow the priors, or take a shorter step"
        )
    flat, features = flat[finite], features[finite]
    scale = feature_scale(names, features, method.components)
    location, width = flat.mean(0), flat.std(0)
    shape = FlowShape(flat.shape[1], scale.basis.shape[1], method.layers, method.width)
    trained = train(
        shape,
        Training(method.epochs, method.patience, method.learning_rate),
        method.ensemble,
        (flat - location) / width,
        scale.inputs(features),
        seed,
        progress,
    )
    counts = method.simulations, int((~finite).sum())
    return AmortisedEstimator(problem, method, scale, location, width, trained, counts)


def _features(problem: Problem, values: dict[str, NDArray]) -> tuple[list[str], NDArray]:
    model = getattr(problem.source, "model", None)
    dims = model.dims() if hasattr(model, "dims") else problem.dims
    return named_features(values, dims, problem.coords)
