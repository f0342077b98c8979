"""Comparison of fits."""

from bayesdcm.compare.posteriors import compare_posteriors

__all__ = ["compare_posteriors"]
