"""Training of recurrences by truncated back-propagation through time, and what it says after."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import numpy as np
import optax
from numpy.typing import NDArray

from bayesdcm.data.validation import warn_caller
from bayesdcm.infer.density import Layout
from bayesdcm.infer.findings import add
from bayesdcm.infer.method import Method, option, positive_integer, positive_number, several
from bayesdcm.infer.point_curvature import curvature_about
from bayesdcm.infer.point_estimate import PointOptima, check_starts, nothing_finite, prior_scale
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.recurrence import Recurrence, input_levels, require_recurrence
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.infer.traced_programs import traced_once
from bayesdcm.infer.variational_laplace import laplace_starts
from bayesdcm.infer.windows import OPTIMISERS, PAPER, Course, Given, Plan, begin, epoch

logger = logging.getLogger("bayesdcm")

# From a change of activity to BOLD: to the signal, flow, volume, and what is read, a step each.
DELAYS = 4
# Steps of a window below which gradients of connections are unreliable, as its authors found.
RELIABLE = 16
# Times by which rates are halved before a start has ended: below 1 % of the first.
LAST_HALVING = 7
# Nats that count as a rise of the density.
RISE = 0.01
# Halvings of the distance to the prior mean of a draw that is unstable.
MOST_SHRINKS = 20
# Nats that a Gauss-Newton step may still promise, and time constants that are memory.
GAIN, MEMORY = 0.5, 3.0
# Parameters up to which there is a Laplace approximation.
MOST_PARAMETERS = 1500
RATES = {PAPER: 5e-4}
RATE = 0.01
OWN = "own"


def _optimiser(name: str, value: Any) -> None:
    if isinstance(value, optax.GradientTransformation):
        return
    if not (isinstance(value, str) and value in (*OPTIMISERS, OWN)):
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, OPTIMISERS))}, or an "
            f"optax.GradientTransformation, got {value!r}"
        )


def _whole_number(name: str, value: Any) -> None:
    if not (isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0):
        raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TruncatedBackpropagation(Method):
    """Training of a recurrence window by window, as recurrent networks are trained.

    For models whose solver is a recurrence: `bayesdcm.RecurrentDCM`, or a `bayesdcm.DCM` with
    `bayesdcm.integrate.Euler`. The loss of a window is the negative log-likelihood of its scans,
    and their share of the negative log prior; its gradient is taken back to where the window
    begins, and the state goes on to the next. Log-precisions of the noise are set to their best
    after each epoch, coefficients of confounds after each window. Of each epoch the mean of the
    parameters over its windows counts; that of the highest log joint density is kept, and a Laplace
    approximation about it (Gauss-Newton) is the posterior, whose free energy is the evidence.

    Parameters
    ----------
    window : float
        Length of a window, s; a whole run where it is longer.
    stride : float, optional
        From the beginning of a window to that of the next, s; half a window when None.
    burn_in : int
        First windows of each epoch after which nothing is changed.
    epochs : int
        Passes through the run, at most.
    optimiser : {"adam", "rmsprop", "paper"} or optax.GradientTransformation
        What makes a step of a gradient. ``"paper"`` is the rule of [1]_: against the gradient, so
        that the largest change is `learning_rate`, halved up to 16 times while the loss of the
        window rises. Yours gets gradients in prior standard deviations and sets its own rate.
    learning_rate : float, optional
        In prior standard deviations, 0.01 when None; with ``"paper"``, in units of the parameters,
        5e-4 when None.
    patience : int
        Epochs without a rise of the log joint density after which a start returns to its best point
        and halves its rate. It ends when its rate is below 1 % of the first.
    starts : int or array_like
        Number of starting points, the prior mean and draws from the prior; or flat points, shape
        (starts, size). Draws that are unstable are moved towards the prior mean.
    draws : int
        Draws from the posterior, for predictions and diagnostics.

    Notes
    -----
    With every optimiser, a change with which a step of the neural states would have a spectral
    radius of 1 or more, about rest and under inputs that occur, is halved up to 16 times, and left
    out if that does not help.

    A change of a connection is seen in BOLD after 4 steps, so a window of n steps has n - 4 that
    count: 5 is the least, and below 16 gradients are unreliable.

    Priors that are not normal count in the Laplace approximation as normal ones of their variance.
    With more than 1500 parameters there is none, and the result is a point.

    References
    ----------
    .. [1] Wang, Wang and Lui (2018), NeuroImage 178:385.
           https://doi.org/10.1016/j.neuroimage.2018.05.042
    .. [2] Williams and Peng (1990), Neural Computation 2:490.
           https://doi.org/10.1162/neco.1990.2.4.490

    Examples
    --------
    >>> TruncatedBackpropagation(window=8.0, optimiser="paper").options()
    {'window': 8.0, 'optimiser': 'paper'}
    """

    name: ClassVar[str] = "tbptt"
    title: ClassVar[str] = "truncated back-propagation through time"
    citations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Williams RJ, Peng J (1990). An efficient gradient-based algorithm for on-line training"
            " of recurrent network trajectories. Neural Computation 2:490-501.",
            "https://doi.org/10.1162/neco.1990.2.4.490",
        ),
    )
    needs: ClassVar[str] = "gaussian"
    evidence: ClassVar[str | None] = "free_energy"

    window: float = option(16.0, positive_number, words="Length of a window, s.", shell=True)
    stride: float | None = option(None, positive_number, words="From window to window, s.")
    burn_in: int = option(0, _whole_number, words="First windows that change nothing.")
    epochs: int = option(1000, positive_integer, words="Passes through the run.", shell=True)
    optimiser: Any = option("adam", _optimiser, words="What makes a step of a gradient.")
    learning_rate: float | None = option(
        None, positive_number, words="Rate of the optimiser, in prior standard deviations."
    )
    patience: int = option(20, positive_integer, words="Epochs without a rise of the density.")
    starts: Any = option(1, words="Starting points.", shell=positive_integer)
    draws: int = option(1000, several, words="Draws from the posterior.", shell=True)

    def options(self) -> dict[str, Any]:
        """Options that are not at their defaults; an optimiser of one's own by the name "own"."""
        if isinstance(self.optimiser, str):
            return super().options()
        return replace(self, optimiser=OWN).options()

    def require(self, problem: Problem) -> None:
        """Raise an error unless the problem is a recurrence, see `Method.require`."""
        require_recurrence(problem, self.name)
        super().require(problem)

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Train all starts, as `Method.run`; interrupted, with the epochs it has done."""
        if isinstance(self.optimiser, str) and self.optimiser == OWN:
            raise ValueError("optimiser is one that files do not hold; give it again")
        plan, scale = self._plan(problem), _scale(problem, self.optimiser)
        descent = _Descent(self, problem, plan, scale, seed)
        complete = True
        with Progress("training", self.epochs, "epoch", progress) as shown:
            try:
                for _ in range(self.epochs):
                    descent.epoch()
                    shown.advance(1, descent.said())
                    if descent.ended.all():
                        break
            except KeyboardInterrupt:
                complete = False
                if not descent.records:
                    raise
        return self._posterior(problem, seed, plan, descent, complete)

    def _plan(self, problem: Problem) -> Plan:
        """Windows in steps; ValueError where they are too short, or leave scans out."""
        step, n_steps = float(problem.prepared.steps.step), len(problem.prepared.steps.inputs)
        length = min(self.window / step, n_steps)
        window = max(round(length), 1)
        stride = max(round(length / 2 if self.stride is None else self.stride / step), 1)
        if window <= DELAYS:
            raise ValueError(
                f"window is {self.window:g} s, {window} steps of {step:g} s, but a change of a "
                f"connection is seen in BOLD after {DELAYS} steps, so that there is no gradient; "
                f"take at least {RELIABLE * step:g} s"
            )
        if stride > window:
            raise ValueError(
                f"stride is {self.stride:g} s, longer than the window of {window * step:g} s, so "
                "that scans are left out; take at most the window"
            )
        if window < min(RELIABLE, n_steps):
            warn_caller(
                f"window is {self.window:g} s, {window} steps of {step:g} s, of which only "
                f"{window - DELAYS} see a change of a connection in BOLD, so that gradients are "
                f"unreliable; take at least {RELIABLE * step:g} s"
            )
        plan = Plan(problem.source, problem.sites, window, stride, self.burn_in, self.optimiser)
        if self.burn_in >= plan.count(n_steps):
            raise ValueError(
                f"burn_in is {self.burn_in}, but there are {plan.count(n_steps)} windows; take "
                "fewer, or shorter windows"
            )
        return plan

    def _posterior(
        self, problem: Problem, seed: int, plan: Plan, descent: _Descent, complete: bool
    ) -> Posterior:
        trace = {
            name: np.array([record[name] for record in descent.records])
            for name in descent.records[0]
        }
        step, n = float(problem.prepared.steps.step), problem.sites.n_parameters
        best = int(np.argmax(descent.best_value))
        if not np.isfinite(descent.best_value[best]):
            raise nothing_finite(problem)
        points = np.concatenate(
            [descent.centre + descent.unit * descent.best_at, descent.best_precision], axis=1
        )
        point = points[best]
        sd = np.concatenate([_prior_sd(problem)[:n], np.full(len(point) - n, np.nan)])
        gaussian, evidence, gain = None, None, np.nan
        sensitivity = np.full(len(point), np.nan)
        if n <= MOST_PARAMETERS:
            about = curvature_about(problem, point, sd)
            gain, sensitivity = about.gain, about.sensitivity
            if np.isfinite(about.covariance).all():
                gaussian = (point, about.covariance)
                evidence = descent.best_value[best] + about.log_volume
        optima = PointOptima(points, descent.best_value, sensitivity, sd)
        constant = float(_time_constant(problem.source, problem.sites, problem.prepared, point))
        status = {
            "converged": complete and bool(descent.ended[best]),
            "complete": complete,
            "n_epochs": len(descent.records),
            "log_joint": float(descent.best_value[best]),
            "best_epoch": int(descent.best_epoch[best]),
            "starts": len(points),
            "starts_reached": int(optima.reached.sum()),
            "starts_lost": int(descent.lost.sum()),
            "starts_moved": descent.moved,
            "steps_shortened": int(trace["shortened"].sum()),
            "windows_diverged": int(trace["diverged"].sum()),
            "window_s": plan.window * step,
            "window_steps": plan.window,
            "effective_depth": plan.window - DELAYS,
            "memory_s": MEMORY * constant if np.isfinite(constant) else None,
            "gain": gain if np.isfinite(gain) else None,
        }
        return Posterior(
            self,
            gaussian=gaussian,
            point=point if gaussian is None else None,
            n_draws=self.draws,
            seed=seed,
            log_evidence=evidence,
            trace=trace | {"starts_log_joint": descent.best_value},
            status=status,
            optima=optima,
        )

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Convergence, starts, windows and the approximation, see `Method.check`."""
        status = fit.status
        named = ("starts", "starts_reached", "starts_lost", "effective_depth", "memory_s", "gain")
        facts |= {name: status[name] for name in named}
        if not status["converged"]:
            add(
                problems,
                "not converged",
                f"The log joint density was still rising after {status['n_epochs']} epochs, so that"
                " the posterior is provisional: raise epochs, or learning_rate.",
            )
        check_starts(fit, problems)
        memory = status["memory_s"]
        if memory is not None and status["window_s"] < memory:
            add(
                problems,
                "window shorter than the memory",
                f"Windows are {status['window_s']:g} s ({status['window_steps']} steps, "
                f"{status['effective_depth']} of which see a change of a connection), but activity "
                f"and blood flow remember for about {memory:.1f} s: gradients leave out what came "
                "before. Take longer windows.",
            )
        if status["gain"] is not None and status["gain"] > GAIN:
            add(
                problems,
                "not at the maximum",
                f"One Gauss-Newton step would gain {status['gain']:.1f} nats, so that training "
                "stopped short of the maximum of the whole run, and the approximation is not about "
                "it. Take longer windows, a smaller learning_rate, or start method='laplace' there "
                "(starts=fit.posterior.optima.points).",
            )
        if status["steps_shortened"]:
            facts["steps_shortened"] = status["steps_shortened"]
        if fit.posterior.gaussian is not None:
            check_approximation(fit, "Gaussian", "", problems, facts)


def _prior_sd(problem: Problem) -> NDArray:
    """Standard deviations of the prior over the flat vector."""
    sd = prior_scale(problem).sd
    for prior in problem.model.priors.all:
        site = prior.name if prior.free.all() else f"{prior.name}_free"
        places = problem.sites.places.get(site)
        # Where the table has them, moments need no draws.
        if places is not None:
            sd[places] = np.sqrt(np.asarray(prior.variance)[prior.free])
    return sd


def _scale(problem: Problem, optimiser: Any) -> NDArray:
    """Units in which steps are taken, (parameters,)."""
    n = problem.sites.n_parameters
    if isinstance(optimiser, str) and optimiser == PAPER:
        return np.ones(n)
    return _prior_sd(problem)[:n]


@traced_once(2)
def _time_constant(source: Any, sites: Layout, prepared: Any, point: jax.Array) -> jax.Array:
    recurrence = Recurrence(source, sites, prepared)
    return recurrence.time_constant(recurrence.parameters(point))


class _Descent:
    """All starts, epoch by epoch."""

    def __init__(
        self,
        method: TruncatedBackpropagation,
        problem: Problem,
        plan: Plan,
        unit: NDArray,
        seed: int,
    ) -> None:
        n, prepared = problem.sites.n_parameters, problem.prepared
        points = laplace_starts(problem, method.starts, seed)
        self.unit, self.centre = unit, points[0, :n].copy()
        if np.ndim(method.starts):
            self.centre = laplace_starts(problem, 1, seed)[0, :n]
        self._plan = plan
        levels = input_levels(np.asarray(prepared.steps.inputs))
        self._given = Given(prepared, self.centre, unit, levels)
        self._patience = method.patience
        at = (points[:, :n] - self.centre) / unit
        course, record, self.moved = self._begun(at, points[:, n:], bool(np.ndim(method.starts)))
        self._course, self._first = course, course.memory
        self.lost = ~_fine(record)
        first = RATES.get(method.optimiser, RATE) if isinstance(method.optimiser, str) else 1.0
        rate = first if method.learning_rate is None else method.learning_rate
        self._rate, self._halvings = np.full(len(at), rate), np.zeros(len(at), int)
        self._rate[self.lost] = 0.0
        self.best_value = np.where(self.lost, -np.inf, record["log_joint"])
        self.best_at, self.best_precision = (
            np.array(each) for each in (course.at, course.log_precision)
        )
        self.best_epoch = np.zeros(len(at), int)
        self._counted, self._waited = self.best_value.copy(), np.zeros(len(at), int)
        self.records: list[dict[str, NDArray]] = []

    def _begun(
        self, at: NDArray, log_precision: NDArray, given: bool
    ) -> tuple[Course, dict[str, NDArray], int]:
        """The course before the first epoch; draws that are unstable nearer to the centre."""
        moved = np.zeros(len(at), bool)
        for _ in range(MOST_SHRINKS + 1):
            course, record = begin(self._plan, self._given, at, log_precision)
            bad = ~_fine(record)
            if bad[0] or (given and bad.any()):
                place = int(np.argmax(bad))
                what = f"starts[{place}]" if given else "the prior mean"
                raise ValueError(
                    f"{what} is an unstable starting point: a step of the neural states has "
                    f"spectral radius {record['radius'][place]:.3f}, which must be below 1 under "
                    "all inputs, or its signal diverges; start elsewhere (starts), give another "
                    "prior, or take a shorter step"
                )
            if not bad.any():
                break
            moved |= bad
            at = np.where(bad[:, None], at / 2, at)
        return course, record, int(moved.sum())

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Which starts have come to rest, (starts,)."""
        return self.lost | (self._halvings >= LAST_HALVING)

    def epoch(self) -> None:
        """One epoch of all starts; those that no longer rise go back, with half the rate."""
        rate = np.where(self.ended, 0.0, self._rate)
        course, record = epoch(self._plan, self._given, self._course, rate)
        value = record["log_joint"]
        better = _fine(record) & (value > self.best_value)
        # Small rises add up.
        rises = better & (value > self._counted + RISE)
        self._counted = np.where(rises, value, self._counted)
        self._waited = np.where(rises, 0, self._waited + 1)
        self.best_value = np.where(better, value, self.best_value)
        self.best_at[better] = np.asarray(course.mean)[better]
        self.best_precision[better] = np.asarray(course.log_precision)[better]
        self.records.append(record)
        self.best_epoch[better] = len(self.records)
        back = (self._waited >= self._patience) | ~np.isfinite(value)
        self._course = self._back(course, back)
        self._rate = np.where(back, self._rate / 2, self._rate)
        self._halvings += back
        self._waited[back] = 0

    def _back(self, course: Course, back: NDArray[np.bool_]) -> Course:
        if not back.any():
            return course
        best = course._replace(
            at=self.best_at,
            log_precision=self.best_precision,
            weight=np.minimum(self.best_precision, course.weight),
            memory=self._first,
            seen=jax.numpy.nan_to_num(course.seen),
        )
        return jax.tree.map(
            lambda old, new: np.where(back.reshape(-1, *[1] * (np.ndim(new) - 1)), old, new),
            best,
            course,
        )

    def said(self) -> str:
        """Parts of the loss of the best start, in nats."""
        record, best = self.records[-1], int(np.argmax(self.best_value))
        parts = [f"prediction {-record['log_likelihood'][best]:.1f}"]
        for name, value in record.items():
            if name.startswith("log_prior_"):
                site = name.removeprefix("log_prior_").removesuffix("_free")
                parts.append(f"{site} {-value[best]:.1f}")
        return "loss: " + ", ".join(parts)


def _fine(record: dict[str, NDArray]) -> NDArray[np.bool_]:
    return np.isfinite(record["log_joint"]) & (record["radius"] < 1)
