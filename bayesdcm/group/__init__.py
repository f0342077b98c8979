"""Groups of subjects: effects on their parameters, from their posteriors or from all data."""

from bayesdcm.group.effects import GroupEffects, peb
from bayesdcm.group.effects_comparison import EffectsComparison
from bayesdcm.group.effects_reduction import EffectsSearch
from bayesdcm.group.empirical_bayes import EmpiricalBayes, empirical_bayes
from bayesdcm.group.gaussian_effects import ReducedEffects
from bayesdcm.group.hierarchy import Hierarchy
from bayesdcm.group.hierarchy_results import compare_with_peb, relabel
from bayesdcm.group.leave_one_out import leave_one_out
from bayesdcm.group.reestimation import Reestimation, reestimate

__all__ = [
    "EffectsComparison",
    "EffectsSearch",
    "EmpiricalBayes",
    "GroupEffects",
    "Hierarchy",
    "Reestimation",
    "ReducedEffects",
    "compare_with_peb",
    "empirical_bayes",
    "leave_one_out",
    "peb",
    "reestimate",
    "relabel",
]
