"""Posteriors from simulations alone: neural density estimation, trained once for many recordings.

Parameters are drawn from the prior and simulated; conditional flows learn the density of parameters
given features of the data [1]_. A recording's posterior is then a pass through them.

References
----------
.. [1] Cranmer, Brehmer and Louppe (2020), PNAS 117:30055. https://doi.org/10.1073/pnas.1912789117
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesdcm.data import BoldData
from bayesdcm.infer.batches import shape_of
from bayesdcm.infer.conditional_flow import (
    FlowShape,
    Trained,
    Training,
    draw,
    require_flowjax,
    train,
)
from bayesdcm.infer.evaluation import (
    degrees_of_freedom,
    modelled_confounds,
    observed_values,
    predictive,
)
from bayesdcm.infer.findings import add, listed
from bayesdcm.infer.method import Method, option, positive_integer, positive_number, several
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.simulated_features import FeatureScale, feature_scale, named_features
from bayesdcm.infer.simulations import own_simulator, simulations
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.threads import single_threaded_linear_algebra

if TYPE_CHECKING:
    from bayesdcm.infer.batches import Batch

__all__ = ["AmortisedPosterior"]

# Fewer simulations cannot be divided into those that flows see and those by which they stop.
FEWEST = 50
# Farther out than so many of the simulations: outside what was trained on.
OUTSIDE = 0.995
# Of simulations that may be lost without a word.
LOST = 0.05
# Factor in degrees of freedom that goes without a word: less than a quarter of standard deviations.
FREEDOM = 1.5
# Predictions that differ less than this, relative to the largest, are the same.
SAME = 1e-4


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
    draws: int = option(1000, several, words="Draws of the posterior.", shell=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.simulations < FEWEST:
            raise ValueError(
                f"simulations must be an integer of at least {FEWEST}, got {self.simulations}"
            )

    def require(self, problem: Problem) -> None:
        """Refuse programs that cannot be simulated as data are, see `Method.require`."""
        require_flowjax()
        _check_duration(problem)
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
        return learn(problem, self, seed, progress).posterior(problem, seed)

    def batch_key(self, problem: Problem) -> Hashable | None:
        """One training serves all recordings of a model and shape, see `Method.batch_key`."""
        try:
            key = problem.source, problem.model, shape_of(problem.prepared), repr(self.options())
            hash(key)
        except TypeError:
            return None
        return key

    def run_many(
        self, batch: Batch, side_by_side: str
    ) -> Iterator[tuple[Hashable, Posterior | Exception]]:
        """Train once for all recordings of which the model predicts the same.

        See `Method.run_many`.
        """
        del side_by_side
        known: list[Learnt] = []
        for key, task in zip(batch.keys, batch.tasks, strict=True):
            try:
                task.method.require(task.problem)
                learnt = next((each for each in known if each.serves(task.problem)), None)
                if learnt is None:
                    learnt = learn(task.problem, task.method, 0, False)
                    known.append(learnt)
                yield key, learnt.posterior(task.problem, task.seed)
            except Exception as error:
                yield key, error

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Training, and the place of the recording among simulations, as `Method.check`."""
        status = fit.status
        facts |= {name: status[name] for name in ("nearest", "beyond", "left_out")}
        facts["sd_ratio"] = np.asarray(status["sd_ratio"])
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
        given, trained = status["degrees_of_freedom"] or (1.0, 1.0)
        if max(given / trained, trained / given) > FREEDOM:
            add(
                problems,
                "other degrees of freedom",
                f"The recording has {given:.4g} degrees of freedom, the simulations {trained:.4g}, "
                f"so that intervals are too {'narrow' if given < trained else 'wide'}. Unless "
                "duration or repetition time are other ones by mistake, train on a recording like "
                "this.",
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
        if fit.posterior.log_q is not None:
            check_approximation(fit, "amortised", ", or raise simulations", problems, facts)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was learnt from simulations: a posterior of any recording of a model.

    `scale` has the features of the simulations; `location` and `width`, prior means and standard
    deviations (size,), scale parameters; `counts` are simulations, and how many were left out since
    they are not finite; `freedom` are the degrees of freedom that simulations had, of a Wishart
    likelihood; `expected` is what the model predicts at two points, by site, which tells models
    apart that depend on more of a recording than what is observed (its inputs, its connectome).
    """

    method: AmortisedPosterior
    scale: FeatureScale
    location: NDArray
    width: NDArray
    trained: Trained
    counts: tuple[int, int]
    freedom: float | None = None
    expected: Mapping[str, NDArray] | None = None

    @cached_property
    def _shape(self) -> FlowShape:
        components = self.scale.basis.shape[1]
        return FlowShape(len(self.location), components, self.method.layers, self.method.width)

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
            If the recording has other features than the simulations, another duration, or is one
            of which the model predicts something else.
        """
        features = self.features(problem)
        if not self.serves(problem):
            raise ValueError(
                "at the same parameters, the model predicts other data of this recording than of "
                "the one that it was trained for, so more differs than what is observed (inputs, "
                "timing, connectome, covariates); train an estimator for this recording"
            )
        draws, log_q = self.draws(features, seed)
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
            "degrees_of_freedom": None,
            **place._asdict(),
        }
        if self.freedom is not None:
            status["degrees_of_freedom"] = [degrees_of_freedom(problem), self.freedom]
        trace = {
            "log_density": -self.trained.losses[:, 0],
            "held_out_log_density": -self.trained.losses[:, 1],
        }
        return Posterior(
            self.method, draws=flat[None], log_q=density, seed=seed, trace=trace, status=status
        )

    def serves(self, problem: Problem) -> bool:
        """Whether the model predicts of a recording what it did of that which was trained for."""
        if self.expected is None:
            return True
        found = expected_values(problem, self.location, self.width)
        return found.keys() == self.expected.keys() and all(
            found[name].shape == np.shape(value)
            and np.allclose(found[name], value, SAME, SAME * _size(value), equal_nan=True)
            for name, value in self.expected.items()
        )

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Features of the data of a problem, (features,).

        Parameters
        ----------
        problem : Problem
            The model bound to a recording.
        """
        _check_duration(problem)
        observed = {name: value[None] for name, value in observed_values(problem).items()}
        names, features = features_of(problem, observed)
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

    def draws(self, features: NDArray, seed: int) -> tuple[NDArray, NDArray]:
        """Scaled draws (draws, size) and their log density."""
        components = self.scale.inputs(features[None])[0]
        return draw(self._shape, self.trained, components, self.method.draws, seed)


@single_threaded_linear_algebra()
def learn(
    problem: Problem,
    method: AmortisedPosterior,
    seed: int,
    progress: bool,
    out: str | Path | None = None,
) -> Learnt:
    """Simulate a problem's model and learn from that, see `train_amortised`."""
    flat, values = simulations(problem, method.simulations, seed, progress, out)
    names, features = features_of(problem, values)
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
    expected = None if own_simulator(problem) else expected_values(problem, location, width)
    freedom = degrees_of_freedom(problem)
    return Learnt(method, scale, location, width, trained, counts, freedom, expected)


def expected_values(problem: Problem, location: NDArray, width: NDArray) -> dict[str, NDArray]:
    """What a program predicts at two points, by site; a draw of the data where it has no mean."""
    values = predictive(problem, np.stack([location, location + width / 2]), 0)["predictive"]
    sites = observed_values(problem)
    return {name: values.get(f"{name}_prediction", values[name]) for name in sites}


def _size(values: NDArray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def features_of(problem: Problem, values: dict[str, NDArray]) -> tuple[list[str], NDArray]:
    """Names and values of features (simulations, features), of what is observed by site."""
    model = getattr(problem.source, "model", None)
    dims = model.dims() if hasattr(model, "dims") else problem.dims
    return named_features(values, dims, problem.coords)


def _check_duration(problem: Problem) -> None:
    """Raise an error where signals last longer, or less long, than simulations of the model."""
    simulated, data = getattr(problem.model, "duration", None), problem.data
    for run in data.values() if isinstance(data, Mapping) else [data]:
        if simulated is None or not isinstance(run, BoldData):
            continue
        recorded = len(run.signal) * run.repetition_time
        if abs(recorded - simulated) > max(run.repetition_time, 0.01 * simulated):
            raise ValueError(
                f"data last {recorded:g} s, the simulations {simulated:g} s, so that their "
                "features are known better or worse; cut the data, or train with the duration of "
                "the data"
            )
