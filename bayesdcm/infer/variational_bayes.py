"""Mean-field variational Bayes in closed form, for models that are a regression in each region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesdcm.infer.block_covariance import BlockCovariance
from bayesdcm.infer.findings import add, listed
from bayesdcm.infer.method import Method, option, positive_integer, positive_number, several
from bayesdcm.infer.posterior import Posterior
from bayesdcm.infer.problem import FREE, Problem
from bayesdcm.infer.progress import Progress
from bayesdcm.infer.tail_shape import check_approximation
from bayesdcm.models.regression import RegressionDCM
from bayesdcm.neural import Prior
from bayesdcm.neural.gamma_precision import GammaPrecision
from bayesdcm.neural.spike_and_slab import SpikeAndSlabPrior
from bayesdcm.observe.filtered_spectra import KeptRows
from bayesdcm.observe.gaussian import CONFOUND_PRECISION
from bayesdcm.observe.linear_regression import (
    GammaNoise,
    NormalNoise,
    Regression,
    RegressionPosterior,
    rigid_posterior,
    sparse_posterior,
)

# Parameters up to which the covariance is one matrix.
MOST_DENSE = 2000
# And up to which importance weights tell how good the approximation is.
MOST_WEIGHED = 200
# Of draws, and of numbers that predictions at all draws may take.
DRAWS, MOST_NUMBERS = 1000, 2e7


@dataclass(frozen=True, eq=False)
class RegionalResults:
    """What variational Bayes found in each region.

    Parameters
    ----------
    free_energy : ndarray, shape (regions,)
        In nats; their sum is the evidence.
    n_iterations : ndarray of int, shape (regions,)
        Iterations.
    converged : ndarray of bool, shape (regions,)
        Whether the free energy came to rest.
    inclusion : ndarray, shape (size,)
        Probability that each parameter is there; 1 of those that cannot be absent.
    """

    free_energy: NDArray
    n_iterations: NDArray
    converged: NDArray
    inclusion: NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class VariationalBayes(Method):
    """Posterior of a regression DCM in closed form, region by region.

    The posterior of connections and that of the precision of the noise are independent, each given
    the moments of the other, until the free energy of the region comes to rest. Sparse models have
    a third factor, of which connections are there; their posterior as results hold it is the normal
    one of the same mean and covariance, of strengths times presence, and
    ``fit.posterior.optima.inclusion`` the probabilities.

    Parameters
    ----------
    max_iterations : int
        In each region, at most.
    tolerance : float
        Change of a region's free energy, in nats, at which iterations end.
    starts : int
        Orders in which connections of sparse models are visited: their own, and random ones. The
        one of the largest free energy counts, region by region.
    draws : int, optional
        Draws from the posterior, for predictions. None: 1000, or as many fewer as predictions of
        many regions need to fit into memory.

    References
    ----------
    .. [1] Fraessle et al. (2017), NeuroImage 155:406.
           https://doi.org/10.1016/j.neuroimage.2017.02.090
    .. [2] Fraessle et al. (2018), NeuroImage 179:505.
           https://doi.org/10.1016/j.neuroimage.2018.05.058

    Examples
    --------
    >>> VariationalBayes(starts=5).options()
    {'starts': 5}
    """

    name = "variational_bayes"
    title = "variational Bayes"
    citations = (
        (
            "Fraessle S et al. (2018). A generative model of whole-brain effective connectivity. "
            "NeuroImage 179:505-529.",
            "https://doi.org/10.1016/j.neuroimage.2018.05.058",
        ),
    )
    needs = "gaussian"
    evidence = "free_energy"

    max_iterations: int = option(500, positive_integer, words="Iterations at most.")
    tolerance: float = option(1e-5, positive_number, words="Change in nats at the end.")
    starts: int = option(1, positive_integer, words="Orders of visits of sparse models.")
    draws: int | None = option(None, several, words="Draws from the posterior.")

    @classmethod
    def is_usual_for(cls, model: Any) -> bool:
        """Whether it is a regression, see `Method.is_usual_for`."""
        return isinstance(model, RegressionDCM)

    def require(self, problem: Problem) -> None:
        """Raise an error unless the problem is a regression, see `Method.require`."""
        if not isinstance(problem.model, RegressionDCM):
            raise ValueError(
                f"method {self.name!r} needs a RegressionDCM, in which each region is a linear "
                "regression; use method='laplace', 'svi' or 'nuts'"
            )
        if problem.prior is not None:
            raise ValueError(
                f"method {self.name!r} takes the priors of the model, not one of a group in their "
                "place; use method='laplace'"
            )
        super().require(problem)

    def run(self, problem: Problem, seed: int, progress: bool) -> Posterior:
        """Infer all regions, one after the other, as `Method.run`."""
        model = problem.model
        n, size = model.n_regions, problem.sites.size
        mean, inclusion = np.zeros(size), np.ones(size)
        places, blocks, found = [], [], []
        with Progress("variational Bayes", n, "region", progress) as shown:
            for region in _regions(problem):
                posterior = self._infer(region, model.as_tapas, seed)
                centre, covariance = _effective(posterior)
                k = len(region.places)
                noise = posterior.noise
                block = np.zeros((k + 1, k + 1))
                block[:k, :k], block[k, k] = covariance[:k, :k], noise.log_variance
                at = np.append(region.places, region.noise)
                mean[at] = np.append(centre[:k], noise.log_mean)
                inclusion[region.places] = posterior.inclusion[:k]
                places.append(at)
                blocks.append(block)
                found.append(posterior)
                shown.advance(1)
        covariance = BlockCovariance(places, blocks)
        energies = [each.free_energy for each in found]
        longest = max(map(len, energies))
        trace = sum(np.pad(each, (0, longest - len(each)), mode="edge") for each in energies)
        converged = np.array([each.converged for each in found])
        names = problem.model.names(problem.data)["region"]
        iterations = np.array([len(each) for each in energies])
        results = RegionalResults(
            np.array([each[-1] for each in energies]), iterations, converged, inclusion
        )
        return Posterior(
            self,
            gaussian=(mean, covariance.dense() if size <= MOST_DENSE else covariance),
            n_draws=self._n_draws(problem),
            seed=seed,
            log_evidence=float(trace[-1]),
            trace={"free_energy": trace},
            status={
                "converged": bool(converged.all()),
                "n_iterations": int(iterations.max()),
                "not_converged": [names[k] for k in np.flatnonzero(~converged)],
            },
            optima=results,
        )

    def _n_draws(self, problem: Problem) -> int:
        if self.draws is not None:
            return self.draws
        return int(np.clip(MOST_NUMBERS // problem.prepared.signal.size, 10, DRAWS))

    def _infer(self, region: _Region, as_tapas: bool, seed: int) -> RegressionPosterior:
        limits = {"max_iterations": self.max_iterations, "tolerance": self.tolerance}
        given = region.regression
        if not all(np.isfinite(each).all() for each in (given.gram, given.cross, given.square)):
            raise ValueError(
                "data are so large that their squares are not finite; give signals in percent"
            )
        if region.inclusion is None:
            return rigid_posterior(region.regression, **limits)
        rng = np.random.default_rng([seed, region.number])
        best = None
        for start in range(self.starts):
            order = rng.permutation(len(region.inclusion)) if start else None
            found = sparse_posterior(region.regression, region.inclusion, order, as_tapas, **limits)
            if best is None or found.free_energy[-1] > best.free_energy[-1]:
                best = found
        return best

    def check(self, fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
        """Convergence, stability and, of few parameters, the approximation; see `Method.check`."""
        left = fit.status["not_converged"]
        if left:
            add(
                problems,
                "not converged",
                f"The free energy of {listed(left)} was still changing after "
                f"{self.max_iterations} iterations: raise max_iterations.",
            )
        # Where no connection is free, there is nothing that data could make unstable.
        A = fit.mean["A"] if "A" in fit.mean else np.zeros((1, 1))
        fastest = float(np.linalg.eigvals(A).real.max())
        facts["largest_eigenvalue"] = fastest
        if fastest > 0:
            add(
                problems,
                "unstable",
                f"Activity grows without end at the posterior mean: the largest eigenvalue of A has"
                f" a real part of {fastest:.2f} Hz. Regressions of single regions do not know of "
                "stability; look at the confounds, or at self-connections, which noise in the "
                "signal biases.",
            )
        sparse = bool((fit.posterior.optima.inclusion < 1).any())
        # Importance weights over many regions say more of their number than of each of them.
        if not sparse and len(fit.labels) <= MOST_WEIGHED:
            check_approximation(fit, "mean-field", "", problems, facts)


class _Region(NamedTuple):
    """The regression of one region: where its parameters are in the flat vector, and priors."""

    number: int
    regression: Regression
    places: NDArray  # Of its coefficients but those of confounds, which come last.
    noise: int  # Of its log-precision.
    inclusion: NDArray | None  # Prior probabilities, None where all are there.


def _regions(problem: Problem) -> Iterator[_Region]:
    model, prepared = problem.model, problem.prepared
    columns, places = model.columns(prepared)
    target, n = np.asarray(prepared.signal), model.n_regions
    rows, confounds = np.ones(target.shape, bool), 0
    if isinstance(prepared.noise, KeptRows):
        rows = np.asarray(prepared.noise.kept) > 0
    else:
        basis, scale = map(np.asarray, prepared.noise)
        confounds = len(scale)
        columns = np.concatenate([columns, basis * scale], axis=1)
    target = target - rows * _of_constants(model, columns, places)
    whole = bool(rows.all())
    # Where that is too large, the error says so.
    with np.errstate(over="ignore", invalid="ignore"):
        gram = columns.T @ columns if whole else None
        cross = columns.T @ target
    priors = [prior for prior in model.priors if prior.free.any()]
    tables = [_entries(problem, prior, places[prior.name]) for prior in priors]
    table = np.concatenate([np.zeros(0, ENTRY), *tables])
    noise = model.priors.noise
    noise_places = problem.sites.places[noise.name]
    for region in range(n):
        mine = table[table["region"] == region]
        chosen = np.concatenate(
            [mine["column"], np.arange(confounds) + columns.shape[1] - confounds]
        )
        if whole:
            own = gram[np.ix_(chosen, chosen)]
        else:
            kept = columns[rows[:, region]][:, chosen]
            own = kept.T @ kept
        regression = Regression(
            own,
            cross[chosen, region],
            float(target[:, region] @ target[:, region]),
            int(rows[:, region].sum()),
            np.append(mine["mean"], np.zeros(confounds)),
            np.append(1 / mine["variance"], np.full(confounds, CONFOUND_PRECISION)),
            _noise_prior(noise, region),
        )
        inclusion = np.append(mine["inclusion"], np.ones(confounds))
        sparse = (inclusion < 1).any() or model.sparse
        yield _Region(
            region, regression, mine["place"], noise_places[region], inclusion if sparse else None
        )


def _noise_prior(prior: Prior, region: int) -> GammaNoise | NormalNoise:
    if isinstance(prior.family, GammaPrecision):
        return GammaNoise(prior.family.shape, prior.family.rate)
    return NormalNoise(float(prior.mean[region]), float(prior.variance[region]))


def _of_constants(model: Any, columns: NDArray, places: Mapping[str, NDArray]) -> NDArray:
    """What parameters that are not estimated add to the prediction, (rows, regions)."""
    added = np.zeros((len(columns), model.n_regions))
    for prior in model.priors:
        if prior.name in places:
            constant = np.where(prior.free, 0.0, prior.mean)
            for index in np.argwhere(constant):
                region = index[_region_axis(prior)]
                added[:, region] += constant[*index] * columns[:, places[prior.name][*index]]
    return added


def _region_axis(prior: Prior) -> int:
    return prior.dims.index("to" if "to" in prior.dims else "region")


ENTRY = [
    *((name, int) for name in ("region", "place", "column")),
    *((name, float) for name in ("mean", "variance", "inclusion")),
]


def _entries(problem: Problem, prior: Prior, columns: NDArray) -> NDArray:
    """Free entries of a parameter: region, place in the flat vector, regressor, and prior."""
    free = prior.free
    table = np.zeros(int(free.sum()), ENTRY)
    if prior.family is not None and not isinstance(prior.family, SpikeAndSlabPrior):
        raise ValueError(
            f"priors[{prior.name!r}] is a {type(prior.family).__name__}; method "
            "'variational_bayes' takes normal priors and SpikeAndSlabPrior, use method='nuts'"
        )
    table["region"] = np.argwhere(free)[:, _region_axis(prior)]
    site = prior.name if free.all() else prior.name + FREE
    table["place"] = problem.sites.places[site]
    table["column"], table["mean"] = columns[free], np.asarray(prior.mean)[free]
    table["variance"], table["inclusion"] = np.asarray(prior.variance)[free], 1.0
    if prior.family is not None:
        chosen = prior.not_normal[free]
        table["variance"][chosen] = prior.family.slab_scale**2
        table["inclusion"][chosen] = prior.family.inclusion
    return table


def _effective(posterior: RegressionPosterior) -> tuple[NDArray, NDArray]:
    """Mean and covariance of coefficients times their presence."""
    z = posterior.inclusion
    if (z == 1).all():
        return posterior.mean, posterior.covariance
    mean = z * posterior.mean
    covariance = posterior.covariance * z * z[:, None]
    spread = z * (np.diagonal(posterior.covariance) + posterior.mean**2) - mean**2
    # Of what is absent for certain no variance would be left.
    covariance[np.diag_indices(len(z))] = np.maximum(spread, 1e-12)
    return mean, covariance
