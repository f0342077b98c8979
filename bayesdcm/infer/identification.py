"""What data leave as the prior has it: directions of the posterior that are no narrower."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayesdcm.infer.block_covariance import BlockCovariance
from bayesdcm.infer.divergence import finite_mean
from bayesdcm.infer.findings import add, listed

# Posterior variance over prior variance from which on a direction counts as flat.
FLAT = 0.9
# Parameters of more are not looked at: the decomposition takes the cube of their number.
MOST = 1000
# Parameters of a direction that are named, as far as each has this share of it.
SHARE = 0.05
# By which a correlation with data may be below that of the baseline.
MARGIN = 0.01


def check_identification(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Count the directions that data do not inform, and name the flattest.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit; nothing is done of one whose prior is not Gaussian, or that has no draws.
    problems, facts : list and dict
        Added to: ``flat_directions``, their number; ``flattest``, the parameters of the flattest,
        and ``flattest_variance``, relative to the prior's.
    """
    try:
        if not 2 <= len(fit.labels) <= MOST:
            return
        prior = fit._prior_moments[1]
        prior = np.asarray(prior.dense() if isinstance(prior, BlockCovariance) else prior)
        covariance = fit.covariance
    except (ValueError, NotImplementedError):
        return
    labels, posterior = list(covariance.index), covariance.to_numpy()
    prior = np.diag(prior) if prior.ndim == 1 else prior
    if not (np.isfinite(prior).all() and np.isfinite(posterior).all()):
        return
    root = np.linalg.cholesky(prior)
    white = np.linalg.solve(root, np.linalg.solve(root, posterior).T)
    values, vectors = np.linalg.eigh((white + white.T) / 2)
    flat = int((values > FLAT).sum())
    facts["flat_directions"] = flat
    weights = vectors[:, -1] ** 2
    order = np.argsort(-weights)
    named = [labels[i] for i in order if weights[i] > SHARE] or [labels[order[0]]]
    facts["flattest"], facts["flattest_variance"] = named, float(values[-1])
    if flat and fit.facts.flat_directions:
        add(
            problems,
            "not identified",
            f"Data do not tell all parameters: {flat} of {len(labels)} directions of the posterior "
            f"are no narrower than the prior. The flattest is that of {listed(named)}. Fix what "
            "cannot be known (priors={name: (value, 0)}), or give data that tell it.",
        )


def check_baseline(fit: Any, problems: list[str], facts: dict[str, Any]) -> None:
    """Set beside a fit how well the baseline of its model explains the same data.

    Parameters
    ----------
    fit : bayesdcm.Fit
        Any fit; something is done of models that have ``baseline_correlation``.
    problems, facts : list and dict
        Added to: ``data_correlation`` of what is predicted and observed, and
        ``baseline_correlation``.
    """
    model = fit.problem.model if fit.is_bound else None
    if not hasattr(model, "baseline_correlation"):
        return
    observed, predicted = fit._groups["observed_data"], fit._groups["posterior_predictive"]
    name = next(iter(observed.data_vars))
    mean = finite_mean(predicted[f"{name}_prediction"])
    own = float(np.corrcoef(np.ravel(observed[name]), np.ravel(mean))[0, 1])
    reference = model.baseline_correlation(fit.problem.data)
    facts["data_correlation"], facts["baseline_correlation"] = own, reference
    if own < reference - MARGIN:
        add(
            problems,
            "worse than its baseline",
            f"Predictions correlate with data by {own:.2f}, those of a linear network with one "
            f"strength by {reference:.2f}. Prefer that baseline, or look for what the model "
            "leaves out.",
        )
