"""Other starting points of variational Laplace, where the first has led to a poor optimum.

Variational Laplace climbs from where it starts. It can end at a poor optimum (where a region is
deactivated strongly, a modulation of the wrong sign explains one region and gives up another), its
rule can stop it while its steps are still short, or it does not come to an end. All can be seen in
what it leaves: a slope, or residuals that responses of the same model would explain. Then, and
only then, the prior is searched: of many draws, those whose responses fit best become starting
points. At last the neighbourhood of a better optimum is searched in the same way. Models that often
have several optima (`NeuralModel.many_modes`) are searched in any case, and more widely. At the
draws only the prediction is evaluated, by one program, and all starts share the program of a single
start.

Where power is all that signals tell of nodes, a node that is seen with the wrong sign relative to
another stays so, as the way leads through places where it is not seen at all. Of such models
(`Observer.mirrored`) other signs are tried in any case, and nothing else.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayesdcm.infer.evaluation import prior_points, whitened_residuals
from bayesdcm.infer.laplace import TOLERANCE, LaplaceResult
from bayesdcm.infer.many_inversions import run_starts
from bayesdcm.infer.ridges import scaled_by_node

# Responses at so many draws from the prior tell whether an optimum is poor.
TRIALS = 32
# A round draws so many points and climbs from those that fit best.
DRAWS, CLIMBS = 256, 4
# So many times more where models often have several optima, and twice as many climbs after each
# round that found nothing better.
MORE = 4
# Where the optimum is good, another may be beside it: points are then drawn about it, this much as
# widely as the prior.
SPREAD = 0.25
# There are so many rounds at most, and no more after so many that found nothing better; after one
# where the optimum is good.
ROUNDS, FRUITLESS = 8, 4
# Times that points where the model diverges are brought nearer.
HALVINGS = 5
# What counts as better, in nats.
GAIN = 1.0
# Residuals are looked at where so many autocorrelations of a column have this p-value or less, over
# the root of the number of columns: of many, chance finds something in one more often, but looking
# is a smaller part of the fit, and what is wrong with one of them must be seen, too.
LAGS, WHITE = 10, 0.2
# They are poor where the main components of responses at draws of the prior explain this share of
# a column (what as many random components would explain is taken off), with this p-value.
COMPONENTS, SHARE, SIGNIFICANT = 8, 0.05, 1e-3
# With fewer data in a column there is nothing to tell by.
FEWEST = 30
# Responses so many times larger than is usual are of diverging trajectories.
DIVERGING = 1e3

# Runs that converge take fewer iterations, as a rule; shorter ones were stopped.
MANY_ITERATIONS = 100

# All relative signs of so many nodes are tried; of more, each in turn, while any is better.
ALL_SIGNS = 4

SIGNS = "nodes may have other signs relative to each other"
MANY_MODES = "models of this kind often have several optima"
UNCONVERGED = "variational Laplace had not converged"
STEEP = "variational Laplace had stopped while its steps were short"
UNEXPLAINED = "responses of the model at other parameters explain the residuals"

# Of the observed sites, (points, times, columns), and numbers of confounds.
Residuals = tuple[list[NDArray], list[int]]


class SearchResult(NamedTuple):
    """Optima, as arrays with one row a start, the given one first, and a record of the search.

    `record` is None without a search. ``starts``, how many there were; ``reason`` for more than
    one, or None; ``gain``, how much better the best is than the first, nats; ``left``, what is
    still wrong with it, or None.
    """

    optima: LaplaceResult
    record: dict[str, Any] | None


class _Model(NamedTuple):
    """What is inverted."""

    static: tuple  # Source, layout and settings of variational Laplace.
    prepared: Any
    centre: NDArray  # The prior mean, (size,).

    def of_optimum(self, optima: LaplaceResult, place: int) -> list[NDArray]:
        """Residuals at an optimum, (1, times, columns) each, which it holds as a rule."""
        if optima.residuals:
            return [site[[place]] for site in optima.residuals]
        return self.residuals(optima.mean[[place]])[0]

    def residuals(self, points: NDArray) -> Residuals:
        """Residuals at flat points (points, size), and numbers of confounds.

        Precisions are those of the prior mean everywhere, so that residuals can be compared.
        """
        n = self.static[1].n_parameters
        precisions = np.broadcast_to(self.centre[n:], (len(points), len(self.centre) - n))
        points = np.concatenate([points[:, :n], precisions], axis=1)
        return whitened_residuals(*self.static[:2], self.prepared, points)

    def draws(self, n: int, seed: int, about: NDArray | None = None) -> tuple[NDArray, Residuals]:
        """Points drawn from the prior at which the model does not diverge, and `residuals` there.

        With `about`, points are drawn about these parameters, less widely. Where the prior covers
        little else than points at which it does, these come nearer until most do not.
        """
        points = np.array(prior_points(*self.static[:2], self.prepared, n, seed))
        n_parameters = self.static[1].n_parameters
        # Hyperparameters always start at their prior mean: only the parameters have modes.
        points[:, n_parameters:] = self.centre[n_parameters:]
        if about is not None:
            shift = points[:, :n_parameters] - self.centre[:n_parameters]
            points[:, :n_parameters] = about + SPREAD * shift
        middle = self.centre[:n_parameters] if about is None else about
        for _ in range(HALVINGS):
            residuals, n_confounds = self.residuals(points)
            size = np.max([np.abs(site).max((1, 2), initial=0) for site in residuals], axis=0)
            finite = np.isfinite(size)
            if finite.mean() > 0.5:
                break
            points[~finite, :n_parameters] = (points[~finite, :n_parameters] + middle) / 2
        usual = DIVERGING * np.median(size[finite]) if finite.any() else 0.0
        kept = np.flatnonzero(finite & (size <= usual))
        return points[kept], ([site[kept] for site in residuals], n_confounds)


def stopped_early(optima: LaplaceResult, place: int) -> bool:
    """Whether a run ended as converged although a Newton step promises more.

    The rule that ends variational Laplace looks at the gain of the next step, which is small where
    that step is short, too. False for a run that had not converged, which is known to have been
    stopped, and for one whose last step was refused: whatever the density gains there, the free
    energy loses in volume.
    """
    last = optima.n_iterations[place] - 1
    goes_on = optima.converged[place] and optima.trace["accepted"][place, last]
    return bool(goes_on) and bool(optima.slope[place] > TOLERANCE)


def coloured(residual: NDArray) -> NDArray:
    """Which columns of residuals (times, columns) may be correlated in time, (columns,).

    By the test of Ljung and Box (1978), Biometrika 65:297, https://doi.org/10.1093/biomet/65.2.297
    """
    (n, columns), centred = residual.shape, residual - residual.mean(0)
    power = np.maximum((centred**2).sum(0), np.finfo(float).tiny)
    lags = range(1, LAGS + 1)
    squares = [((centred[k:] * centred[:-k]).sum(0) / power) ** 2 / (n - k) for k in lags]
    return stats.chi2.sf(n * (n + 2) * np.sum(squares, axis=0), LAGS) < WHITE / np.sqrt(columns)


def explained_elsewhere(residual: NDArray, others: NDArray, n_confounds: int = 0) -> NDArray:
    """Which columns of residuals the responses of the model at other parameters explain.

    Residuals are (times, columns), those at other parameters (draws, times, columns), the result is
    (columns,); so many confounds are taken out.
    """
    n, columns = residual.shape
    explained = np.zeros(columns, bool)
    freedom = n - COMPONENTS - n_confounds - 1
    for column in range(columns if freedom > 0 and len(others) >= COMPONENTS else 0):
        change = (others[:, :, column] - residual[:, column]).T
        size = np.linalg.norm(change, axis=0)
        change = change[:, size > 0] / size[size > 0]
        basis = np.linalg.svd(change, full_matrices=False)[0][:, :COMPONENTS]
        total = float(residual[:, column] @ residual[:, column])
        within = float(((basis.T @ residual[:, column]) ** 2).sum())
        k = basis.shape[1]
        if not k or within >= total:
            continue
        ratio = (within / k) / ((total - within) / freedom)
        share = 1 - (total - within) / total * (freedom + k) / freedom
        explained[column] = share > SHARE and stats.f.sf(ratio, k, freedom) < SIGNIFICANT / columns
    return explained


def _fits_best(others: list[NDArray]) -> NDArray:
    """Places of draws, that of the highest likelihood first, each with the noise it calls for."""
    least = np.finfo(float).tiny
    log_likelihood = -sum(
        site.shape[1] / 2 * np.log(np.maximum((site**2).mean(1), least)).sum(1) for site in others
    )
    return np.argsort(-log_likelihood, kind="stable")


def _reason(
    here: list[NDArray], optima: LaplaceResult, place: int, others: Residuals | None
) -> str | None:
    """What is wrong with an optimum that leaves residuals; without draws, what may be."""
    for i, (residual,) in enumerate(here):
        if len(residual) < FEWEST or not coloured(residual).any():
            continue
        if others is None:
            return UNEXPLAINED
        elsewhere, n_confounds = (each[i] for each in others)
        if explained_elsewhere(residual, elsewhere, n_confounds).any():
            return UNEXPLAINED
    if stopped_early(optima, place):
        return STEEP
    if not optima.converged[place] and optima.n_iterations[place] >= MANY_ITERATIONS:
        return UNCONVERGED
    return None


def search(
    static: tuple,
    prepared: Any,
    first: LaplaceResult,
    centre: NDArray,
    seed: int,
    progress: bool = False,
) -> SearchResult:
    """Look for a better optimum where that of the first start is poor.

    `static` is source, layout and settings, as `run_starts` takes them; `first`, from the prior
    mean `centre` (size,), has a leading axis of one start; `seed` is that of the draws; `progress`,
    whether to show how far a search of many starts has come.
    """
    record: dict[str, Any] = {"starts": 1, "reason": None, "gain": 0.0, "left": None}
    if bool(first.failed[0]) or not np.isfinite(first.free_energy[0]):
        return SearchResult(first, record)
    inverted = getattr(static[0], "model", None)
    if getattr(inverted, "mirrored", False):
        nodes = scaled_by_node(inverted, static[1])
        return _with_signs(static, prepared, first, centre, nodes, record, progress)
    model, optima, best, fruitless = _Model(static, prepared, np.asarray(centre)), first, 0, 0
    many = bool(getattr(inverted, "many_modes", False))
    here = model.of_optimum(optima, best)
    if _reason(here, optima, best, None) is None and not many:
        return SearchResult(optima, record)
    seeds = [int(state) for state in np.random.SeedSequence(seed).generate_state(1 + ROUNDS)]
    points, others = model.draws(TRIALS, seeds[0])
    left = _reason(here, optima, best, others) if len(points) else None
    record["reason"] = left or (MANY_MODES if many else None)
    effort = MORE if many else 1
    for k in range(ROUNDS if record["reason"] else 0):
        widely = left or (many and fruitless == 0)
        points, (responses, _) = model.draws(
            effort * DRAWS, seeds[1 + k], None if widely else np.asarray(optima.mean[best])
        )
        if not len(points):
            break
        climbs = CLIMBS * (effort * 2**fruitless if many else 1)
        starts = points[_fits_best(responses)[:climbs]]
        if left in (STEEP, UNCONVERGED):
            start = np.concatenate([optima.mean[best], np.asarray(centre)[optima.mean.shape[1] :]])
            starts = np.concatenate([start[None], starts])
        climbed = run_starts(*static, prepared, starts, progress and many)
        optima = jax.tree.map(lambda *leaves: np.concatenate(leaves), optima, climbed)
        energy = np.where(optima.failed, -np.inf, optima.free_energy)
        fruitless = 0 if energy.max() > energy[best] + GAIN else fruitless + 1
        best = int(np.argmax(energy))
        left = _reason(model.of_optimum(optima, best), optima, best, others)
        # Where there are many optima anyway, a short step says nothing of another.
        poor = left == UNEXPLAINED or (left and not many)
        if fruitless >= (FRUITLESS if poor else 1 + many):
            break
    record["starts"] = len(optima.free_energy)
    record["gain"] = float(optima.free_energy[best] - first.free_energy[0])
    record["left"] = left
    return SearchResult(optima, record)


def sign_rounds(nodes: list[NDArray]) -> tuple[list[NDArray], list[NDArray]]:
    """Nodes of which signs may differ, and signs to try together, one or more (tries, nodes).

    `nodes` are places in the flat vector, see `scaled_by_node`; those that are fixed are one node
    whose sign stays.
    """
    fixed = [places for places in nodes if not places.size][:1]
    nodes = fixed + [places for places in nodes if places.size]
    n = len(nodes)
    if n < 2:
        return nodes, []
    if n <= ALL_SIGNS:
        return nodes, [np.array([(1, *rest) for rest in product((1, -1), repeat=n - 1)])[1:]]
    return nodes, list(1 - 2 * np.eye(n)[len(fixed) :, None])


def _with_signs(
    static: tuple,
    prepared: Any,
    first: LaplaceResult,
    centre: NDArray,
    nodes: list[NDArray],
    record: dict[str, Any],
    progress: bool,
) -> SearchResult:
    """Optima with other relative signs of what is scaled by node; see `search`.

    Climbs begin twice: at the best optimum with other signs, and at the prior mean with the sizes
    of that optimum and the same signs, as all else may have gone far to make up for a wrong sign.
    """
    nodes, rounds = sign_rounds(nodes)
    n_parameters, optima, best, k, fruitless = first.mean.shape[1], first, 0, 0, 0
    while fruitless < len(rounds):
        signs = rounds[k % len(rounds)]
        here = np.array(centre)
        for places in nodes:
            here[places] = optima.mean[best, places]
        there = np.concatenate([optima.mean[best], here[n_parameters:]])
        starts = np.repeat([there, here], len(signs), axis=0)
        for places, sign in zip(nodes, np.tile(signs, (2, 1)).T, strict=True):
            starts[:, places] *= sign[:, None]
        climbed = run_starts(*static, prepared, starts, progress and len(rounds) > 1)
        optima = jax.tree.map(lambda *leaves: np.concatenate(leaves), optima, climbed)
        energy = np.where(optima.failed, -np.inf, optima.free_energy)
        # Where all are tried at once, none is left.
        again = len(rounds) > 1 and energy.max() > energy[best] + GAIN
        k, fruitless, best = k + 1, 0 if again else fruitless + 1, int(np.argmax(energy))
    if len(optima.free_energy) > 1:
        record |= {"starts": len(optima.free_energy), "reason": SIGNS}
        record["gain"] = float(optima.free_energy[best] - first.free_energy[0])
    return SearchResult(optima, record)
