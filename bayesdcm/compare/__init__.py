"""Comparison of fits, and of models nested in a fitted one."""

from bayesdcm.compare.posteriors import compare_posteriors
from bayesdcm.compare.reduction import Reduced, ReducedFit, reduce, reduce_gaussian

__all__ = ["Reduced", "ReducedFit", "compare_posteriors", "reduce", "reduce_gaussian"]
