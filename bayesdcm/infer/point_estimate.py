"""What methods share that find the best point and no more: densities, starts, what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.density import Layout, evaluate, invalid_distributions
from bayesdcm.infer.evaluation import prior_sample
from bayesdcm.infer.findings import add, listed
from bayesdcm.infer.method import Method
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.prior_moments import moments_of_prior
from bayesdcm.infer.problem import Problem
from bayesdcm.infer.threads import map_rows
from bayesdcm.infer.traced_programs import traced_once

# Starts this near to the best, in nats, have reached it.
NEAR = 3.0
# Slope, nats for a prior standard deviation, below which data leave a parameter where it was.
FLAT = 0.1
# Prior standard deviations by which starts that have reached the best may differ.
SPREAD = 1.0
# Nats that the last tenth of a search may gain.
SETTLED = 0.5
# Simulations with noise that was not fitted, and nats by which they may be worse.
OTHER_NOISE = 4
NOISE_LIMIT = 10.0
PRIOR_DRAWS = 500
# Rows at once, on a CPU.
AT_ONCE = 8


class Scale(NamedTuple):
    """Centre and standard deviation of the prior, each (size,): coordinates of searches."""

    centre: NDArray
    sd: NDArray

    def flat(self, scaled: NDArray) -> NDArray:
        """Flat points from those in prior standard deviations."""
        return self.centre + self.sd * scaled


class PointOptima(NamedTuple):
    """What a search found.

    Attributes
    ----------
    points : (starts, size)
        The best point of each start, flat.
    log_joint : (starts,)
        Log joint density there, in nats; minus infinity where nothing finite was found.
    sensitivity : (size,)
        How much data say about each parameter where the search has been, nats for a prior
        standard deviation.
    prior_sd : (size,)
        Prior standard deviations.
    """

    points: NDArray
    log_joint: NDArray
    sensitivity: NDArray
    prior_sd: NDArray

    @property
    def best(self) -> int:
        """The best start."""
        return int(np.argmax(self.log_joint))

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Which starts have reached the best, (starts,)."""
        return self.log_joint >= self.log_joint.max() - NEAR

    @property
    def spread(self) -> NDArray:
        """Half the range of those that have, in units of the parameters; NaN of one, (size,)."""
        points = self.points[self.reached]
        return np.ptp(points, axis=0) / 2 if len(points) > 1 else np.full(points.shape[1], np.nan)


def prior_scale(problem: Problem) -> Scale:
    """Centre and standard deviation of a prior, from draws where it is not Gaussian or Laplace."""
    try:
        centre, covariance = moments_of_prior(problem)
        sd = np.sqrt(np.diagonal(covariance))
        if np.isfinite(centre).all() and np.isfinite(sd).all():
            return Scale(centre, sd)
    except ValueError:
        pass
    draws = prior_sample(problem, PRIOR_DRAWS, 0)
    return Scale(np.median(draws, axis=0), draws.std(0))


@traced_once(2)
def _densities(source: Any, sites: Layout, prepared: Any, points: jax.Array) -> tuple:
    program = source.bind(prepared)

    def of_point(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        result = evaluate(program, sites, point)
        return result.log_prior + result.log_hyperprior, result.log_likelihood

    return map_rows(of_point, points, at_most=_at_once(source))


def densities(source: Any, problem: Problem, points: NDArray) -> tuple[NDArray, NDArray]:
    """Log prior and log-likelihood at flat points (points, size), each (points,)."""
    values = _densities(source, problem.sites, problem.prepared, np.asarray(points))
    return tuple(np.asarray(value) for value in values)


@traced_once(3)
def _slopes(
    source: Any, sites: Layout, derivative: str, prepared: Any, points: jax.Array
) -> tuple[jax.Array, ...]:
    program = source.bind(prepared)

    def prior(point: jax.Array) -> jax.Array:
        result = evaluate(program, sites, point)
        return result.log_prior + result.log_hyperprior

    def likelihood(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = evaluate(program, sites, point).log_likelihood
        return value, value

    take = jax.jacfwd if derivative == "forward" else jax.grad

    def of_point(point: jax.Array) -> tuple[jax.Array, ...]:
        slope, value = take(likelihood, has_aux=True)(point)
        return (*jax.value_and_grad(prior)(point), value, slope)

    return map_rows(of_point, points, at_most=_at_once(source))


def slopes(
    source: Any, problem: Problem, derivative: str, points: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Log prior and its gradient, log-likelihood and its gradient, at flat points."""
    values = _slopes(source, problem.sites, derivative, problem.prepared, np.asarray(points))
    return tuple(np.asarray(value) for value in values)


def _at_once(source: Any) -> int | None:
    """How many points are worked out side by side on a CPU."""
    most = getattr(getattr(source, "model", None), "at_once", AT_ONCE)
    return most if jax.default_backend() == "cpu" else None


def nothing_finite(problem: Problem) -> ValueError:
    """The error where no point gives a density."""
    faults = invalid_distributions(problem.source.bind(problem.prepared))
    return ValueError(
        "; ".join(faults)
        or "the objective is not finite at any starting point; check the data, and that the "
        "prior mean gives a stable model"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PointMethod(Method):
    """Base of methods that find the point of the largest density, without a posterior."""

    def found(
        self,
        problem: Problem,
        seed: int,
        optima: PointOptima,
        trace: Mapping[str, NDArray],
        status: Mapping[str, Any],
    ) -> Posterior:
        """What a search has found, as a posterior of one point.

        Parameters
        ----------
        problem : Problem
            That was searched.
        seed : int
            Of the search.
        optima : PointOptima
            What it found.
        trace, status : mapping
            As `Posterior` takes them.
        """
        reached = optima.reached
        said = {
            "log_joint": float(optima.log_joint.max()),
            "starts": len(reached),
            "starts_reached": int(reached.sum()),
            "starts_lost": int((~np.isfinite(optima.log_joint)).sum()),
        }
        point = optima.points[optima.best]
        other = self._with_other_noise(problem, point, seed)
        if other is not None:
            said["log_likelihood"] = float(other[0])
            said["log_likelihood_other_noise"] = other[1:].tolist()
        return Posterior(
            self,
            point=point,
            seed=seed,
            trace=dict(trace) | {"starts_log_joint": optima.log_joint},
            status=dict(status) | said,
            optima=optima,
        )

    def _with_other_noise(self, problem: Problem, point: NDArray, seed: int) -> NDArray | None:
        """Log-likelihood of the point with the noise of the fit, and with other noise."""
        model = getattr(problem.source, "model", None)
        if not hasattr(model, "other_noise"):
            return None
        prepared = [problem.prepared]
        prepared += model.other_noise(problem.prepared, seed, OTHER_NOISE)
        values = [
            _densities(problem.source, problem.sites, each, jnp.asarray(point[None]))[1]
            for each in prepared
        ]
        return np.concatenate([np.asarray(value) for value in values])

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """What was and was not found, see `Method.check`."""
        optima, status = fit.posterior.optima, fit.status
        labels = np.asarray(fit.labels)
        facts |= {name: status[name] for name in ("starts", "starts_reached", "starts_lost")}
        facts["sensitivity"] = optima.sensitivity
        if not status["converged"]:
            add(problems, "not converged", self.not_converged(fit))
        if len(optima.log_joint) == 1:
            add(
                problems,
                "one start only",
                "There was one start only, so nothing is known of other optima; use starts=4.",
            )
        check_starts(fit, problems)
        flat = optima.sensitivity < FLAT
        if flat.any():
            add(
                problems,
                "objective does not depend on parameters",
                f"The objective hardly depends on {listed(list(labels[flat]))}: within a prior "
                f"standard deviation it changes by less than {FLAT} nats, so their values are "
                "those of the prior. Fix them, or compare other data.",
            )
        spread = optima.spread / optima.prior_sd
        loose = (2 * spread > SPREAD) & ~flat
        if loose.any():
            add(
                problems,
                "starts disagree",
                f"Starts that reached the best disagree about {listed(list(labels[loose]))}, by "
                f"up to {2 * spread[loose].max():.1f} prior standard deviations: data do not tell "
                "these values apart.",
            )
        self._check_noise(fit, problems, facts)

    def _check_noise(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        other = fit.status.get("log_likelihood_other_noise")
        if not other:
            return
        worse = fit.status["log_likelihood"] - float(np.mean(other))
        facts["worse_with_other_noise"] = worse
        if worse > NOISE_LIMIT:
            add(
                problems,
                "fitted to the noise",
                f"With other noise the objective is {worse:.0f} nats worse (standard deviation "
                f"over {len(other)} seeds {np.std(other):.0f}): parameters fit the noise of these "
                "simulations. Simulate longer, or with several seeds.",
            )

    def not_converged(self, fit: Any) -> str:
        """What to do where the search has not converged, in a sentence.

        Parameters
        ----------
        fit : Fit
            Made by it.
        """
        raise NotImplementedError


def check_starts(fit: Any, problems: list[str]) -> None:
    """Say which starts of a search did not reach the best, or found nothing.

    Parameters
    ----------
    fit : Fit
        Made by a method whose optima are `PointOptima`.
    problems : list of str
        As `Method.check` takes them.
    """
    status, optima = fit.status, fit.posterior.optima
    stuck = status["starts"] - status["starts_reached"] - status["starts_lost"]
    if stuck:
        behind = np.sort(optima.log_joint.max() - optima.log_joint[~optima.reached])
        behind = behind[np.isfinite(behind)]
        add(
            problems,
            "starts stuck",
            f"{status['starts_reached']} of {status['starts']} starts reached the best; "
            f"{stuck} stuck {behind[0]:.1f} to {behind[-1]:.1f} nats below it. There may be "
            "better optima than this one: try more starts.",
        )
    if status["starts_lost"]:
        add(
            problems,
            "starts lost",
            f"{status['starts_lost']} of {status['starts']} starts found nothing finite: the "
            "model diverges there. Narrow the priors, or take a shorter step.",
        )


def settled(log_joint: NDArray) -> bool:
    """Whether the last tenth of a search gained little.

    >>> bool(settled(np.array([-9.0, -4.0, -1.0, -0.9, -0.9])))
    True
    """
    best = np.maximum.accumulate(np.nan_to_num(log_joint, nan=-np.inf))
    return best[-1] - best[-1 - max(len(best) // 10, 1)] < SETTLED if len(best) > 1 else False
