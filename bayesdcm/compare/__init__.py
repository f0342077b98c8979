"""Comparison of fits, and of models nested in a fitted one."""

from bayesdcm.compare.bridge import bridge_sampling
from bayesdcm.compare.estimate import Evidence
from bayesdcm.compare.evidence import log_evidence
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
from bayesdcm.compare.thermodynamic import thermodynamic_integration

__all__ = [
    "Evidence",
    "Frequencies",
    "GaussianSearch",
    "Reduced",
    "ReducedFit",
    "ReducedSearch",
    "bridge_sampling",
    "compare_posteriors",
    "exceedance_probability",
    "log_evidence",
    "model_frequencies",
    "reduce",
    "reduce_gaussian",
    "sample_frequencies",
    "search_gaussian",
    "search_reduced",
    "select_models",
    "thermodynamic_integration",
]
