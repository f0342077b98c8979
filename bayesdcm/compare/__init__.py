"""Comparison of fits, and of models nested in a fitted one.

The subpackage is a function, too: ``bayesdcm.compare(fits)`` is `bayesdcm.compare.compare`.
"""

import sys
from types import ModuleType

from bayesdcm.compare.bridge import bridge_sampling
from bayesdcm.compare.comparison import compare
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
from bayesdcm.compare.stacking import StackedModes, stack_modes, stacking_weights
from bayesdcm.compare.thermodynamic import thermodynamic_integration

__all__ = [
    "Evidence",
    "Frequencies",
    "GaussianSearch",
    "Reduced",
    "ReducedFit",
    "ReducedSearch",
    "StackedModes",
    "bridge_sampling",
    "compare",
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
    "stack_modes",
    "stacking_weights",
    "thermodynamic_integration",
]


class _CallableSubpackage(ModuleType):
    """A subpackage that can be called.

    Its name is also the best name for what it is there for, as ArviZ users know it.
    Were `compare` bound to the function instead, ``bayesdcm.compare.reduce`` and its like would
    be lost, or found or not depending on what had been imported before.
    """

    __call__ = staticmethod(compare)


sys.modules[__name__].__class__ = _CallableSubpackage
