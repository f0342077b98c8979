"""Which of several models do subjects have: Bayesian model selection for groups.

With fixed effects, one model is true of all subjects, and log-evidences add up. With random
effects, subjects differ: the frequencies of the models in the population have a Dirichlet
distribution, and so has what one learns about them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.special import digamma, gammainc, gammaincinv, gammaln, logsumexp, softmax

from bayesdcm.compare.comparable import check_subject
from bayesdcm.data.validation import some_names, warn_caller
from bayesdcm.infer.method import one_of
from bayesdcm.infer.results import Fit

# When the Dirichlet parameters have settled, as in SPM; and when they never do.
TOLERANCE, MAX_ITERATIONS = 1e-3, 10_000
# Chains and sweeps of the sampler for families, the first sweeps not counted.
CHAINS, SWEEPS, UNCOUNTED = 400, 600, 100


class Frequencies(NamedTuple):
    """What a group says about the frequencies of models in its population.

    Attributes
    ----------
    dirichlet : (models,)
        Parameters of the Dirichlet posterior.
    assignment : (subjects, models)
        Probability that a subject has a model.
    omnibus_risk : float
        Probability that all models are equally frequent.
    """

    dirichlet: NDArray[np.float64]
    assignment: NDArray[np.float64]
    omnibus_risk: float


def model_frequencies(log_evidence: ArrayLike) -> Frequencies:
    """Posterior of the frequencies of models, by variational Bayes.

    Parameters
    ----------
    log_evidence : array_like
        Shape (subjects, models), nats.

    Returns
    -------
    Frequencies
        Dirichlet parameters, assignments and Bayesian omnibus risk.

    References
    ----------
    .. [1] Stephan et al. (2009), NeuroImage 46:1004, equation 14.
           https://doi.org/10.1016/j.neuroimage.2009.03.025
    .. [2] Rigoux et al. (2014), NeuroImage 84:971, appendix 1.
           https://doi.org/10.1016/j.neuroimage.2013.08.065

    Examples
    --------
    >>> model_frequencies([[0, 9], [0, 9], [0, 9]]).dirichlet.round(2).tolist()
    [1.0, 4.0]
    """
    evidence = np.asarray(log_evidence, float)
    n_models = evidence.shape[1]
    prior = np.ones(n_models)
    alpha = prior
    for _ in range(MAX_ITERATIONS):
        before = alpha
        assignment = softmax(evidence + digamma(alpha) - digamma(alpha.sum()), axis=1)
        alpha = prior + assignment.sum(0)
        if np.linalg.norm(alpha - before) <= TOLERANCE:
            break
    expected_log = digamma(alpha) - digamma(alpha.sum())
    different = (
        gammaln(n_models)
        + (assignment * (expected_log + evidence)).sum()
        + gammaln(alpha).sum()
        - gammaln(alpha.sum())
        - ((alpha - 1) * expected_log).sum()
        + _entropy(assignment)
    )
    equal = softmax(evidence, axis=1)
    same = (equal * (evidence - np.log(n_models))).sum() + _entropy(equal)
    # Free energies of "frequencies differ" and "all are equal".
    risk = float(np.exp(-np.logaddexp(0.0, different - same)))
    return Frequencies(alpha, assignment, risk)


def _entropy(probability: NDArray) -> float:
    return float(-(probability * np.log(probability + np.finfo(float).eps)).sum())


def exceedance_probability(dirichlet: ArrayLike) -> NDArray[np.float64]:
    """Probability that each frequency is the largest, under a Dirichlet distribution.

    Parameters
    ----------
    dirichlet : array_like
        Positive parameters, shape (models,).

    Returns
    -------
    ndarray
        Shape (models,); sums to 1. By quadrature, not by sampling.

    Examples
    --------
    >>> exceedance_probability([1, 1, 1]).round(6).tolist()
    [0.333333, 0.333333, 0.333333]
    """
    alpha = np.asarray(dirichlet, float)

    def largest(k: int) -> float:
        others = np.delete(alpha, k)

        def integrand(quantile: float) -> float:
            return float(np.prod(gammainc(others, gammaincinv(alpha[k], quantile))))

        return quad(integrand, 0.0, 1.0, epsabs=1e-9, epsrel=1e-9, limit=200)[0]

    exceedance = np.array([largest(k) for k in range(len(alpha))])
    return exceedance / exceedance.sum()


def select_models(
    evidence: Any,
    effects: str = "random",
    *,
    families: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare models over subjects, or families of models.

    Parameters
    ----------
    evidence : mapping, pandas.DataFrame or array_like
        Log-evidences in nats, shape (subjects, models), the models' names as columns; or a dict
        from names of models to fits (or log-evidences), one a subject. Groups of fits, dicts and
        Series are joined by the names of subjects; sequences without names must have the same
        order for all models. A group fitted with several models serves as well.
    effects : {"random", "fixed"}
        Whether subjects may have different models (random, the default), or all have the same.
    families : mapping of str to str, optional
        Family of every model. Families are compared then, all of them equally likely beforehand
        however many models they have. With random effects by Gibbs sampling.
    seed : int
        Of the sampler for families.

    Returns
    -------
    pandas.DataFrame
        One row a model or family, in the order given. With random effects: ``dirichlet``
        (parameter of the posterior; not for families), ``frequency`` (expected), ``exceedance``
        (probability to be the most frequent) and, not for families, ``protected`` (the same,
        allowing for the possibility that all are equally frequent); ``attrs["omnibus_risk"]`` is
        the probability of that. Without families these are of variational Bayes, as in SPM, which
        takes frequencies for better known than they are: an exceedance of .86 was .80 by
        integration, as by the sampler that serves families. With fixed effects: ``log_evidence``
        (summed over subjects; of a family, that of the mixture of its models), ``difference`` to
        the best, ``probability``.

    Raises
    ------
    TypeError
        If `evidence` holds anything but numbers and fits with a log-evidence.
    ValueError
        If there are fewer than two models, no subjects, sequences of different lengths, numbers
        that are not finite, an unknown kind of effects, models without a family, or fits of a
        subject that are not of the same data, with the same confounds and scaling, or of a model
        that have parameters of other names in some subjects.

    Warns
    -----
    UserWarning
        If subjects lack a fit of one model or more, and are left out.

    References
    ----------
    .. [1] Stephan et al. (2009), NeuroImage 46:1004.
           https://doi.org/10.1016/j.neuroimage.2009.03.025
    .. [2] Rigoux et al. (2014), NeuroImage 84:971.
           https://doi.org/10.1016/j.neuroimage.2013.08.065
    .. [3] Penny et al. (2010), PLoS Comput Biol 6:e1000709.
           https://doi.org/10.1371/journal.pcbi.1000709

    Examples
    --------
    >>> table = select_models({"forward": [-310.0, -295.5], "backward": [-313.5, -301.0]})
    >>> table["frequency"].round(2).to_dict()
    {'forward': 0.75, 'backward': 0.25}
    """
    one_of("random", "fixed")("effects", effects)
    table = _evidence_table(evidence)
    if families is None:
        return _fixed(table) if effects == "fixed" else _random(table)
    names, member = _families(table.columns, families)
    values = table.to_numpy()
    if effects == "fixed":
        # The mean over the models of each family.
        mixed = logsumexp(values.sum(0)[:, None], axis=0, b=member / member.sum(0))
        return _fixed(pd.DataFrame([mixed], columns=names))
    draws = sample_frequencies(values, 1.0 / (member @ member.sum(0)), seed) @ member
    best = np.eye(len(names))[draws.argmax(1)]
    return pd.DataFrame({"frequency": draws.mean(0), "exceedance": best.mean(0)}, index=names)


def _fixed(table: pd.DataFrame) -> pd.DataFrame:
    total = table.sum(axis=0)
    probability = softmax(total.to_numpy())
    return pd.DataFrame(
        {"log_evidence": total, "difference": total - total.max(), "probability": probability}
    )


def _random(table: pd.DataFrame) -> pd.DataFrame:
    alpha, assignment, risk = model_frequencies(table.to_numpy())
    exceedance = exceedance_probability(alpha)
    frequencies = pd.DataFrame(
        {
            "dirichlet": alpha,
            "frequency": alpha / alpha.sum(),
            "exceedance": exceedance,
            "protected": (1 - risk) * exceedance + risk / len(alpha),
        },
        index=table.columns,
    )
    frequencies.attrs["omnibus_risk"] = risk
    return frequencies


def sample_frequencies(log_evidence: ArrayLike, prior: ArrayLike, seed: int) -> NDArray[np.float64]:
    """Draw frequencies of models from their posterior, by Gibbs sampling.

    Variational Bayes is poor where the Dirichlet parameters of the prior are below 1, which those
    of models in large families are.

    Parameters
    ----------
    log_evidence : array_like
        Shape (subjects, models), nats.
    prior : array_like
        Dirichlet parameters of the prior, shape (models,).
    seed : int
        Of the random numbers.

    Returns
    -------
    ndarray
        Shape (draws, models); rows sum to 1.

    References
    ----------
    .. [1] Penny et al. (2010), PLoS Comput Biol 6:e1000709, equations 13 to 15.
           https://doi.org/10.1371/journal.pcbi.1000709

    Examples
    --------
    >>> draws = sample_frequencies([[0.0, 20.0]] * 3, [1, 1], seed=0)
    >>> draws.shape[1], bool(abs(draws[:, 1].mean() - 0.8) < 0.01)
    (2, True)
    """
    evidence, prior = np.asarray(log_evidence, float), np.asarray(prior, float)
    relative = np.exp(evidence - evidence.max(1, keepdims=True))
    random = np.random.default_rng(seed)
    n_subjects, n_models = evidence.shape
    counts = np.zeros((CHAINS, n_models))
    kept = np.empty((SWEEPS - UNCOUNTED, CHAINS, n_models))
    for sweep in range(SWEEPS):
        # A share of zero could leave a subject without any model.
        shares = np.maximum(random.standard_gamma(prior + counts), np.finfo(float).tiny)
        if sweep >= UNCOUNTED:
            kept[sweep - UNCOUNTED] = shares / shares.sum(1, keepdims=True)
        # The model of each subject, by inversion: (chains, subjects, models).
        steps = np.cumsum(shares[:, None] * relative, axis=2)
        passed = random.random((CHAINS, n_subjects, 1)) * steps[..., -1:] >= steps
        counts = np.eye(n_models)[passed.sum(2)].sum(1)
    return kept.reshape(-1, n_models)


def _families(
    models: Sequence[str], families: Mapping[str, str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Names of families, and which model is in which, shape (models, families)."""
    if not isinstance(families, Mapping):
        raise TypeError(
            'families must be a dict from models to families, such as {"forward": "one way"}, '
            f"got {type(families).__name__}"
        )
    without = [model for model in models if model not in families]
    if without:
        raise ValueError(f"families must name the family of every model, none has {without[0]!r}")
    unknown = [model for model in families if model not in models]
    if unknown:
        raise ValueError(f"families names {unknown[0]!r}, which is none of the models")
    names = list(dict.fromkeys(families[model] for model in models))
    if len(names) < 2:
        raise ValueError(f"families must be at least two, got {names}")
    return names, np.array([[families[model] == name for name in names] for model in models], float)


def _evidence_table(evidence: Any) -> pd.DataFrame:
    """Log-evidences, (subjects, models)."""
    if hasattr(evidence, "evidence") and hasattr(evidence, "subjects"):
        # Of a group fitted with several models.
        table = evidence.evidence()
        lacking = table.isna().any(axis=1)
        _say_left_out(list(table.index[lacking]), len(table))
        table = table[~lacking]
    elif isinstance(evidence, Mapping):
        by_model = _joined(evidence)
        subjects = list(next(iter(by_model.values()), {}))
        columns = {
            name: [_number(name, subject, fit) for subject, fit in fits.items()]
            for name, fits in by_model.items()
        }
        table = pd.DataFrame(columns, index=subjects)
        for subject in subjects:
            check_subject(subject, {name: fits[subject] for name, fits in by_model.items()})
        for name, fits in by_model.items():
            _check_same_model(name, fits)
    else:
        try:
            table = pd.DataFrame(evidence).astype(float)
        except (TypeError, ValueError) as error:
            raise TypeError(
                "evidence must be log-evidences of shape (subjects, models), or a dict from "
                f"models to sequences of fits, got {type(evidence).__name__}"
            ) from error
    if table.shape[1] < 2 or not len(table):
        raise ValueError(
            f"evidence must hold at least two models and one subject, got {table.shape[1]} models "
            f"and {len(table)} subjects"
        )
    for what, names in (("subject", table.index), ("model", table.columns)):
        # Numbers repeat where tables were put one below the other.
        twice = [name for name in names[names.duplicated()] if isinstance(name, str)]
        if twice:
            raise ValueError(
                f"evidence must have every {what} once, but names {twice[0]!r} more than once"
            )
    for subject, model in np.argwhere(~np.isfinite(table.to_numpy())):
        raise ValueError(
            f"evidence must be finite, got {table.iloc[subject, model]} for model "
            f"{table.columns[model]!r} and subject {table.index[subject]!r}; leave out whom a "
            "model could not be fitted to, such as by evidence.dropna()"
        )
    return table


def _joined(evidence: Mapping[str, Any]) -> dict[str, dict[Any, Any]]:
    """Fits by model and subject, of the subjects that all models have."""
    named = {model: _by_subject(model, fits) for model, fits in evidence.items()}
    without = [model for model, fits in named.items() if fits is None]
    if without and len(without) < len(named):
        other = next(model for model, fits in named.items() if fits is not None)
        raise ValueError(
            f"evidence[{without[0]!r}] has no names of subjects and evidence[{other!r}] has; give "
            "all models with names (groups of fits, dicts or Series by subject), or all without"
        )
    if without:
        lengths = {name: len(fits) for name, fits in evidence.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"evidence must have as many subjects for every model, got {lengths}; leave "
                "subjects out whom a model could not be fitted to"
            )
        return {model: dict(enumerate(fits)) for model, fits in evidence.items()}
    everyone = list(dict.fromkeys(subject for fits in named.values() for subject in fits))  # type: ignore[union-attr]
    shared = [subject for subject in everyone if all(subject in fits for fits in named.values())]  # type: ignore[operator]
    if everyone and not shared:
        firsts = {model: next(iter(fits), None) for model, fits in named.items()}  # type: ignore[arg-type]
        raise ValueError(
            "evidence must be of the same subjects for every model, but no subject has a fit of "
            f"each; the first of each are {firsts}. Name subjects alike"
        )
    _say_left_out([subject for subject in everyone if subject not in shared], len(everyone))
    return {model: {subject: fits[subject] for subject in shared} for model, fits in named.items()}  # type: ignore[index]


def _check_same_model(model: str, fits: Mapping[Any, Any]) -> None:
    """Raise where a model has as many parameters in all subjects, but of other names.

    Such as a modulation by the first input, which is another condition for somebody else.
    """
    labels = {subject: set(fit.labels) for subject, fit in fits.items() if isinstance(fit, Fit)}
    first = next(iter(labels), None)
    for subject, names in labels.items():
        wanted = labels[first]
        if names == wanted or len(names) != len(wanted):
            continue
        lacking, surplus = (some_names(sorted(s)) for s in (wanted - names, names - wanted))
        raise ValueError(
            f"evidence[{model!r}] must be of one model in all subjects, but that of {subject!r} "
            f"has {surplus} and that of {first!r} has {lacking}. Put regions and inputs of all "
            "data in one order by name before fitting (data.reordered), as fit_group does"
        )


def _by_subject(model: str, fits: Any) -> dict[Any, Any] | None:
    """Fits by the name of the subject; None where there are no names."""
    if isinstance(fits, Mapping):
        return dict(fits)
    if isinstance(fits, pd.DataFrame):
        if fits.shape[1] != 1:
            raise ValueError(
                f"evidence[{model!r}] is a table of {fits.shape[1]} columns; give one column, or "
                "one table of all models in place of the dict"
            )
        fits = fits.iloc[:, 0]
    names = fits.index if isinstance(fits, pd.Series) else getattr(fits, "subjects", None)
    if names is None or isinstance(names, pd.RangeIndex):
        return None
    if len(set(names)) != len(fits):
        raise ValueError(
            f"evidence[{model!r}] holds {len(fits)} fits of {len(set(names))} subjects; expected "
            "one fit a subject, of one model"
        )
    return dict(zip(names, fits, strict=True))


def _say_left_out(subjects: Sequence[Any], number: int) -> None:
    if len(subjects):
        warn_caller(
            f"{len(subjects)} of {number} subjects lack a fit of one model or more and are left "
            f"out: {some_names(list(subjects))}"
        )


def _number(model: str, subject: Any, fit: Any) -> float:
    value = getattr(fit, "log_evidence", fit)
    if value is None:
        raise TypeError(
            f"evidence[{model!r}][{subject!r}] is a fit by {fit.method!r}, which has no "
            "log-evidence; use fits by variational Laplace, or give numbers"
        )
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"evidence[{model!r}][{subject!r}] must be a fit or a number, got "
            f"{type(value).__name__}"
        ) from error
