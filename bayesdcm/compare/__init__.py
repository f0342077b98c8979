"""Comparison of fits, and of models nested in a fitted one."""

from bayesdcm.compare.posteriors import compare_posteriors
from bayesdcm.compare.reduction import Reduced, ReducedFit, reduce, reduce_gaussian
from bayesdcm.compare.search import (
    GaussianSearch,
    ReducedSearch,
    search_gaussian,
    search_reduced,
)
from bayesdcm.compare.selection import (
    Frequencies,
    exceedance_probability,
    model_frequencies,
    sample_frequencies,
    select_models,
)

__all__ = [
    "Frequencies",
    "GaussianSearch",
    "Reduced",
    "ReducedFit",
    "ReducedSearch",
    "compare_posteriors",
    "exceedance_probability",
    "model_frequencies",
    "reduce",
    "reduce_gaussian",
    "sample_frequencies",
    "search_gaussian",
    "search_reduced",
    "select_models",
]
