"""The log-evidence of a fitted model, by any of the methods that there are."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesdcm.compare.bridge import bridge_sampling
from bayesdcm.compare.estimate import Evidence, Proposal, Target, large_error
from bayesdcm.compare.thermodynamic import thermodynamic_integration
from bayesdcm.infer import arviz_adapter
from bayesdcm.infer.evaluation import joint_densities
from bayesdcm.infer.method import one_of, positive_integer
from bayesdcm.infer.results import Fit
from bayesdcm.infer.tail_shape import PARETO_LIMIT
from bayesdcm.infer.variational_laplace import kink_text, rough_sites

# Of a normal approximation, unless the user asks for others.
IMPORTANCE_DRAWS = 4000


def log_evidence(fit: Fit, method: str | None = None, *, seed: int = 0, **options: Any) -> Evidence:
    """Log-evidence of the model of a fit.

    All methods estimate the same number, in nats: the density of the data, with parameters and
    confounds integrated out. For posteriors that are normal, as those of linear models, they
    agree.

    Parameters
    ----------
    fit : Fit
        Any fit.
    method : {"free_energy", "bridge", "importance", "thermodynamic"}, optional
        The free energy of variational Laplace, or the evidence lower bound of SVI; bridge
        sampling of the draws of NUTS; importance sampling with the approximation of Laplace or
        SVI as proposal; thermodynamic integration, which draws anew. None: bridge sampling for
        NUTS, else the free energy.
    seed : int
        Seed of what is drawn.
    **options
        Bridge: ``proposals`` (as many as half the draws; draws of each proposal), ``warp``
        (False; mirror skewed posteriors). Importance: ``draws`` (4000; of SVI at most those of
        the fit, all by default). Thermodynamic: ``path`` ("approximation", or "prior"),
        ``temperatures`` (8; 24 from the prior), ``power`` (2; 5), ``chains`` (4), ``warmup``
        (150), ``draws`` (250).

    Returns
    -------
    Evidence
        A number with its standard error. A warning is given, too, where it is not to be trusted.

    Warns
    -----
    RuntimeWarning
        With `Evidence.problems`, if there are any.

    Raises
    ------
    TypeError
        If `fit` is not a fit, or an option is unknown.
    ValueError
        If the method is unknown or does not suit the fit.

    References
    ----------
    .. [1] Gronau et al. (2017), J Math Psychol 81:80. https://doi.org/10.1016/j.jmp.2017.09.005
    .. [2] Friel and Pettitt (2008), J R Stat Soc B 70:589.
           https://doi.org/10.1111/j.1467-9868.2007.00650.x

    Examples
    --------
    >>> import numpyro, numpyro.distributions as dist, bayesdcm
    >>> def program(data):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
    ...     numpyro.sample("y", bayesdcm.observe.gaussian(mean + 0 * data, 0.0), obs=data)
    >>> round(float(log_evidence(bayesdcm.fit(program, np.zeros(1)))), 3)  # N(0; 0, 2)
    -1.266
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit must be a Fit, got {type(fit).__name__}")
    fit.posterior.require_spread("log_evidence")
    if method is None:
        method = "free_energy" if fit.posterior.method.evidence else "bridge"
    one_of(*METHODS)("method", method)
    if method == "free_energy" and options:
        raise TypeError(f"method 'free_energy' takes no options, got {next(iter(options))!r}")
    evidence = METHODS[method](fit, seed, **options)
    evidence = replace(evidence, modelled_data=fit._modelled_data)
    if evidence.problems:
        warnings.warn(
            f"the log-evidence by {evidence.method} is not to be trusted: "
            f"{' '.join(evidence.problems)}",
            RuntimeWarning,
            stacklevel=2,
        )
    return evidence


def _free_energy(fit: Fit, seed: int) -> Evidence:
    del seed
    if fit.log_evidence is None:
        raise ValueError(
            f"fit is by {fit.method!r}, which gives no free energy; use method='bridge'"
        )
    kind = fit.posterior.method.evidence or "free_energy"
    problems = () if fit.status.get("converged", True) else ("The fit has not converged.",)
    if lost := fit.status.get("diverging_draws"):
        problems = (
            *problems,
            f"The model diverges at {lost} draws of the approximation, which the bound leaves out.",
        )
    if kind == "free_energy" and fit.is_bound and (rough := rough_sites(fit.problem)):
        problems = (*problems, kink_text(rough))
    return Evidence(float(fit.log_evidence), float("nan"), kind, {}, problems)


def _bridge(fit: Fit, seed: int, **options: Any) -> Evidence:
    if not fit.posterior.method.exact:
        raise ValueError(
            f"method 'bridge' needs draws of the posterior, fit is by {fit.method!r}: use "
            "method='importance', or fit(..., method='nuts')"
        )
    draws, scale = fit.posterior.draws, fit.posterior.metric
    return bridge_sampling(fit.problem, draws, scale=scale, seed=seed, **options)


def _importance(fit: Fit, seed: int, draws: int | None = None) -> Evidence:
    if fit.posterior.density is None:
        raise ValueError(
            f"method 'importance' needs the density of an approximation, fit is by "
            f"{fit.method!r}: use method='bridge'"
        )
    if draws is not None:
        positive_integer("draws", draws)
    posterior = fit.posterior
    if posterior.gaussian is None:
        # An approximation of SVI is kept as draws.
        sample, density = posterior.sample[0][:draws], posterior.density[0][:draws]
        joint = joint_densities(fit.problem, sample)
        joint = np.where(np.isnan(joint), -np.inf, joint)
        evidence = importance_sampling(joint - density, "Fit again with more draws.")
        if len(sample) < (draws or 0):
            few = f"The fit has {len(sample)} draws, not {draws}: fit again with more draws."
            evidence = replace(evidence, problems=(*evidence.problems, few))
        return evidence
    # Of a normal approximation, what remains where some sites are integrated out is normal.
    mean, covariance = posterior.gaussian
    target = Target(fit.problem, mean)
    places = target.places
    factor = np.linalg.cholesky(covariance[np.ix_(places, places)])
    proposal = Proposal(target, mean[places], factor)
    points = proposal.draw(draws or IMPORTANCE_DRAWS, np.random.default_rng(seed))
    return importance_sampling(proposal.log_ratio(points))


def importance_sampling(log_weights: NDArray, remedy: str = "Raise draws.") -> Evidence:
    """Log-evidence from log importance weights (draws,); the `remedy` is for large errors.

    They are log joint density minus log density of the proposal, at independent draws of that.
    The ``details`` have ``pareto_k``, the shape of the tail of the weights (Vehtari et al. 2024,
    https://jmlr.org/papers/v25/19-556.html), ``effective_draws`` and ``bound``, the evidence lower
    bound of the proposal.
    """
    total = float(logsumexp(log_weights))
    estimate = total - np.log(len(log_weights))
    effective = float(np.exp(2 * total - logsumexp(2 * log_weights)))
    error = float(np.sqrt(max(1 / effective - 1 / len(log_weights), 0.0)))
    shape = arviz_adapter.pareto_k(log_weights)
    problems = []
    if shape > PARETO_LIMIT:
        problems.append(
            f"The weights have a heavy tail (Pareto k-hat {shape:.2f}, trustworthy below "
            f"{PARETO_LIMIT}): the approximation differs from the posterior, and the standard "
            "error is too small. Use fit(..., method='nuts') and bridge sampling."
        )
    problems += large_error(error, remedy)
    bound = float(np.mean(log_weights))
    details = {"pareto_k": shape, "effective_draws": effective, "bound": bound}
    return Evidence(float(estimate), error, "importance", details, tuple(problems))


def _thermodynamic(fit: Fit, seed: int, **options: Any) -> Evidence:
    posterior = fit.posterior
    if posterior.gaussian is not None:
        mean, covariance = posterior.gaussian
    else:
        flat = posterior.sample.reshape(-1, posterior.sample.shape[-1])
        mean, covariance = flat.mean(0), np.atleast_2d(np.cov(flat, rowvar=False))
    return thermodynamic_integration(fit.problem, mean, covariance, seed=seed, **options)


METHODS = {
    "free_energy": _free_energy,
    "bridge": _bridge,
    "importance": _importance,
    "thermodynamic": _thermodynamic,
}
