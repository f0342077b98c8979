"""Groups of subjects: effects on their parameters, from their posteriors or from all data."""

from bayesdcm.group.effects import GroupEffects, peb
from bayesdcm.group.effects_comparison import EffectsComparison
from bayesdcm.group.effects_reduction import EffectsSearch
from bayesdcm.group.empirical_bayes import EmpiricalBayes, empirical_bayes
from bayesdcm.group.gaussian_effects import ReducedEffects
from bayesdcm.group.group_fit import GroupDiagnosis, GroupFit, load_group
from bayesdcm.group.hierarchy import Hierarchy
from bayesdcm.group.hierarchy_results import compare_with_peb, relabel
from bayesdcm.group.leave_one_out import leave_one_out
from bayesdcm.group.many_fits import fit_group
from bayesdcm.group.reestimation import Reestimation, reestimate

__all__ = [
    "EffectsComparison",
    "EffectsSearch",
    "EmpiricalBayes",
    "GroupDiagnosis",
    "GroupEffects",
    "GroupFit",
    "Hierarchy",
    "ReducedEffects",
    "Reestimation",
    "compare_with_peb",
    "empirical_bayes",
    "fit_group",
    "leave_one_out",
    "load_group",
    "peb",
    "reestimate",
    "relabel",
]
